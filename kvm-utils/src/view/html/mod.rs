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

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::model::{Fingerprint, History, Report, Row, Verdict};
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

/// How every page begins.
pub const BEGINNING: &str = "<!doctype html>\n<html lang=\"en\" data-made-by=\"kvm-utils report\">";

/// What is known of a drill-down's run before its intervals come.
#[derive(Clone, Debug)]
pub struct Run {
    /// On what it ran.
    pub fingerprint: Fingerprint,
    /// All intervals together.
    pub whole: Report,
    /// When the first interval began.
    pub began: Option<SystemTime>,
    /// How long each interval is.
    pub lengths: Vec<Duration>,
}

/// A page in the making: it takes the intervals one by one and keeps only what it shows of them.
#[derive(Debug)]
pub struct Page {
    scopes: Scopes,
    nouns: Vec<Noun>,
}

/// A drill-down.
#[derive(Debug)]
struct Noun {
    fingerprint: Fingerprint,
    whole: Report,
    began: Option<SystemTime>,
    lengths: Vec<Duration>,
    /// Whether an interval's numbers are in doubt by themselves, as far as they have come.
    doubts: Vec<bool>,
    /// On what is drawn: rates of all and of a VM, durations of all and of a VM.
    columns: [Columns; 4],
    stack: Option<stack::Builder>,
    heat: Option<heat::Builder>,
    ledger: Option<ledger::Builder>,
}

/// What the script knows of a drill-down.
#[derive(Serialize)]
struct Drawn {
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
    nouns: Vec<Drawn>,
}

/// The page for what was recorded, a history for each drill-down; the first is the one that names and sums stand for.
///
/// # Errors
///
/// serde_json's; the types here give it no cause for any.
pub fn page(histories: &[History]) -> serde_json::Result<String> {
    let run = |history: &History| Run {
        fingerprint: history.fingerprint.clone(),
        whole: history.whole.clone(),
        began: history.intervals.first().and_then(|first| first.time.checked_sub(first.interval)),
        lengths: history.intervals.iter().map(|report| report.interval).collect(),
    };
    let mut page = Page::new(histories.iter().map(run).collect());
    for (run, history) in histories.iter().enumerate() {
        history.intervals.iter().for_each(|report| page.interval(run, report));
    }
    page.finish()
}

impl Page {
    /// A page for these drill-downs; the first is the one that names and sums stand for.
    #[must_use]
    pub fn new(runs: Vec<Run>) -> Self {
        let scopes = Scopes::new(runs.iter().map(|run| &run.whole));
        let nouns = runs.into_iter().map(|run| Noun::new(run, &scopes)).collect();
        Self { scopes, nouns }
    }

    /// Takes the next interval of a drill-down, by its number.
    pub fn interval(&mut self, run: usize, report: &Report) {
        if let Some(noun) = self.nouns.get_mut(run) {
            noun.add(report, &self.scopes);
        }
    }

