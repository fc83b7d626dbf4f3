//! The table: item, state, and what there is to say, in 80 columns.

use crate::{
    bpf::caps::{Caps, Group, Item, Support, Verdict},
    view::text::{safe, wrap},
};

const WIDTH: usize = 80;
/// Where the state and the words begin.
const STATE: usize = 24;
const WORDS: usize = 33;

/// Text with its end of line.
pub(super) fn render(caps: &Caps, verdict: &Verdict, color: bool) -> String {
    let host = &caps.host;
    let cpus = format!("{} of {} CPUs online", host.cpus_online, host.cpus_possible);
    let mut lines = vec![safe(&format!("{}  {}  {cpus}", host.kernel, host.cpu), false)];
    let mut group: Option<Group> = None;
    for item in &caps.items {
        if group != Some(item.group) {
            lines.push(String::new());
            lines.push(paint(item.group.title(), BOLD, color));
            group = Some(item.group);
        }
        lines.extend(row(item, color));
    }
    lines.push(String::new());
    lines.extend(conclusion(caps, verdict, color));
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn row(item: &Item, color: bool) -> Vec<String> {
    let mut words = Vec::new();
    for text in
        [Some(item.detail.as_str()), item.support.why()].into_iter().flatten().filter(|t| !t.is_empty())
    {
        words.extend(wrap(&safe(text, false), WIDTH - WORDS));
    }
    words.extend(item.support.remedy().into_iter().flat_map(|remedy| arrow(remedy, WIDTH - WORDS)));
    let state = item.support.word();
    let gap = " ".repeat(WORDS - STATE - state.len());
    let first = words.first().cloned().unwrap_or_default();
    let head = format!(
        "  {:width$}{}{gap}{first}",
        item.title,
        paint(state, shade(&item.support), color),
        width = STATE - 2
    );
    std::iter::once(head).chain(words.iter().skip(1).map(|line| format!("{:WORDS$}{line}", ""))).collect()
}

fn conclusion(caps: &Caps, verdict: &Verdict, color: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |lead: &str, why: &str, remedy: &str| {
        lines.extend(wrap(&format!("{lead}{}", safe(why, false)), WIDTH - 2));
        lines.extend(arrow(remedy, WIDTH - 2));
    };
    let answer = match verdict {
        Verdict::Runs { source } => {
            if let Some(fires) = caps.get("fires").filter(|fires| fires.support != Support::Full) {
                tell(
                    "but kvm_exit was not seen to fire: ",
                    fires.support.why().unwrap_or_default(),
                    fires.support.remedy().unwrap_or_default(),
                );
            }
            format!("{}, source {}", paint("yes", GREEN, color), source.name())
        }
        Verdict::Blocked(blockers) => {
            for blocker in blockers {
                tell("", &blocker.why, &blocker.remedy);
            }
            paint("no", RED, color)
        }
    };
    let head = format!("kvm-utils exits can run here: {answer}");
    std::iter::once(head).chain(lines.iter().map(|line| format!("  {line}"))).collect()
}

/// A remedy, wrapped.
fn arrow(remedy: &str, width: usize) -> Vec<String> {
    let lines = wrap(&safe(remedy, false), width - 3);
    lines
        .iter()
        .enumerate()
        .map(|(n, line)| format!("{}{line}", if n == 0 { "-> " } else { "   " }))
        .collect()
}

/// SGR parameters, ECMA-48 8.3.117.
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const PLAIN: &str = "0";

fn shade(support: &Support) -> &'static str {
    match support {
        Support::Full => GREEN,
        Support::Degraded { .. } | Support::Unknown { .. } => YELLOW,
        Support::No { .. } => RED,
        Support::Unneeded { .. } => PLAIN,
    }
}

fn paint(text: &str, sgr: &str, color: bool) -> String {
    if color { format!("\u{1b}[{sgr}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bpf::caps::Answers, host::SysRoot};

    #[test]
    fn every_line_fits_and_colours_change_nothing_else() {
        let empty = tempfile::tempdir().expect("temporary directory");
        let caps = Caps::assess(&SysRoot::at(empty.path()), &Answers::refused(libc::EPERM));
        let plain = render(&caps, &caps.exits(), false);
        for line in plain.lines() {
            assert!(line.len() <= WIDTH && line.is_ascii(), "{line}");
        }
        let mut bare = render(&caps, &caps.exits(), true);
        assert!(bare.contains('\u{1b}'));
        for sgr in [BOLD, RED, GREEN, YELLOW, PLAIN] {
            bare = bare.replace(&format!("\u{1b}[{sgr}m"), "");
        }
        assert_eq!(bare, plain);
        assert!(plain.contains("  /dev/kvm              limited  there is none;"), "{plain}");
    }
}
