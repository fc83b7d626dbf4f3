//! What the page shows and what its script does with it are the numbers of the run.

use std::{collections::BTreeSet, fs};

use kvm_utils::model::{Cell, Report, Row};
use kvm_utils::view::units;
use serde_json::Value;

use super::{
    chromium::Chromium,
    harness::{Outcome, Test},
    pages::{self, Pages},
};

pub const TESTS: &[Test] = &[
    ("numbers::the_script_writes_numbers_as_the_tables_do", formats),
    ("numbers::the_script_draws_what_the_page_had", redrawn),
    ("numbers::the_page_shows_them_with_and_without_its_script", shown),
    ("numbers::one_vm_is_chosen_by_keyboard_and_by_link", chosen),
    ("numbers::pointer_and_arrow_keys_tell_an_intervals_numbers", followed),
    ("numbers::a_table_is_sorted_by_a_click", sorted),
];

fn formats() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    browser.open(&file.write("one", pages::one()));
    let mut values: Vec<f64> =
        vec![0.0, 0.05, 0.25, 0.35, 7.25, 9.95, 99.5e9, 999.5, 3_599.6e9, 1e15, 1.8e19, 2.5, 0.125];
    // All magnitudes, and what lies exactly between two.
    for power in -6..20 {
        for step in 0..400 {
            values.push((1.0 + f64::from(step) * 0.02375) * 10_f64.powi(power));
            values.push(f64::from(step) * 0.25 * 2_f64.powi(power));
        }
    }
    values.retain(|value| *value < u64::MAX as f64);
    let given = serde_json::to_string(&values).unwrap();
    let script = format!(
        "{given}.map((v) => [kvmUtilsReport.rate(v), kvmUtilsReport.percent(v, ' '), kvmUtilsReport.duration(v), \
         kvmUtilsReport.count(Math.floor(v))])"
    );
    let written = browser.evaluate(&script);
    let written = written.as_array().unwrap();
    assert_eq!(written.len(), values.len());
    for (value, written) in values.iter().zip(written) {
        let expected = [
            units::rate(*value),
            units::percent(*value, " "),
            units::duration(*value),
            units::count(*value as u64),
        ];
        assert_eq!(*written, Value::from(expected.to_vec()), "{value}");
    }
    Ok(())
}

