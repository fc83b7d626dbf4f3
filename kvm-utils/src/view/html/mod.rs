//! A recorded run as one page to look at: pictures over time, tables, and the proof.
//!
//! The page is whole in itself: it loads nothing, and its policy forbids it to. Everything can be read without its
//! script, which shows values under the pointer, one VM instead of all, and one kind of exit in the heat map; it draws by
//! the same rules as the code here, and tests hold both against each other. What comes from a host or a guest is text in
//! the page, never markup ([`markup`]); names that the script writes are made safe before they reach it.
//!
//! Its size is bounded: columns of time, VMs with pictures of their own and rows are limited, and the page says so where
//! something was left out.

mod columns;
mod figures;
mod head;
mod heat;
mod kinds;
mod ledger;
mod markup;
mod scopes;
mod stack;
mod tables;

use std::time::UNIX_EPOCH;

use serde::Serialize;

use crate::model::{History, Report, Row};
use crate::view::{sentences, table::rows_of, text, units};
use columns::Columns;
use figures::About;
use heat::Heat;
use kinds::Layout;
use ledger::Ledger;
use markup::Markup;
use scopes::Scopes;
use stack::Stack;

/// Columns of rates at most.
const COLUMNS: usize = 600;
/// Columns of a heat map at most.
const HEAT_COLUMNS: usize = 240;
/// VMs times columns of what is drawn for one VM are no more than this.
const COLUMNS_OF_VMS: usize = 2_400;
/// VMs listed.
const VMS: usize = 200;

/// The page's script, whose digest is in its policy.
const SCRIPT: &str = include_str!("script.js");
const STYLE: &str = include_str!("style.css");

/// What the script knows of a drill-down.
#[derive(Serialize)]
struct Noun {
    noun: &'static str,
    one: &'static str,
    many: &'static str,
    /// When the first interval began, ms since 1970.
    start: Option<u64>,
    columns: Vec<Columns>,
    stack: Option<Stack>,
    heat: Option<Heat>,
    ledger: Option<Ledger>,
}

/// All that the script knows.
#[derive(Serialize)]
struct Data {
    scopes: Vec<String>,
    nouns: Vec<Noun>,
}

/// The page for what was recorded, a history for each drill-down; the first is the one that names and sums stand for.
///
/// # Errors
///
/// serde_json's; the types here give it no cause for any.
pub fn page(histories: &[History]) -> serde_json::Result<String> {
    let scopes = Scopes::new(histories);
    let data = Data { scopes: names(histories, &scopes), nouns: nouns(histories, &scopes) };
    let mut out = Markup::default();
    out.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    out.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src '");
    out.raw(env!("KVM_UTILS_SCRIPT_HASH")).raw("'; base-uri 'none'; form-action 'none'\">\n");
    out.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"referrer\" content=\"no-referrer\">");
    out.raw("<meta name=\"color-scheme\" content=\"light dark\"><meta name=\"generator\"");
    out.attr("content", &format!("kvm-utils {}", kvm_bench::VERSION)).raw(">\n<title>");
    out.text(&head::subject(histories))
        .raw(" - kvm-utils report</title>\n<style>")
        .raw(STYLE)
        .raw("</style></head>\n<body>");
    head::header(&mut out, histories);
    if !histories.is_empty() {
        head::verdict(&mut out, histories);
    }
    toolbar(&mut out, histories, &data);
    out.raw("<main>");
    if let (Some(history), Some(noun)) = (histories.first(), data.nouns.first()) {
        vms(&mut out, &history.whole, noun, &scopes);
    }
    for (i, (history, noun)) in histories.iter().zip(&data.nouns).enumerate() {
        section(&mut out, history, noun, i, &scopes, &data.scopes);
    }
    facts(&mut out, histories);
    out.raw("</main><footer><p>").text(&format!("Made by kvm-utils {}.", kvm_bench::VERSION));
    out.raw(" Percentiles are within 3.1 %; a line of the heat map is a third of a power of two high.</p></footer>\n");
    out.raw("<script type=\"application/json\" id=\"data\">").json(&data)?.raw("</script>\n<script>");
    out.raw(SCRIPT).raw("</script></body></html>\n");
    Ok(out.finish())
}

/// What scopes are called.
fn names(histories: &[History], scopes: &Scopes) -> Vec<String> {
    let first = histories.first().map(|history| history.whole.vms.as_slice()).unwrap_or_default();
    let all = match first {
        [only] if scopes.all == 1 => only.name.clone(),
        _ => "all VMs".to_owned(),
    };
    let mut names = vec![text::safe(&all, true); scopes.len()];
    for vm in histories.iter().flat_map(|history| &history.whole.vms) {
        if let Some(scope) = scopes.of(vm) {
            let name = format!("{} ({})", vm.name, sentences::process(vm));
            names[scope] = text::safe(&name, true);
        }
    }
    names
}