    /// Writes the page.
    ///
    /// # Errors
    ///
    /// serde_json's; the types here give it no cause for any.
    pub fn finish(mut self) -> serde_json::Result<String> {
        let names = self.names();
        let nouns = self.nouns.iter_mut().map(Noun::draw).collect();
        let data = Data { scopes: names, nouns };
        let mut out = Markup::default();
        out.raw(BEGINNING).raw("<head><meta charset=\"utf-8\">\n");
        out.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src '");
        out.raw(env!("KVM_UTILS_SCRIPT_HASH")).raw("'; base-uri 'none'; form-action 'none'\">\n");
        out.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"referrer\" content=\"no-referrer\">");
        out.raw("<meta name=\"color-scheme\" content=\"light dark\"><meta name=\"generator\"");
        out.attr("content", &format!("kvm-utils {}", kvm_bench::VERSION)).raw(">\n<title>");
        out.text(&head::subject(&self.nouns)).raw(" - kvm-utils report</title>\n<style>").raw(STYLE);
        out.raw("</style></head>\n<body>");
        head::header(&mut out, &self.nouns);
        if !self.nouns.is_empty() {
            head::verdict(&mut out, &self.nouns);
        }
        toolbar(&mut out, &data);
        out.raw("<main>");
        if let (Some(noun), Some(drawn)) = (self.nouns.first(), data.nouns.first()) {
            vms(&mut out, &noun.whole, drawn, &self.scopes);
        }
        for (i, (noun, drawn)) in self.nouns.iter().zip(&data.nouns).enumerate() {
            section(&mut out, noun, drawn, i, &self.scopes, &data.scopes);
        }
        facts(&mut out, &self.nouns);
        out.raw("</main><footer><p>").text(&format!("Made by kvm-utils {}.", kvm_bench::VERSION));
        out.raw(" Percentiles are within 3.1 %; a line of the heat map is a third of a power of two high.</p></footer>\n");
        out.raw("<script type=\"application/json\" id=\"data\">").json(&data)?.raw("</script>\n<script>");
        out.raw(SCRIPT).raw("</script></body></html>\n");
        Ok(out.finish())
    }

    /// What scopes are called.
    fn names(&self) -> Vec<String> {
        let first = self.nouns.first().map(|noun| noun.whole.vms.as_slice()).unwrap_or_default();
        let all = match first {
            [only] if self.scopes.all == 1 => only.name.clone(),
            _ => "all VMs".to_owned(),
        };
        let mut names = vec![text::safe(&all, true); self.scopes.len()];
        for vm in self.nouns.iter().flat_map(|noun| &noun.whole.vms) {
            if let Some(scope) = self.scopes.of(vm) {
                let name = format!("{} ({})", vm.name, sentences::process(vm));
                names[scope] = text::safe(&name, true);
            }
        }
        names
    }
}

impl Noun {
    fn new(run: Run, scopes: &Scopes) -> Self {
        let Run { fingerprint, whole, began, lengths } = run;
        let of_vm = |most: usize| match scopes.len() - 1 {
            0 => 1,
            vms => (COLUMNS_OF_VMS / vms).clamp(60, most),
        };
        let columns = [COLUMNS, of_vm(COLUMNS), HEAT_COLUMNS, of_vm(HEAT_COLUMNS)]
            .map(|most| Columns::new(&lengths, most));
        let [all, vm, heat_all, heat_vm] = &columns;
        let ledger = ledger::Builder::new(&whole, scopes, &lengths, columns.len());
        // Events beside a ledger are told elsewhere: there it is about time.
        let stack = if ledger.is_none() { stack::Builder::new(&whole, scopes, [all, vm]) } else { None };
        let heat = heat::Builder::new(&whole, scopes, [heat_all, heat_vm]);
        Self { fingerprint, whole, began, lengths, doubts: Vec::new(), columns, stack, heat, ledger }
    }

    fn add(&mut self, report: &Report, scopes: &Scopes) {
        let interval = self.doubts.len();
        self.doubts.push(matches!(report.proof.verdict(), Verdict::Doubtful(_)));
        let [all, vm, heat_all, heat_vm] = &self.columns;
        if let Some(stack) = &mut self.stack {
            stack.add(interval, report, scopes, [all, vm]);
        }
        if let Some(heat) = &mut self.heat {
            heat.add(interval, report, scopes, [heat_all, heat_vm]);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.add(interval, report, scopes);
        }
    }

    /// What came of the intervals.
    fn draw(&mut self) -> Drawn {
        let began = self.began.and_then(|began| began.duration_since(UNIX_EPOCH).ok());
        let mut columns = self.columns.to_vec();
        let ledger = self.ledger.take().map(|ledger| {
            let (ledger, own) = ledger.finish();
            columns.push(own);
            ledger
        });
        Drawn {
            noun: self.whole.noun,
            one: self.whole.counting.0,
            many: self.whole.counting.1,
            start: began.and_then(|began| u64::try_from(began.as_millis()).ok()),
            columns,
            stack: self.stack.take().map(stack::Builder::finish),
            heat: self.heat.take().map(|heat| heat.finish(2)),
            ledger,
        }
    }
}

