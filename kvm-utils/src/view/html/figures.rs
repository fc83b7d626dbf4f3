//! The pictures as they stand in the page before its script has run, and without it: of all VMs.

use super::{
    columns::{Columns, clock, marks, scale},
    heat::{self, Heat},
    ledger::{self, Ledger},
    markup::Markup,
    stack::{self, HEIGHT, Stack},
};
use crate::model::{Report, Row};
use crate::view::units;

/// Classes of the areas' colours; the last is for what has none of its own.
const AREAS: [&str; stack::MOST + 1] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];
const BUCKETS: [&str; 7] = ["b0", "b1", "b2", "b3", "b4", "b5", "b6"];
const SHADES: [&str; heat::SHADES] = ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7"];

/// Whose numbers the pictures show at first.
pub struct About<'a> {
    /// Number of the drill-down.
    pub noun: usize,
    /// What it counts, one and many.
    pub counting: (&'static str, &'static str),
    /// `all VMs`, or the only VM's name.
    pub whose: &'a str,
}

/// Rates over time.
pub fn rates(
    out: &mut Markup,
    about: &About<'_>,
    by: &str,
    stack: &Stack,
    columns: &Columns,
    doubts: &[bool],
) {
    let Some(Some(counts)) = stack.of.first() else { return };
    let (one, many) = about.counting;
    let title = format!(
        "{} per second{}",
        capital(many),
        if by.is_empty() { String::new() } else { format!(", by {by}") }
    );
    begin(out, about, "stack", &title);
    granularity(out, columns);
    let shown = area_of(counts, stack, stack.names.len() - 1);
    let (step, steps) = scale(stack::highest(counts, columns));
    plot(out, &format!("{title}, over {}; arrow keys move through time", units::interval(columns.total())));
    out.raw("<div class=\"y\">");
    for i in 0..=steps {
        let text = units::rate(f64::from(i) * step);
        out.raw("<span")
            .attr("style", &format!("top:{:.2}%", 100.0 - 100.0 * f64::from(i) / f64::from(steps)));
        out.raw(">").text(&text).raw("</span>");
    }
    out.raw("</div>");
    svg(out, HEIGHT);
    for (path, class) in stack::paths(counts, columns).iter().zip(AREAS) {
        out.raw("<path").attr("class", class).attr("d", path).raw("/>");
    }
    let grid: String = (1..steps).map(|i| format!("M0 {}h10000", HEIGHT * i / steps)).collect();
    out.raw("<path class=\"grid\"").attr("d", &grid).raw("/>");
    let doubtful: String = doubts
        .iter()
        .enumerate()
        .filter(|(_, doubtful)| **doubtful)
        .map(|(i, _)| format!("M{} 0h{}", columns.edges[i], (columns.edges[i + 1] - columns.edges[i]).max(8)))
        .collect();
    if !doubtful.is_empty() {
        out.raw("<path class=\"doubts\"").attr("d", &doubtful).raw("/>");
    }
    out.raw("</svg><i class=\"cursor\"></i></div>");
    time_axis(out, columns.total());
    out.raw("</div>");

    out.raw("<table class=\"legend\"><thead><tr><th scope=\"col\" class=\"when\">whole run</th><th scope=\"col\" class=\"n\">");
    out.text(many).raw("</th><th scope=\"col\" class=\"n\">/s</th></tr></thead><tbody>");
    for (i, name) in stack.names.iter().enumerate() {
        out.raw("<tr");
        if i + 1 == stack.names.len() && !shown {
            out.raw(" hidden");
        }
        out.raw("><th scope=\"row\"><span class=\"name\"><b").attr("class", AREAS[i]).raw("></b>").text(name);
        out.raw(if stack.waiting[i] { " <i>(waiting)</i>" } else { "" });
        out.raw("</span></th><td class=\"n\">")
            .text(&units::count(counts.sums[i]))
            .raw("</td><td class=\"n\">");
        out.text(&units::rate(counts.sums[i] as f64 / counts.seconds)).raw("</td></tr>");
    }
    let sum = counts.sums.iter().fold(0_u64, |sum, n| sum.saturating_add(*n));
    out.raw("</tbody><tfoot><tr><th scope=\"row\">")
        .text(&format!("{many} in all"))
        .raw("</th><td class=\"n\">");
    out.text(&units::count(sum)).raw("</td><td class=\"n\">").text(&units::rate(sum as f64 / counts.seconds));
    out.raw("</td></tr></tfoot></table>");
    if !doubtful.is_empty() {
        out.raw("<p class=\"key\"><b class=\"doubts\"></b>")
            .text(&format!("each {one} counted there is in doubt"));
        out.raw("</p>");
    }
    out.raw("</figure>");
}

