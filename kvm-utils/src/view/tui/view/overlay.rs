//! What lies over the table when it is asked for.

use ratatui_core::style::Style;

use super::{Look, sentences};
use crate::view::{
    table::words,
    text,
    tui::state::{KEYS, State},
};

/// Keys, and what they do.
const HELP: [(&str, &str); 14] = [
    ("Enter, Right, l", "open: VM, its vCPUs, reasons of exits, what tells more about one"),
    ("Left, Esc, h", "back"),
    ("Up Down, j k", "select; PgUp PgDn, Home End, g G"),
    ("Tab, Shift-Tab", "next drill-down that runs, or the one before"),
    ("s or >, <", "sort by the next column, or the one before; also by columns with no room"),
    ("r", "turn the order round"),
    ("/", "show only what has a text in it; also a VM's pid, UUID, pod or unit"),
    ("p, Space", "hold the screen still; tracing goes on"),
    ("a", "start the drill-down that is shown, where it does not run"),
    ("i", "proofs, doubts, hints and notes of all that runs"),
    ("Ctrl-L", "draw the screen anew"),
    ("Ctrl-Z", "give the terminal back for a while; fg goes on"),
    ("?, F1", "this"),
    ("q, Ctrl-C", "end with a summary of the whole run"),
];

/// What the numbers are.
const MEANING: [&str; 6] = [
    "Numbers are of the last interval; curves of the last 240 intervals, each place the greatest of those it stands for.",
    "IN EXITS is the share of the vCPUs' wall time in exits other than HLT; WAITING is that in HLT.",
    "p50 and p99 are durations of exits other than HLT, within 3.1 %.",
    "WHERE TIME GOES is all of the vCPUs' time: G the guest's code, K KVM, V the VMM in user space, P polling for the end of a halt, I halted, S waiting for a CPU of the host (steal), O blocked elsewhere.",
    "What is selected stays selected when rows change places. If it is missing in an interval it is shown without numbers.",
    "The line proof holds our count beside KVM's own; what is red is in doubt, and i tells why.",
];

/// The help.
pub fn help(width: u16) -> Vec<(String, Style)> {
    const KEY: usize = 17;
    let wide = usize::from(width);
    let mut lines = vec![("Keys".to_owned(), Look::BOLD)];
    let labelled = |lines: &mut Vec<(String, Style)>, key: &str, text: &str| {
        for (index, part) in text::wrap(text, wide.saturating_sub(KEY)).into_iter().enumerate() {
            let key = if index == 0 { key } else { "" };
            lines.push((format!("{key:KEY$}{part}"), Look::PLAIN));
        }
    };
    for (key, does) in HELP {
        labelled(&mut lines, key, does);
    }
    let numbers = KEYS.map(|(key, nouns)| format!("{key} {}", nouns.join("/")));
    labelled(&mut lines, "1 to 9, 0", &numbers.join("  "));
    lines.push((String::new(), Look::PLAIN));
    lines.push(("What it shows".to_owned(), Look::BOLD));
    for sentence in MEANING {
        lines.extend(text::wrap(sentence, wide).into_iter().map(|text| (text, Look::PLAIN)));
    }
    lines
}

/// Everything that is to be said beside the numbers.
pub fn notes(state: &State, look: Look, width: u16) -> Vec<(String, Style)> {
    let wide = usize::from(width);
    let style = sentences(look, wide);
    let mut lines = Vec::new();
    for report in state.data().reports() {
        let what = format!("{} ({}, kernel {})", report.noun, report.proof.source, report.host.kernel);
        lines.push((text::cut(&text::safe(&what, look.unicode), wide, look.unicode), Look::BOLD));
        let parts = words::proof(report, &style, false).into_iter().chain(words::advice(report, &style));
        lines.extend(parts.map(|line| (line.text().to_owned(), look.paint(line.paint()))));
        lines.push((String::new(), Look::PLAIN));
    }
    for offer in state.offers() {
        if let Some(failure) = &offer.failure {
            lines.push((format!("{} could not be started", offer.noun), Look::BOLD));
            let failure = text::safe(failure, look.unicode);
            lines.extend(text::wrap(&failure, wide).into_iter().map(|text| (text, Look::PLAIN)));
        }
    }
    if lines.is_empty() {
        lines.push(("there are no numbers yet".to_owned(), Look::PLAIN));
    }
    lines
}
