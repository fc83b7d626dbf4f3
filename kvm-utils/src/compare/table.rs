//! From recordings to what is compared: rows, classes and sums of a drill-down, with what each counted in every interval and
//! in the whole run of every file.

use std::collections::{BTreeMap, BTreeSet};

use super::{Recorded, tally::Tally};
use crate::{
    model::{Cell, Column, History, Report, Role, Row, Unit, Vcpu, Vm},
    view::By,
};

/// Key columns with addresses that are others each time a guest boots. Where there are rows that sum up those of all
/// addresses, these are compared.
const MOVING: [&str; 2] = ["page", "rip"];

/// Times of which more is worse; the guest's own time and waiting are not among them.
const TIMES: [&str; 6] = ["kvm_ns", "vmm_ns", "poll_ns", "steal_ns", "other_ns", "poll_fail_ns"];

/// Nouns whose durations are those of waiting.
const WAITING: [&str; 1] = ["halt"];

/// Columns from this importance on describe a row in detail; they are part of its name only where it needs them.
const DETAIL: u8 = 3;

/// One drill-down of both sides.
#[derive(Debug)]
pub struct Table {
    /// Its noun.
    pub noun: &'static str,
    /// What it counts: one, and many.
    pub counting: (&'static str, &'static str),
    /// Columns with times of which more is worse.
    pub times: Vec<&'static Column>,
    /// How long each file of the base and of the new side is; `None` where it does not have this noun.
    pub spans: [Vec<Option<Span>>; 2],
    /// What is compared.
    pub subjects: Vec<Subject>,
}

/// How long a recording is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// The whole of it, seconds.
    pub seconds: f64,
    /// Each interval, seconds.
    pub intervals: Vec<f64>,
}

/// Something that is compared.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The VM or vCPU that it is about; `None` is all of them.
    pub scope: Option<String>,
    /// What it is.
    pub what: What,
    /// Its time is waiting, not work.
    pub waiting: bool,
    /// What it counted, per file of the base and of the new side.
    pub files: [Vec<Counted>; 2],
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A row.
    Row {
        /// Its name, for people.
        label: String,
        /// All its key columns, by id.
        key: Vec<(String, String)>,
        /// Its class, where rows have one.
        class: Option<String>,
    },
    /// All rows of a class.
    Class(String),
    /// All rows.
    Total,
}

/// What something counted in one file.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// In the whole run.
    pub whole: Tally,
    /// By number of the interval, where there was anything.
    pub intervals: BTreeMap<usize, Tally>,
}

impl Counted {
    fn add(&mut self, other: &Self, waiting: bool) {
        let part = |tally: &Tally| if waiting { tally.without_durations() } else { tally.clone() };
        self.whole.add(&part(&other.whole));
        for (interval, tally) in &other.intervals {
            self.intervals.entry(*interval).or_default().add(&part(tally));
        }
    }
}

/// The tables that both sides have, in the order of the base, and the nouns that only one has.
#[must_use]
pub fn tables(base: &[Recorded], new: &[Recorded], by: By) -> (Vec<Table>, Vec<&'static str>) {
    let nouns = |side: &[Recorded]| -> Vec<&'static str> {
        let mut nouns = Vec::new();
        for history in side.iter().flat_map(|recording| &recording.histories) {
            if !nouns.contains(&history.whole.noun) {
                nouns.push(history.whole.noun);
            }
        }
        nouns
    };
    let (of_base, of_new) = (nouns(base), nouns(new));
    let (both, lone): (Vec<_>, Vec<_>) = of_base.iter().copied().partition(|noun| of_new.contains(noun));
    let lone =
        lone.into_iter().chain(of_new.iter().copied().filter(|noun| !of_base.contains(noun))).collect();
    (both.into_iter().map(|noun| table(noun, [base, new], by)).collect(), lone)
}

/// Where to find what in the rows of a noun.
struct Shape {
    /// Key columns that all files have.
    keys: Vec<&'static str>,
    /// Whether rows of single addresses are left out.
    sums_only: bool,
}

