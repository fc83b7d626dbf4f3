//! Rates over time: an area for each kind of row, one upon the other.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    columns::{Columns, WIDTH, rate, scale},
    kinds::{Kind, Layout},
    scopes::Scopes,
};
use crate::model::{Report, Row};

/// So many kinds have an area of their own; the others share one.
pub const MOST: usize = 7;
/// Height of the picture in its own units.
pub const HEIGHT: u32 = 1000;

/// The areas of a drill-down.
#[derive(Debug, Serialize)]
pub struct Stack {
    /// What the areas are called, the lowest first.
    pub names: Vec<String>,
    /// Whether their time is waiting.
    pub waiting: Vec<bool>,
    /// Numbers per scope; `None` where a scope has nothing.
    pub of: Vec<Option<Counts>>,
}

/// The numbers of one scope.
#[derive(Debug, Serialize)]
pub struct Counts {
    /// Which of the drill-down's columns.
    #[serde(rename = "c")]
    pub columns: usize,
    /// Events per area and column.
    #[serde(rename = "n")]
    pub counts: Vec<Vec<u64>>,
    /// Events per area in the whole run.
    #[serde(rename = "sum")]
    pub sums: Vec<u64>,
    /// Length of the whole run, seconds.
    #[serde(rename = "len")]
    pub seconds: f64,
}

/// The areas of a drill-down while its intervals come.
#[derive(Debug)]
pub struct Builder {
    layout: Layout,
    kinds: Vec<Kind>,
    stack: Stack,
}

impl Builder {
    /// `None` if the drill-down counts nothing. `columns` are those of "all" and of a VM.
    pub fn new(whole: &Report, scopes: &Scopes, columns: [&Columns; 2]) -> Option<Self> {
        let layout = Layout::of(whole.columns)?;
        let mut kinds = layout.kinds(whole);
        let rest = kinds.split_off(kinds.len().min(MOST));
        let mut names: Vec<String> = kinds.iter().map(|kind| kind.name.clone()).collect();
        let mut waiting: Vec<bool> = kinds.iter().map(|kind| kind.waiting).collect();
        // Events of rows that were not kept are in the sums all the same.
        names.push(match rest.as_slice() {
            [only] => only.name.clone(),
            _ => "(all others)".to_owned(),
        });
        waiting.push(!rest.is_empty() && rest.iter().all(|kind| kind.waiting));
        let areas = names.len();
        let mut of: Vec<Option<Counts>> = Vec::new();
        for scope in 0..scopes.len() {
            let which = usize::from(scope > 0);
            let counts = vec![vec![0; columns[which].len()]; areas];
            let seconds = whole.interval.as_secs_f64();
            of.push(Some(Counts { columns: which, counts, sums: vec![0; areas], seconds }));
        }
        scopes.each(whole, |scope, rows, events| {
            let Some(Some(numbers)) = of.get_mut(scope) else { return };
            for (sum, count) in numbers.sums.iter_mut().zip(split(&layout, &kinds, rows, events)) {
                *sum = sum.saturating_add(count);
            }
        });
        for numbers in of.iter_mut().skip(1) {
            if numbers.as_ref().is_some_and(|n| n.sums.iter().all(|sum| *sum == 0)) {
                *numbers = None;
            }
        }
        Some(Self { layout, kinds, stack: Stack { names, waiting, of } })
    }

    /// Takes an interval.
    pub fn add(&mut self, interval: usize, report: &Report, scopes: &Scopes, columns: [&Columns; 2]) {
        scopes.each(report, |scope, rows, events| {
            let Some(Some(numbers)) = self.stack.of.get_mut(scope) else { return };
            let Some(column) = columns[numbers.columns].of(interval) else { return };
            let counts = split(&self.layout, &self.kinds, rows, events);
            for (area, count) in numbers.counts.iter_mut().zip(counts) {
                area[column] = area[column].saturating_add(count);
            }
        });
    }

    /// All of them.
    pub fn finish(self) -> Stack {
        self.stack
    }
}