/// Whether an area is ever seen.
fn area_of(counts: &stack::Counts, stack: &Stack, area: usize) -> bool {
    let others = stack.of.iter().skip(1).flatten();
    std::iter::once(counts)
        .chain(others)
        .any(|counts| counts.sums[area] > 0 || counts.counts[area].iter().any(|n| *n > 0))
}

/// The latency heat map.
pub fn heat(out: &mut Markup, about: &About<'_>, heat: &Heat, columns: &Columns) {
    let Some(Some(cells)) = heat.of.first() else { return };
    let waiting = heat.waiting[0];
    let title = format!("How long {} took", about.counting.1);
    begin(out, about, if waiting { "heat waits" } else { "heat" }, &title);
    granularity(out, columns);
    out.raw("<p class=\"choose\"><label><span>Show</span> <select disabled>");
    for (waits, label) in [(false, "Work"), (true, "Waiting")] {
        if !heat.waiting.contains(&waits) {
            continue;
        }
        out.raw("<optgroup").attr("label", label).raw(">");
        for (i, name) in heat.names.iter().enumerate().filter(|(i, _)| heat.waiting[*i] == waits) {
            out.raw("<option").attr("value", &i.to_string()).raw(if i == 0 { " selected>" } else { ">" });
            out.text(name).raw("</option>");
        }
        out.raw("</optgroup>");
    }
    out.raw("</select></label></p>");
    plot(out, &format!("{title}: {}, on a logarithmic scale; arrow keys move through time", heat.names[0]));
    let (from, to) = heat.range[usize::from(waiting)];
    let height = heat.log[to] - heat.log[from];
    out.raw("<div class=\"y\">");
    for ns in decades(heat.low[from], heat.low[to]) {
        let above = (ns as f64).log2() * 1000.0 - f64::from(heat.log[from]);
        let top = 100.0 - 100.0 * above / f64::from(height);
        out.raw("<span")
            .attr("style", &format!("top:{top:.2}%"))
            .raw(">")
            .text(&units::duration(ns as f64))
            .raw("</span>");
    }
    out.raw("</div>");
    svg(out, height);
    let paths = heat::paths(heat, &cells.counts[0], waiting, columns);
    for (path, class) in paths.iter().zip(SHADES) {
        out.raw("<path").attr("class", class).attr("d", path).raw("/>");
    }
    out.raw("</svg><i class=\"cursor\"></i></div>");
    time_axis(out, columns.total());
    out.raw("</div><p class=\"key shades\"><span>1</span>");
    for class in SHADES {
        out.raw("<b").attr("class", class).raw("></b>");
    }
    let most = heat::most(&cells.counts[0]);
    out.raw("<span class=\"most\">").text(&units::count(most)).raw("</span> <span>");
    out.text(&format!(
        "{} of about the same length at a time; each shade stands for several times the one before",
        about.counting.1
    ));
    out.raw("</span></p><p class=\"read\" aria-live=\"polite\"></p></figure>");
}

/// Powers of ten within two durations, ns.
fn decades(from: u64, to: u64) -> Vec<u64> {
    std::iter::successors(Some(1_u64), |ns| ns.checked_mul(10))
        .filter(|ns| (from..=to).contains(ns))
        .collect()
}

