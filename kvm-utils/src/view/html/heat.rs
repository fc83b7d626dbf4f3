//! Latency heat map: how many events took how long, over time. Work and waiting are never in one picture.

use std::fmt::Write as _;

use kvm_utils_common::hist;
use serde::Serialize;

use super::{
    columns::Columns,
    kinds::{Kind, Layout},
    scopes::Scopes,
};
use crate::model::{Durations, Report, Row};

/// So many kinds of work can be chosen.
const MOST: usize = 12;
/// Shades, the lightest first.
pub const SHADES: usize = 8;

/// The heat maps of a drill-down.
#[derive(Debug, Serialize)]
pub struct Heat {
    /// What can be chosen: all work first.
    pub names: Vec<String>,
    /// Whether it is waiting.
    pub waiting: Vec<bool>,
    /// Where each line begins, and where the last one ends, ns.
    pub low: Vec<u64>,
    /// The same as 1000 times the binary logarithm.
    pub log: Vec<u32>,
    /// Lines shown for work and for waiting: the first, and the one after the last.
    pub range: [(usize, usize); 2],
    /// Numbers per scope.
    pub of: Vec<Option<Cells>>,
}

/// The numbers of one scope.
#[derive(Debug, Serialize)]
pub struct Cells {
    /// Which of the drill-down's columns.
    #[serde(rename = "c")]
    pub columns: usize,
    /// Per choice and column: the first line that is not empty, and the counts from there on; nothing if all are empty.
    #[serde(rename = "n")]
    pub counts: Vec<Vec<Vec<u64>>>,
}

/// Three lines to a power of two, cut where the histogram's buckets are: at 1, 5/4 and 25/16 of it, which is within 4 %
/// of equal parts.
const CUTS: [u64; 3] = [16, 20, 25];

/// The line of a duration.
pub fn line(ns: u64) -> usize {
    let ns = ns.max(1);
    let power = ns.ilog2();
    let sixteenths = (u128::from(ns) * 16) >> power;
    let third = CUTS.iter().rposition(|cut| u128::from(*cut) <= sixteenths).unwrap_or(0);
    power as usize * CUTS.len() + third
}

/// Where a line begins, ns.
fn low(line: usize) -> u64 {
    let (power, third) = ((line / CUTS.len()).min(63), line % CUTS.len());
    u64::try_from((u128::from(CUTS[third]) << power).div_ceil(16)).unwrap_or(u64::MAX)
}

/// The heat maps of a drill-down while its intervals come.
#[derive(Debug)]
pub struct Builder {
    layout: Layout,
    kinds: Vec<Kind>,
    names: Vec<String>,
    waiting: Vec<bool>,
    /// The first choice is all work.
    works: bool,
    /// Per scope, choice, column and line.
    dense: Vec<Vec<Vec<u64>>>,
}

/// Lines of all durations that a histogram can hold.
fn lines() -> usize {
    line(hist::bounds(hist::BUCKETS - 1).1) + 1
}

impl Builder {
    /// `None` if the drill-down keeps no durations. `columns` are those of "all" and of a VM.
    pub fn new(whole: &Report, scopes: &Scopes, columns: [&Columns; 2]) -> Option<Self> {
        let layout = Layout::of(whole.columns)?;
        let timed = |row: &&Row| row.durations.as_ref().is_some_and(|d| !d.buckets.is_empty());
        if !whole.totals.iter().any(|row| timed(&row)) {
            return None;
        }
        let mut kinds = layout.kinds(whole);
        // Where each vCPU has one row there is nothing to choose from.
        kinds.retain(|kind| {
            !whole.one_row && whole.totals.iter().filter(timed).any(|row| layout.is(kind, row))
        });
        let (mut kinds, waits): (Vec<_>, Vec<_>) = kinds.into_iter().partition(|kind| !kind.waiting);
        kinds.truncate(MOST);
        kinds.extend(waits);
        let works = whole.totals.iter().filter(timed).any(|row| !row.waiting);
        let any_waits = whole.totals.iter().any(|row| row.waiting);
        let mut names: Vec<String> = kinds.iter().map(|kind| kind.name.clone()).collect();
        let mut waiting: Vec<bool> = kinds.iter().map(|kind| kind.waiting).collect();
        if works {
            names.insert(0, if any_waits { "all work" } else { "all" }.to_owned());
            waiting.insert(0, false);
        }
        if names.is_empty() {
            return None;
        }
        let cells = |scope: usize| vec![0; columns[usize::from(scope > 0)].len() * lines()];
        let dense = (0..scopes.len()).map(|scope| vec![cells(scope); names.len()]).collect();
        Some(Self { layout, kinds, names, waiting, works, dense })
    }

    /// Takes an interval.
    pub fn add(&mut self, interval: usize, report: &Report, scopes: &Scopes, columns: [&Columns; 2]) {
        let lines = lines();
        scopes.each(report, |scope, rows, _| {
            let Some(column) = columns[usize::from(scope > 0)].of(interval) else { return };
            let at = column * lines..(column + 1) * lines;
            for row in rows.iter().filter(|row| !row.of_others) {
                let Some(durations) = &row.durations else { continue };
                let kind = self.kinds.iter().position(|kind| self.layout.is(kind, row));
                let kind = kind.map(|kind| kind + usize::from(self.works));
                let work = (self.works && !row.waiting).then_some(0);
                for choice in kind.into_iter().chain(work) {
                    add(&mut self.dense[scope][choice][at.clone()], durations);
                }
            }
        });
    }