fn nouns(histories: &[History], scopes: &Scopes) -> Vec<Noun> {
    let of_vm = |most: usize| match scopes.len() - 1 {
        0 => 1,
        vms => (COLUMNS_OF_VMS / vms).clamp(60, most),
    };
    let noun = |history: &History| {
        let intervals = &history.intervals;
        let mut columns: Vec<Columns> = [COLUMNS, of_vm(COLUMNS), HEAT_COLUMNS, of_vm(HEAT_COLUMNS)]
            .into_iter()
            .map(|most| Columns::new(intervals, most))
            .collect();
        let ledger = ledger::ledger(history, scopes, columns.len());
        let begin = intervals.first().and_then(|first| first.time.checked_sub(first.interval));
        let begin = begin.and_then(|begin| begin.duration_since(UNIX_EPOCH).ok());
        let stack = stack::stack(history, scopes, [&columns[0], &columns[1]]);
        let heat = heat::heat(history, scopes, [&columns[2], &columns[3]], 2);
        let ledger = ledger.map(|(ledger, own)| {
            columns.push(own);
            ledger
        });
        Noun {
            noun: history.whole.noun,
            one: history.whole.counting.0,
            many: history.whole.counting.1,
            start: begin.and_then(|begin| u64::try_from(begin.as_millis()).ok()),
            columns,
            // Its events are told elsewhere: here it is about time.
            stack: stack.filter(|_| ledger.is_none()),
            heat,
            ledger,
        }
    };
    histories.iter().map(noun).collect()
}

/// What can be chosen for the whole page; the script shows it, as nothing can be chosen without.
fn toolbar(out: &mut Markup, histories: &[History], data: &Data) {
    out.raw("<nav class=\"toolbar\"><label class=\"scope\" hidden><span>Show</span> <select id=\"scope\">");
    for (i, name) in data.scopes.iter().enumerate() {
        out.raw("<option").attr("value", &i.to_string()).raw(">").text(name).raw("</option>");
    }
    out.raw("</select></label><ul>");
    for history in histories {
        let noun = history.whole.noun;
        out.raw("<li><a").attr("href", &format!("#{noun}")).raw(">").text(noun).raw("</a></li>");
    }
    out.raw("</ul></nav>");
}

/// The VMs, if there are several.
fn vms(out: &mut Markup, whole: &Report, noun: &Noun, scopes: &Scopes) {
    if whole.vms.len() < 2 {
        return;
    }
    let seconds = whole.interval.as_secs_f64();
    let most = whole.vms.iter().map(|vm| vm.events).max().unwrap_or(0).max(1);
    out.raw("<section id=\"vms\"><h2>VMs</h2><div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"VMs\"><table class=\"rows vms\"><thead><tr>");
    out.raw("<th scope=\"col\">VM</th><th scope=\"col\">PROCESS</th><th scope=\"col\" class=\"n\" data-id=\"vcpus\">vCPUS</th><th scope=\"col\" class=\"n\" data-id=\"count\">");
    out.text(&whole.counting.1.to_uppercase())
        .raw("</th><th scope=\"col\" class=\"n\" data-id=\"rate\">/s</th>");
    out.raw("<th scope=\"col\">OVER TIME</th><th scope=\"col\" class=\"n\" data-id=\"busy\">TIME IN EXITS</th><th scope=\"col\" class=\"n\" data-id=\"waiting\">WAITING</th></tr></thead>");
    for vm in whole.vms.iter().take(VMS) {
        let scope = scopes.of(vm);
        out.raw("<tbody><tr><th scope=\"row\">");
        if let Some(scope) = scope {
            out.raw("<a").attr("data-scope", &scope.to_string());
            out.attr("href", &format!("#{}-vm-{scope}", whole.noun)).raw(">").text(&vm.name).raw("</a>");
        } else {
            out.text(&vm.name);
        }
        let mut process = sentences::process(vm);
        process.push_str(if vm.ended { ", ended" } else { "" });
        out.raw("</th><td>").text(&process).raw("</td>");
        let vcpus = vm.vcpus.iter().filter(|vcpu| !vcpu.others).count();
        let rate = vm.events as f64 / seconds;
        number(out, &vcpus.to_string(), &units::count(vcpus as u64), None);
        number(out, &vm.events.to_string(), &units::count(vm.events), Some(vm.events as f64 / most as f64));
        number(out, &format!("{rate:?}"), &units::rate(rate), None);
        out.raw("<td class=\"over\">");
        if let (Some(stack), Some(scope)) = (&noun.stack, scope) {
            figures::spark(out, stack, scope, &noun.columns);
        }
        out.raw("</td>");
        for share in [vm.busy_share, vm.waiting_share] {
            let exact = share.filter(|share| share.is_finite());
            let text = share.map_or_else(|| units::UNKNOWN.to_owned(), |share| units::percent(share, ""));
            number(out, &exact.map(|share| format!("{share:?}")).unwrap_or_default(), &text, None);
        }
        out.raw("</tr></tbody>");
    }
    out.raw("</table></div>");
    if whole.vms.len() > VMS {
        let more = units::counted((whole.vms.len() - VMS) as u64, "more VM", "more VMs");
        out.raw("<p class=\"more\">… ").text(&more).raw("</p>");
    }
    if scopes.all > scopes::MOST {
        let sentence = format!(
            "The {} busiest VMs have pictures and tables of their own; the others are in the sums.",
            scopes::MOST
        );
        out.raw("<p class=\"more\">").text(&sentence).raw("</p>");
    }
    out.raw("</section>");
}