fn table(noun: &'static str, sides: [&[Recorded]; 2], by: By) -> Table {
    let of =
        |recording: &'_ Recorded| recording.histories.iter().position(|history| history.whole.noun == noun);
    let found: [Vec<Option<&History>>; 2] = sides.map(|side| {
        side.iter().map(|recording| of(recording).map(|index| &recording.histories[index])).collect()
    });
    let all = || found.iter().flatten().flatten().copied();
    let shape = shape(&all().collect::<Vec<_>>());
    let counting = all().next().map_or(("event", "events"), |history| history.whole.counting);
    let mut times: Vec<&'static Column> = Vec::new();
    for column in all().flat_map(|history| history.whole.columns) {
        let is_worse = TIMES.contains(&column.id) && column.role == Role::Sum;
        if is_worse && !times.iter().any(|known| known.id == column.id) {
            times.push(column);
        }
    }
    let span = |history: &History| Span {
        seconds: history.whole.interval.as_secs_f64(),
        intervals: history.intervals.iter().map(|report| report.interval.as_secs_f64()).collect(),
    };
    let spans = [0, 1].map(|side: usize| found[side].iter().map(|history| history.map(span)).collect());
    let mut gathered = Gathered { rows: BTreeMap::new(), files: [found[0].len(), found[1].len()] };
    for (side, files) in found.iter().enumerate() {
        for (file, history) in files.iter().enumerate() {
            let Some(history) = history else { continue };
            let mut take = |report: &Report, interval: Option<usize>| {
                each_row(report, by, &mut |scope, row| {
                    gathered.take(&shape, &times, report, scope, row, (side, file, interval));
                });
            };
            take(&history.whole, None);
            for (index, report) in history.intervals.iter().enumerate() {
                take(report, Some(index));
            }
        }
    }
    Table { noun, counting, times, spans, subjects: gathered.subjects() }
}

fn shape(histories: &[&History]) -> Shape {
    let keys = |history: &&History| -> Vec<&'static str> {
        let columns = history.whole.columns.iter().filter(|column| column.role == Role::Key);
        columns.map(|column| column.id).collect()
    };
    let mut common = histories.first().map(keys).unwrap_or_default();
    for history in histories {
        let keys = keys(history);
        common.retain(|id| keys.contains(id));
    }
    let sums_only = common.iter().any(|id| MOVING.contains(id));
    Shape { keys: common, sums_only }
}

/// Shows each row of a report with the VM or vCPU that it is of.
fn each_row(report: &Report, by: By, take: &mut dyn FnMut(Option<&str>, &Row)) {
    match by {
        By::Reason => report.totals.iter().for_each(|row| take(None, row)),
        By::Vm => {
            for vm in &report.vms {
                vm.rows.iter().for_each(|row| take(Some(&vm.name), row));
            }
        }
        By::Vcpu => {
            for (vm, vcpu) in report.vms.iter().flat_map(|vm| vm.vcpus.iter().map(move |vcpu| (vm, vcpu))) {
                let scope = vcpu_name(vm, vcpu);
                vcpu.rows.iter().for_each(|row| take(Some(&scope), row));
            }
        }
    }
}

fn vcpu_name(vm: &Vm, vcpu: &Vcpu) -> String {
    match vcpu.vcpu {
        _ if vcpu.others => format!("{} other threads", vm.name),
        Some(id) => format!("{} vcpu {id}", vm.name),
        None => format!("{} vcpu ?", vm.name),
    }
}

/// Rows by scope and key, as they are found.
struct Gathered {
    rows: BTreeMap<(Option<String>, Vec<String>), Found>,
    files: [usize; 2],
}