/// The `d` of all paths of a page as it was written.
fn outlines(page: &str) -> Vec<String> {
    let figures = page.split("<figure").skip(1).map(|figure| figure.split("</figure>").next().unwrap());
    let paths = figures.flat_map(|figure| figure.split("<path").skip(1));
    paths.map(|path| path.split(" d=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()).collect()
}

fn redrawn() -> Outcome {
    let mut browser = Chromium::start()?;
    let pages = Pages::new();
    for (name, histories) in [("one", pages::one()), ("several", pages::several()), ("many", pages::many())] {
        let file = pages.write(name, histories);
        let written = outlines(&fs::read_to_string(&file).unwrap());
        assert!(written.iter().filter(|d| d.len() > 100).count() > 10, "{name}");
        browser.open(&file);
        let paths = "[...document.querySelectorAll('figure path')].map((path) => path.getAttribute('d'))";
        browser.evaluate("kvmUtilsReport.choose(Math.min(1, kvmUtilsReport.data.scopes.length - 1))");
        let other = browser.evaluate(paths);
        browser.evaluate("kvmUtilsReport.choose(0)");
        let drawn = browser.evaluate(paths);
        for (i, (written, drawn)) in written.iter().zip(drawn.as_array().unwrap()).enumerate() {
            assert_eq!(Some(written.as_str()), drawn.as_str(), "{name}: path {i}");
        }
        assert_eq!(drawn.as_array().unwrap().len(), written.len());
        assert_eq!(other == drawn, name == "one", "{name}");
    }
    Ok(())
}

/// The texts of a row's numbers.
fn texts(report: &Report, row: &Row) -> Vec<String> {
    let shown = report.columns.iter().zip(&row.cells).filter(|(column, cell)| {
        column.importance.is_some() && !matches!(cell, Cell::List(list) if list.is_empty())
    });
    shown
        .map(|(column, cell)| {
            if row.waiting && column.id == "time_share" {
                "-".to_owned()
            } else {
                units::cell(cell, column.unit)
            }
        })
        .collect()
}

/// The cells of a table, row by row, without the words that mark a waiting row.
fn table(browser: &mut Chromium, selector: &str) -> Vec<Vec<String>> {
    let script = format!(
        "[...document.querySelectorAll(`{selector} tbody tr`)].map((row) => [...row.cells].map((cell) => \
         cell.innerText.replace(/\\s*\\(waiting\\)$/, '')))"
    );
    let rows = browser.evaluate(&script);
    serde_json::from_value(rows).unwrap()
}

fn shown() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    let file = file.write("one", pages::one());
    for script in [true, false] {
        browser.ask("Emulation.setScriptExecutionDisabled", &serde_json::json!({"value": !script}));
        browser.open(&file);
        let text = browser.text("document.body.innerText");
        for history in pages::one() {
            let whole = &history.whole;
            let rows = table(&mut browser, &format!("#{} table.rows", whole.noun));
            let vm = &whole.vms[0];
            let each = if whole.one_row { vm.vcpus.as_slice() } else { &[] };
            let expected = each.iter().flat_map(|vcpu| &vcpu.rows).chain(&vm.rows);
            let expected: Vec<Vec<String>> = expected.map(|row| texts(whole, row)).collect();
            assert_eq!(rows, expected, "{}", whole.noun);
            let events = units::count(whole.events);
            assert!(text.contains(&events), "no {events}");
        }
        // The pictures are there, too.
        let seen = "[...document.querySelectorAll('figure .plot svg')].filter((svg) => svg.getBoundingClientRect().height > 20 && \
                    [...svg.querySelectorAll('path')].some((path) => path.getBBox().width > 1000)).length";
        assert_eq!(browser.number(seen), 5.0, "script: {script}");
        // What needs the script is not offered without.
        let offered = "[...document.querySelectorAll('select')].filter((s) => s.checkVisibility() && !s.disabled).length";
        assert_eq!(browser.number(offered) > 0.0, script);
    }
    Ok(())
}

/// The numbers of a picture's legend by name.
fn legend(browser: &mut Chromium, noun: &str) -> Vec<(String, String, String)> {
    let script = format!(
        "[...document.querySelectorAll('#{noun} .legend tbody tr:not([hidden])')].map((row) => \
         [...row.cells].map((cell) => cell.innerText.trim().replace(/\\s*\\(waiting\\)$/, '')))"
    );
    serde_json::from_value(browser.evaluate(&script)).unwrap()
}

fn chosen() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    browser.open(&file.write("several", pages::several()));
    let exits = &pages::several()[0].whole;
    let visible = "[...document.querySelectorAll('.of')].filter((part) => part.checkVisibility()).map((part) => part.dataset.scope).join()";
    assert_eq!(browser.text(visible), "0,0,0");
    for (i, vm) in exits.vms.iter().enumerate() {
        if i == 2 {
            browser.evaluate(&format!("document.querySelector('#vms a[data-scope=\"{}\"]').click()", i + 1));
        } else {
            browser.evaluate("document.getElementById('scope').focus()");
            if i == 3 {
                browser.evaluate("kvmUtilsReport.choose(3)");
            }
            browser.key("ArrowDown");
        }
        let scope = (i + 1).to_string();
        assert_eq!(browser.text(visible), [scope.as_str(); 3].join(","), "{}", vm.name);
        let whose = browser.text(
            "[...new Set([...document.querySelectorAll('.whose')].map((w) => w.textContent))].join('|')",
        );
        assert_eq!(whose, format!("{} (qemu {})", vm.name, vm.pid));
        let rows = table(&mut browser, &format!("#exits-vm-{scope} table.rows"));
        let expected: Vec<_> = vm.rows.iter().map(|row| texts(exits, row)).collect();
        assert_eq!(rows, expected);
        // The legend has this VM's numbers, and they add up.
        let legend = legend(&mut browser, "exits");
        for (name, count, rate) in legend.iter().filter(|(name, ..)| !name.starts_with('(')) {
            let row = vm.rows.iter().find(|row| row.cells[0] == Cell::Text(name.clone())).unwrap();
            assert_eq!(*count, units::cell(&row.cells[5], exits.columns[5].unit));
            assert_eq!(*rate, units::cell(&row.cells[6], exits.columns[6].unit));
        }
        let sum = browser.text("document.querySelector('#exits .legend tfoot td').textContent");
        assert_eq!(sum, units::count(vm.events));
        let lanes =
            browser.text("[...document.querySelectorAll('.lane .name')].map((n) => n.textContent).join()");
        let vcpus: Vec<String> = (0..vm.vcpus.len()).map(|id| format!("vcpu {id}")).collect();
        assert_eq!(lanes, vcpus.join(","));
    }
    Ok(())
}