/// Events per area; the last one has what is in no other.
fn split(layout: &Layout, kinds: &[Kind], rows: &[Row], events: u64) -> Vec<u64> {
    let mut counts = vec![0_u64; kinds.len() + 1];
    let mut told = 0_u64;
    for row in rows.iter().filter(|row| !row.of_others) {
        if let Some(area) = kinds.iter().position(|kind| layout.is(kind, row)) {
            let count = layout.count(row);
            counts[area] = counts[area].saturating_add(count);
            told = told.saturating_add(count);
        }
    }
    counts[kinds.len()] = events.saturating_sub(told);
    counts
}

/// The highest rate of all areas together.
pub fn highest(counts: &Counts, columns: &Columns) -> f64 {
    let together =
        |column: usize| counts.counts.iter().fold(0_u64, |sum, area| sum.saturating_add(area[column]));
    (0..columns.len()).map(|column| rate(together(column), columns.seconds[column])).fold(0.0, f64::max)
}

/// The areas' outlines, as SVG's `d`. The page's script draws the same (`stackPaths`).
pub fn paths(counts: &Counts, columns: &Columns) -> Vec<String> {
    let (step, steps) = scale(highest(counts, columns));
    let top = step * f64::from(steps);
    let n = columns.len();
    let mut below = vec![0_u64; n];
    let mut lower = vec![HEIGHT; n];
    let mut paths = Vec::new();
    for area in &counts.counts {
        let mut upper = Vec::with_capacity(n);
        for column in 0..n {
            below[column] = below[column].saturating_add(area[column]);
            let height = rate(below[column], columns.seconds[column]) / top * f64::from(HEIGHT);
            upper.push(HEIGHT - (height.round() as u32).min(HEIGHT));
        }
        paths.push(if upper == lower { String::new() } else { band(&upper, &lower, &columns.edges) });
        lower = upper;
    }
    paths
}

/// The outline between two lines of steps: along the upper one, and back along the lower one. The script's `band`.
pub fn band(upper: &[u32], lower: &[u32], edges: &[u32]) -> String {
    let n = upper.len().min(lower.len());
    let Some((first, last)) = lower.first().zip(n.checked_sub(1)) else { return String::new() };
    let mut d = format!("M0 {first}");
    let mut at = *first;
    for (i, y) in upper.iter().enumerate().take(n) {
        if *y != at {
            let _ = write!(d, "V{y}");
            at = *y;
        }
        if i == last || upper[i + 1] != at {
            let _ = write!(d, "H{}", edges.get(i + 1).copied().unwrap_or(WIDTH));
        }
    }
    for (i, y) in lower.iter().enumerate().take(n).rev() {
        if *y != at {
            let _ = write!(d, "V{y}");
            at = *y;
        }
        if i == 0 || lower[i - 1] != at {
            let _ = write!(d, "H{}", edges.get(i).copied().unwrap_or(0));
        }
    }
    d.push('z');
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_goes_along_its_upper_side_and_back() {
        assert_eq!(band(&[5, 5, 3], &[9, 9, 9], &[0, 10, 20, 30]), "M0 9V5H20V3H30V9H0z");
        assert_eq!(band(&[5, 3], &[9, 8], &[0, 10, 20]), "M0 9V5H10V3H20V8H10V9H0z");
        assert_eq!(band(&[], &[], &[0]), "");
    }

    #[test]
    fn areas_stand_upon_each_other_up_to_the_highest_rate() {
        let columns = Columns { edges: vec![0, 5000, 10_000], seconds: vec![1.0, 2.0], each: 1 };
        let counts = vec![vec![100, 200], vec![0, 0], vec![300, 0]];
        let counts = Counts { columns: 0, counts, sums: vec![], seconds: 3.0 };
        assert_eq!(highest(&counts, &columns), 400.0);
        assert_eq!(paths(&counts, &columns), ["M0 1000V750H10000V1000H0z", "", "M0 750V0H5000V750H10000H0z"]);
    }
}
