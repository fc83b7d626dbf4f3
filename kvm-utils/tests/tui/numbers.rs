//! The screen shows the same numbers as the table of the same report.

use kvm_utils::view::table::{By, Style, render};

use crate::screen::Screen;

/// The words of a line.
fn words(line: &str) -> Vec<&str> {
    line.trim_start_matches('>').split_whitespace().collect()
}

#[test]
fn rows_are_those_of_the_table() {
    for (size, width) in [((80, 30), 78), ((120, 40), 118), ((200, 50), 198)] {
        for noun in ["exits", "io", "msr", "time"] {
            let mut screen = Screen::new(size, &["exits", "time", "io", "msr"], 3);
            screen.types("/db\r\r\r");
            if noun != "exits" {
                screen.types(match noun {
                    "io" => "3",
                    "msr" => "4",
                    _ => "2",
                });
            }
            let report = screen.state.data().report(noun).unwrap().clone();
            let mut only = report.clone();
            only.vms.retain(|vm| vm.name == "db");
            let style = Style { width: Some(width), height: None, color: false, unicode: true, by: By::Vm };
            let table = render(&only, &style);
            let shown = screen.text();
            let mut compared = 0;
            let titles = |line: &&str| !line.contains("COUNT") && !line.contains("GUEST");
            let rows = table.lines().skip_while(titles).skip(1);
            for row in rows.take_while(|line| !line.starts_with("proof")) {
                let of_table = words(row);
                // Sentences below rows are elsewhere on the screen.
                if row.starts_with("   ") {
                    continue;
                }
                let found =
                    shown.lines().find(|line| words(line).starts_with(&of_table[..of_table.len().min(2)]));
                let Some(line) = found else { continue };
                let of_screen = words(line);
                // Bars and curves may take the place of the least important columns.
                let common = of_table.iter().filter(|word| of_screen.contains(word)).count();
                assert!(common + 3 >= of_table.len(), "{noun}: {row}\n{line}");
                assert_eq!(of_screen[1], of_table[1], "{noun}: {row}\n{line}");
                compared += 1;
            }
            assert!(compared >= 2, "{noun} {size:?}:\n{table}\n{shown}");
        }
    }
}