/// What can be chosen for the whole page; the script shows it, as nothing can be chosen without.
fn toolbar(out: &mut Markup, data: &Data) {
    out.raw("<nav class=\"toolbar\"><label class=\"scope\" hidden><span>Show</span> <select id=\"scope\">");
    for (i, name) in data.scopes.iter().enumerate() {
        out.raw("<option").attr("value", &i.to_string()).raw(">").text(name).raw("</option>");
    }
    out.raw("</select></label><ul>");
    for Drawn { noun, .. } in &data.nouns {
        out.raw("<li><a").attr("href", &format!("#{noun}")).raw(">").text(noun).raw("</a></li>");
    }
    out.raw("</ul></nav>");
}

/// The VMs, if there are several.
fn vms(out: &mut Markup, whole: &Report, drawn: &Drawn, scopes: &Scopes) {
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
        if let (Some(stack), Some(scope)) = (&drawn.stack, scope) {
            figures::spark(out, stack, scope, &drawn.columns);
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
fn section(out: &mut Markup, noun: &Noun, drawn: &Drawn, number: usize, scopes: &Scopes, names: &[String]) {
    let whole = &noun.whole;
    out.raw("<section class=\"noun\"").attr("id", whole.noun).raw("><h2>").text(whole.noun);
    out.raw("</h2><p class=\"sum\">").text(&sentences::events(whole.events, whole)).raw("</p>");
    head::proof(out, whole);
    let whose = names.first().map_or("", String::as_str);
    let about = About { noun: number, counting: whole.counting, whose };
    if noun.lengths.is_empty() {
        out.raw("<p class=\"more\">There are no intervals to draw, only the whole run.</p>");
    } else {
        let layout = Layout::of(whole.columns).filter(|_| !whole.one_row);
        let by = layout.map(|layout| layout.by(whole.columns)).unwrap_or_default();
        if let Some(stack) = &drawn.stack {
            let columns = &drawn.columns[0];
            let mut doubts = vec![false; columns.len()];
            for (i, doubtful) in noun.doubts.iter().enumerate() {
                if let Some(column) = columns.of(i) {
                    doubts[column] |= doubtful;
                }
            }
            figures::rates(out, &about, &by, stack, columns, &doubts);
        }
        if let Some(heat) = &drawn.heat {
            figures::heat(out, &about, heat, &drawn.columns[2]);
        }
        if let (Some(ledger), Some(columns)) = (&drawn.ledger, drawn.columns.last()) {
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
        tables::table(out, whole, &rows, tables::ROWS, &format!("{}, {whose}", whole.noun));
    }
    out.raw("</div>");
    for (scope, name) in names.iter().enumerate().skip(1) {
        let vms: Vec<_> = scopes.vms(whole, scope).collect();
        if vms.is_empty() {
            continue;
        }
        out.raw("<details class=\"of\"").attr("data-scope", &scope.to_string());
        out.attr("id", &format!("{}-vm-{scope}", whole.noun)).raw("><summary>").text(name).raw("</summary>");
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
            tables::table(out, whole, &rows, tables::ROWS_OF_VM, &format!("{}, {}", whole.noun, vm.name));
        }
        out.raw("</details>");
    }
    out.raw("</section>");
}

/// On what it ran.
fn facts(out: &mut Markup, nouns: &[Noun]) {
    let facts = nouns.first().map(|noun| &noun.fingerprint.facts);
    let Some(facts) = facts.filter(|facts| !facts.is_empty()) else { return };
    out.raw("<section id=\"facts\"><details><summary>On what it ran</summary><dl>");
    for (name, value) in facts {
        out.raw("<dt>").text(name).raw("</dt><dd>").text(value).raw("</dd>");
    }
    out.raw("</dl></details></section>");
}