/// The time ledger.
pub fn ledger(out: &mut Markup, about: &About<'_>, ledger: &Ledger, columns: &Columns, whole: &Report) {
    let Some(Some(lanes)) = ledger.of.first() else { return };
    let title = "Where each vCPU's time goes";
    begin(out, about, "ledger", title);
    granularity(out, columns);
    out.raw("<div class=\"lanes\">");
    for lane in &lanes.lanes {
        out.raw("<div class=\"lane\"><span class=\"name\">").text(&lane.name).raw("</span>");
        plot(out, &format!("{title}: {}; arrow keys move through time", lane.name));
        svg(out, HEIGHT);
        for (path, class) in ledger::paths(lane, columns).iter().zip(BUCKETS) {
            out.raw("<path").attr("class", class).attr("d", path).raw("/>");
        }
        out.raw("</svg><i class=\"cursor\"></i></div></div></div>");
    }
    out.raw("</div>");
    time_axis(out, columns.total());
    if lanes.more > 0 {
        let more = units::counted(lanes.more as u64, "more vCPU", "more vCPUs");
        out.raw("<p class=\"more\">… ").text(&more).raw("</p>");
    }
    out.raw("<ul class=\"key buckets\">");
    let all: Option<&Row> = whole.totals.first();
    let shares = all.and_then(|row| ledger::shares(whole.columns, row));
    for (i, name) in ledger.names.iter().enumerate() {
        out.raw("<li><b").attr("class", BUCKETS[i]).raw("></b>").text(name).raw(" <span>");
        if let Some(share) = shares.as_ref().and_then(|shares| shares[i].number()) {
            out.text(&units::percent(share, " "));
        }
        out.raw("</span></li>");
    }
    out.raw("</ul><p class=\"read\" aria-live=\"polite\"></p></figure>");
}

/// How the pace of one scope changes, as small as a word.
pub fn spark(out: &mut Markup, stack: &Stack, scope: usize, columns: &[Columns]) {
    let Some(Some(counts)) = stack.of.get(scope) else { return };
    let columns = &columns[counts.columns];
    let together =
        |column: usize| counts.counts.iter().fold(0_u64, |sum, area| sum.saturating_add(area[column]));
    let one = stack::Counts {
        columns: counts.columns,
        counts: vec![(0..columns.len()).map(together).collect()],
        sums: Vec::new(),
        seconds: counts.seconds,
    };
    out.raw(
        "<svg class=\"spark\" viewBox=\"0 0 10000 1000\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
    );
    out.raw("<path").attr("d", &stack::paths(&one, columns).concat()).raw("/></svg>");
}

fn begin(out: &mut Markup, about: &About<'_>, kind: &'static str, title: &str) {
    out.raw("<figure").attr("class", kind).attr("data-noun", &about.noun.to_string());
    out.raw("><figcaption><h3>")
        .text(title)
        .raw("</h3> <span class=\"whose\">")
        .text(about.whose)
        .raw("</span>");
    out.raw("</figcaption>");
}

/// Says how much time a column of the picture is, where that is more than what was recorded.
fn granularity(out: &mut Markup, columns: &Columns) {
    if columns.each > 1 {
        let length = columns.seconds.first().copied().unwrap_or(0.0);
        out.raw("<p class=\"grain\">").text(&format!(
            "Drawn with one column for {} ({}), so a shorter peak is lower here than it was.",
            units::counted(columns.each as u64, "interval", "intervals"),
            units::interval(length)
        ));
        out.raw("</p>");
    }
}

fn plot(out: &mut Markup, label: &str) {
    out.raw("<div class=\"plot\" tabindex=\"0\" role=\"img\"").attr("aria-label", label).raw(">");
}

fn svg(out: &mut Markup, height: u32) {
    out.raw("<div class=\"area\"><svg").attr("viewBox", &format!("0 0 10000 {}", height.max(1)));
    out.raw(" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
}

fn time_axis(out: &mut Markup, total: f64) {
    out.raw("<div class=\"x\">");
    for at in marks(total) {
        let left = if total > 0.0 { at / total * 100.0 } else { 0.0 };
        out.raw("<span").attr("style", &format!("left:{left:.2}%")).raw(">").text(&clock(at)).raw("</span>");
    }
    out.raw("</div>");
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