struct Found {
    /// Id, text, whether it is shown in tables, whether it is a detail.
    cells: Vec<(&'static str, String, bool, bool)>,
    class: Option<String>,
    waiting: bool,
    /// It sums up others, or its single addresses are left out.
    of_others: bool,
    single: bool,
    files: [Vec<Counted>; 2],
}

/// How many rows a sum is of, and what was counted in each file of both sides.
type Sum = (usize, [Vec<Counted>; 2]);

impl Gathered {
    fn take(
        &mut self,
        shape: &Shape,
        times: &[&'static Column],
        report: &Report,
        scope: Option<&str>,
        row: &Row,
        at: (usize, usize, Option<usize>),
    ) {
        let columns = report.columns;
        let cell = |id: &str| {
            let index = columns.iter().position(|column| column.id == id)?;
            row.cells.get(index)
        };
        let key: Vec<String> = shape.keys.iter().map(|id| text(cell(id))).collect();
        let files = self.files;
        let found = self.rows.entry((scope.map(str::to_owned), key.clone())).or_insert_with(|| Found {
            cells: shape
                .keys
                .iter()
                .zip(key)
                .map(|(id, text)| {
                    let importance =
                        columns.iter().find(|column| column.id == *id).and_then(|c| c.importance);
                    (*id, text, importance.is_some(), importance.is_some_and(|one| one >= DETAIL))
                })
                .collect(),
            // Where it is the first column, it is what rows are about, not what they belong to.
            class: (shape.keys.first() != Some(&"class"))
                .then(|| cell("class").map(|c| text(Some(c))))
                .flatten(),
            waiting: row.waiting || WAITING.contains(&report.noun),
            of_others: row.of_others,
            single: shape.sums_only && !row.of_others,
            files: files.map(|count| vec![Counted::default(); count]),
        });
        let number = |id: &str| match cell(id) {
            Some(Cell::Number(number)) => Some(*number),
            _ => None,
        };
        let events = columns.iter().find(|column| column.unit == Unit::Count && column.role == Role::Sum);
        let mut tally = Tally {
            count: events.and_then(|column| number(column.id)).unwrap_or(0),
            times: times.iter().map(|column| number(column.id).unwrap_or(0)).collect(),
            extremes: number("min_ns").zip(number("max_ns")),
            ..Tally::default()
        };
        if let Some(durations) = &row.durations {
            tally.timed = durations.timed;
            tally.total_ns = durations.total_ns;
            tally.unbinned = durations.unbinned;
            tally.buckets = durations.buckets.iter().copied().collect();
        } else if let (Some(timed), Some(total_ns)) = (number("timed"), number("total_ns")) {
            // Without buckets nothing is known of the tail.
            (tally.timed, tally.total_ns, tally.unbinned) = (timed, total_ns, timed);
        }
        let (side, file, interval) = at;
        let counted = &mut found.files[side][file];
        match interval {
            None => counted.whole.add(&tally),
            Some(interval) => counted.intervals.entry(interval).or_default().add(&tally),
        }
    }

    /// Rows, classes and sums. A class or a sum of a single row is that row, and left out.
    fn subjects(self) -> Vec<Subject> {
        let files = self.files;
        let mut sums: BTreeMap<(Option<String>, What), Sum> = BTreeMap::new();
        for ((scope, _), found) in self.rows.iter().filter(|(_, found)| !found.of_others) {
            let class = found.class.clone().map(What::Class);
            for what in class.into_iter().chain([What::Total]) {
                let (rows, sum) = sums
                    .entry((scope.clone(), what))
                    .or_insert_with(|| (0, files.map(|count| vec![Counted::default(); count])));
                *rows += 1;
                for (side, more) in sum.iter_mut().zip(&found.files) {
                    for (sum, more) in side.iter_mut().zip(more) {
                        sum.add(more, found.waiting);
                    }
                }
            }
        }
        let labels = labels(&self.rows);
        let mut subjects: Vec<Subject> = Vec::new();
        for (((scope, _), found), label) in self.rows.into_iter().zip(labels) {
            if found.single {
                continue;
            }
            let key = found.cells.into_iter().map(|(id, text, ..)| (id.to_owned(), text)).collect();
            let what = What::Row { label, key, class: found.class };
            subjects.push(Subject { scope, what, waiting: found.waiting, files: found.files });
        }
        let sums = sums.into_iter().filter(|(_, (rows, _))| *rows > 1);
        let sums = sums.map(|((scope, what), (_, files))| Subject { scope, what, waiting: false, files });
        subjects.extend(sums);
        subjects
    }
}

/// A cell of a key as text; nothing for what is not known.
fn text(cell: Option<&Cell>) -> String {
    match cell {
        Some(Cell::Text(text)) => text.clone(),
        Some(Cell::List(texts)) => texts.join(","),
        Some(Cell::Number(number)) => number.to_string(),
        Some(Cell::Real(number)) => number.to_string(),
        Some(Cell::Unknown) | None => String::new(),
    }
}

/// A name for each row: what a table shows of it, with the details where it would not differ from another.
fn labels(rows: &BTreeMap<(Option<String>, Vec<String>), Found>) -> Vec<String> {
    let join = |found: &Found, wanted: &dyn Fn(bool, bool) -> bool| {
        let mut parts: Vec<&str> = Vec::new();
        for (id, text, is_shown, is_detail) in &found.cells {
            let is_class = *id == "class" && found.class.is_some();
            if wanted(*is_shown, *is_detail)
                && !is_class
                && !text.is_empty()
                && !parts.contains(&text.as_str())
            {
                parts.push(text);
            }
        }
        parts.join(" ")
    };
    let brief: Vec<(Option<&String>, String)> = rows
        .iter()
        .map(|((scope, _), found)| {
            (scope.as_ref(), join(found, &|is_shown, is_detail| is_shown && !is_detail))
        })
        .collect();
    let (mut seen, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for label in &brief {
        if !seen.insert(label) {
            shared.insert(label);
        }
    }
    let name = |(found, label): (&Found, &(Option<&String>, String))| {
        let more = if shared.contains(label) { join(found, &|_, _| true) } else { label.1.clone() };
        if more.is_empty() { "(no name)".to_owned() } else { more }
    };
    rows.values().zip(&brief).map(name).collect()
}