fn number(out: &mut Markup, exact: &str, text: &str, bar: Option<f64>) {
    out.raw("<td").attr("class", if bar.is_some() { "n bar" } else { "n" }).attr("data-v", exact);
    if let Some(share) = bar {
        out.attr("style", &format!("--share:{:.1}%", share * 100.0));
    }
    out.raw(">").text(text).raw("</td>");
}

/// A drill-down.
fn section(
    out: &mut Markup,
    history: &History,
    noun: &Noun,
    number: usize,
    scopes: &Scopes,
    names: &[String],
) {
    let whole = &history.whole;
    out.raw("<section class=\"noun\"")
        .attr("id", noun.noun)
        .raw("><h2>")
        .text(noun.noun)
        .raw("</h2><p class=\"sum\">");
    out.text(&sentences::events(whole.events, whole)).raw("</p>");
    head::proof(out, whole);
    let whose = names.first().map_or("", String::as_str);
    let about = About { noun: number, counting: whole.counting, whose, intervals: history.intervals.len() };
    if history.intervals.is_empty() {
        out.raw("<p class=\"more\">There are no intervals to draw, only the whole run.</p>");
    } else {
        let layout = Layout::of(whole.columns);
        let by = layout.filter(|_| !whole.one_row).map(|layout| layout.by(whole.columns)).unwrap_or_default();
        if let Some(stack) = &noun.stack {
            let columns = &noun.columns[0];
            let mut doubts = vec![false; columns.len()];
            for (i, doubtful) in head::doubtful(history).into_iter().enumerate() {
                doubts[columns.of(i)] |= doubtful;
            }
            figures::rates(out, &about, &by, stack, columns, &doubts);
        }
        if let Some(heat) = &noun.heat {
            figures::heat(out, &about, heat, &noun.columns[2]);
        }
        if let (Some(ledger), Some(columns)) = (&noun.ledger, noun.columns.last()) {
            figures::ledger(out, &about, ledger, columns, whole);
        }
    }
    let single = if scopes.len() == 1 { whole.vms.as_slice() } else { &[] };
    out.raw("<div class=\"of\" data-scope=\"0\">");
    tables::classes(out, whole, &whole.totals);
    let rows: Vec<&Row> = match single {
        [only] => rows_of(only, whole).collect(),
        _ => whole.totals.iter().collect(),
    };
    if rows.is_empty() {
        out.raw("<p>").text(&sentences::nothing(whole)).raw("</p>");
    } else {
        tables::table(out, whole, &rows, tables::ROWS, &format!("{}, {whose}", noun.noun));
    }
    out.raw("</div>");
    for (scope, name) in names.iter().enumerate().skip(1) {
        let vms: Vec<_> = scopes.vms(whole, scope).collect();
        if vms.is_empty() {
            continue;
        }
        out.raw("<details class=\"of\"").attr("data-scope", &scope.to_string());
        out.attr("id", &format!("{}-vm-{scope}", noun.noun)).raw("><summary>").text(name).raw("</summary>");
        for vm in vms {
            out.raw("<p class=\"facts\">");
            for fact in
                [Some(head::about(vm)), Some(sentences::events(vm.events, whole)), sentences::shares(vm)]
                    .iter()
                    .flatten()
            {
                out.raw("<span>").text(fact).raw("</span> ");
            }
            out.raw("</p>");
            tables::classes(out, whole, &vm.rows);
            let rows: Vec<&Row> = rows_of(vm, whole).collect();
            tables::table(out, whole, &rows, tables::ROWS_OF_VM, &format!("{}, {}", noun.noun, vm.name));
        }
        out.raw("</details>");
    }
    out.raw("</section>");
}

/// On what it ran.
fn facts(out: &mut Markup, histories: &[History]) {
    let facts = histories.first().map(|history| &history.fingerprint.facts);
    let Some(facts) = facts.filter(|facts| !facts.is_empty()) else { return };
    out.raw("<section id=\"facts\"><details><summary>On what it ran</summary><dl>");
    for (name, value) in facts {
        out.raw("<dt>").text(name).raw("</dt><dd>").text(value).raw("</dd>");
    }
    out.raw("</dl></details></section>");
}