    /// All of them; the columns are number `first` and the next of the drill-down's.
    pub fn finish(self, first: usize) -> Heat {
        let lines = lines();
        let mut range = [(usize::MAX, 0); 2];
        let mut of = Vec::new();
        for (scope, dense) in self.dense.iter().enumerate() {
            let mut counts = Vec::new();
            for (cells, waiting) in dense.iter().zip(&self.waiting) {
                let range = &mut range[usize::from(*waiting)];
                counts.push(cells.chunks(lines).map(|cells| pack(cells, range)).collect::<Vec<_>>());
            }
            let empty = counts.iter().flatten().all(Vec::is_empty);
            let columns = first + usize::from(scope > 0);
            of.push((!empty || scope == 0).then_some(Cells { columns, counts }));
        }
        let range = range.map(|(from, to)| if from < to { (from, to) } else { (0, 1) });
        let low: Vec<u64> = (0..=lines).map(low).collect();
        let log = low.iter().map(|ns| ((*ns as f64).log2() * 1000.0).round() as u32).collect();
        Heat { names: self.names, waiting: self.waiting, low, log, range, of }
    }
}

fn add(cells: &mut [u64], durations: &Durations) {
    for (bucket, count) in &durations.buckets {
        if let Some(cell) = cells.get_mut(line(hist::bounds(usize::from(*bucket)).0)) {
            *cell = cell.saturating_add(*count);
        }
    }
}

/// What is not empty, behind its first line; widens the range by it.
fn pack(cells: &[u64], range: &mut (usize, usize)) -> Vec<u64> {
    let is_full = |count: &u64| *count > 0;
    let Some((from, to)) = cells.iter().position(is_full).zip(cells.iter().rposition(is_full)) else {
        return Vec::new();
    };
    *range = (range.0.min(from), range.1.max(to + 1));
    std::iter::once(from as u64).chain(cells[from..=to].iter().copied()).collect()
}

/// The shade of a count, by its binary digits: exact, and the same in every language.
pub fn shade(count: u64, most: u64) -> usize {
    let digits = |n: u64| (u64::BITS - n.leading_zeros()) as usize;
    if count == 0 || most == 0 {
        return 0;
    }
    ((digits(count) - 1) * SHADES / digits(most)).min(SHADES - 1)
}

/// The greatest count of a choice.
pub fn most(counts: &[Vec<u64>]) -> u64 {
    counts.iter().flat_map(|column| column.iter().skip(1)).copied().max().unwrap_or(0)
}

/// The cells of each shade, as SVG's `d`, for a picture that is as wide as [`super::columns::WIDTH`] and as high as the
/// range is in `log`'s units. The page's script draws the same (`heatPaths`).
pub fn paths(heat: &Heat, counts: &[Vec<u64>], waiting: bool, columns: &Columns) -> Vec<String> {
    let (_, to) = heat.range[usize::from(waiting)];
    let y = |line: usize| heat.log[to] - heat.log[line.min(to)];
    let most = most(counts);
    let mut paths = vec![String::new(); SHADES];
    for (column, cells) in counts.iter().enumerate() {
        let Some((first, cells)) = cells.split_first() else { continue };
        let (left, right) = (columns.edges[column], columns.edges[column + 1]);
        if left == right {
            continue;
        }
        let first = *first as usize;
        let mut from = 0;
        while from < cells.len() {
            let of = |i: usize| (cells[i] > 0).then(|| shade(cells[i], most));
            let mut until = from + 1;
            while until < cells.len() && of(until) == of(from) {
                until += 1;
            }
            if let Some(shade) = of(from) {
                let (top, bottom) = (y(first + until), y(first + from));
                let width = right - left;
                let _ = write!(paths[shade], "M{left} {top}h{width}v{}h-{width}z", bottom - top);
            }
            from = until;
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_whole_buckets_and_are_equal_within_4_percent() {
        for bucket in 16..hist::BUCKETS {
            let (from, to) = hist::bounds(bucket);
            assert_eq!(line(from), line(to - 1), "bucket {bucket}");
        }
        for ns in (0..40).flat_map(|bits| [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + 1]) {
            let line = line(ns);
            assert!(low(line) <= ns.max(1) && ns.max(1) < low(line + 1), "{ns} is not in line {line}");
        }
        for at in 12..120 {
            let octave = (low(at + 1) as f64 / low(at) as f64).log2();
            assert!((octave - 1.0 / 3.0).abs() < 0.04 || at < 18, "line {at} is {octave} octaves");
        }
    }

    #[test]
    fn shades_go_from_one_event_to_the_most() {
        assert_eq!(shade(1, 1), 0);
        assert_eq!((shade(1, 1000), shade(1000, 1000), shade(31, 1000)), (0, 7, 3));
        assert_eq!((shade(u64::MAX, u64::MAX), shade(1, u64::MAX)), (7, 0));
    }

    #[test]
    fn cells_of_a_shade_that_touch_are_one() {
        let heat = Heat {
            names: vec![],
            waiting: vec![],
            low: vec![],
            log: vec![0, 10, 20, 30],
            range: [(0, 3), (0, 1)],
            of: vec![],
        };
        let columns = Columns { edges: vec![0, 40, 100], seconds: vec![1.0, 1.0], each: 1 };
        let paths = paths(&heat, &[vec![0, 1, 1, 255], vec![]], false, &columns);
        assert_eq!((paths[0].as_str(), paths[7].as_str()), ("M0 10h40v20h-40z", "M0 0h40v10h-40z"));
    }
}