fn followed() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    browser.open(&file.write("one", pages::one()));
    let exits = &pages::one()[0];
    let expected = |interval: usize| {
        let report = &exits.intervals[interval];
        let count = |name: &str| {
            let row = report.totals.iter().find(|row| row.cells[0] == Cell::Text(name.to_owned()));
            match row.map(|row| &row.cells[5]) {
                Some(Cell::Number(n)) => *n,
                _ => 0,
            }
        };
        move |(name, n, rate): &(String, String, String)| {
            if name.starts_with('(') {
                return;
            }
            assert_eq!(*n, units::count(count(name)), "{name} of interval {interval}");
            assert_eq!(*rate, units::rate(count(name) as f64 / report.interval.as_secs_f64()), "{name}");
        }
    };
    let intervals = exits.intervals.len();
    let area = |browser: &mut Chromium, side: &str| {
        browser.evaluate("document.querySelector('#exits .stack .area').scrollIntoView({block: 'center'})");
        browser
            .number(&format!("document.querySelector('#exits .stack .area').getBoundingClientRect().{side}"))
    };
    let (left, width) = (area(&mut browser, "left"), area(&mut browser, "width"));
    let y = area(&mut browser, "top") + area(&mut browser, "height") / 2.0;
    for interval in [0, 17, 100, intervals - 1] {
        browser.point(left + width * (interval as f64 + 0.5) / intervals as f64, y);
        legend(&mut browser, "exits").iter().for_each(expected(interval));
        let when = browser.text("document.querySelector('#exits .when').textContent");
        assert!(when.contains(" UTC"), "{when}");
    }
    browser.point(2.0, 2.0);
    assert_eq!(browser.text("document.querySelector('#exits .when').textContent"), "whole run");

    browser.evaluate("document.querySelector('#exits .stack .plot').focus()");
    browser.key("Home");
    for _ in 0..5 {
        browser.key("ArrowRight");
    }
    browser.key("ArrowLeft");
    legend(&mut browser, "exits").iter().for_each(expected(4));

    // The heat map tells how many there were, waiting apart from work.
    for (choice, waiting) in [("all work", false), ("hlt", true)] {
        browser.evaluate(&format!(
            "{{ const select = document.querySelector('#exits .heat select');
               select.value = [...select.options].find((o) => o.textContent === '{choice}').value;
               select.dispatchEvent(new Event('change'));
               document.querySelector('#exits .heat .plot').focus(); }}"
        ));
        browser.key("Home");
        let of = |row: &&Row| row.waiting == waiting;
        let timed =
            |row: &Row| row.durations.as_ref().map_or(0, |d| d.buckets.iter().map(|(_, n)| n).sum::<u64>());
        let count: u64 = exits.intervals[0].totals.iter().filter(of).map(timed).sum();
        let read = browser.text("document.querySelector('#exits .heat .read').textContent");
        assert!(read.contains(&format!("{} exit", units::count(count))), "{count}: {read}");
        assert_eq!(
            browser.evaluate("document.querySelector('#exits .heat').classList.contains('waits')"),
            waiting
        );
    }

    // The ledger tells shares that are all of the time.
    let time = &pages::one()[1].intervals[0].vms[0].vcpus[1].rows[0];
    browser.evaluate("document.querySelectorAll('.lane .plot')[1].focus()");
    browser.key("Home");
    let read =
        browser.evaluate("[...document.querySelectorAll('.buckets span')].map((share) => share.textContent)");
    let shares: Vec<String> = (1..8).map(|i| units::percent(time.cells[i].number().unwrap(), " ")).collect();
    assert_eq!(read, Value::from(shares));
    Ok(())
}

fn sorted() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    browser.open(&file.write("one", pages::one()));
    let before = table(&mut browser, "#exits table.rows");
    let click = "document.querySelector('#exits table.rows th[data-id=p99_ns] button').click()";
    browser.evaluate(click);
    let exits = &pages::one()[0].whole;
    let mut rows: Vec<&Row> = exits.totals.iter().collect();
    rows.sort_by(|a, b| {
        a.waiting
            .cmp(&b.waiting)
            .then(b.cells[14].number().unwrap().total_cmp(&a.cells[14].number().unwrap()))
    });
    let expected: Vec<_> = rows.iter().map(|row| texts(exits, row)).collect();
    assert_eq!(table(&mut browser, "#exits table.rows"), expected);
    browser.evaluate(click);
    let upwards = table(&mut browser, "#exits table.rows");
    assert_eq!(upwards.last(), expected.last(), "waiting rows stay last");
    let p99 = |row: Option<&Vec<String>>| row.map(|row| row[11].clone());
    assert_eq!(p99(upwards.first()), p99(expected.get(expected.len() - 2)));
    assert_ne!(p99(upwards.first()), p99(expected.first()));
    let names = |rows: &[Vec<String>]| rows.iter().map(|row| row[0].clone()).collect::<BTreeSet<_>>();
    assert_eq!(names(&before), names(&upwards));
    Ok(())
}
