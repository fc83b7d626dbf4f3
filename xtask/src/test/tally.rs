//! Counting what passed, failed and was skipped, with names for the latter two.

use std::fmt;

use anyhow::Result;

/// The result of one or more steps.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    /// Name and cause.
    pub(super) failed: Vec<(String, String)>,
    /// Name and reason.
    pub(super) skipped: Vec<(String, String)>,
    /// Name and cause of what failed once and passed when it was repeated; they are among those that passed.
    pub(super) repeated: Vec<(String, String)>,
}

impl Tally {
    /// A step that is one test.
    pub(super) fn single(name: &str, result: Result<()>) -> Self {
        let mut tally = Self::default();
        match result {
            Ok(()) => tally.passed = 1,
            Err(error) => tally.fail(name, &format!("{error:#}")),
        }
        tally
    }

    /// A step that was not run.
    pub(super) fn skipped(name: &str, why: &str) -> Self {
        Self { skipped: vec![(name.into(), why.into())], ..Self::default() }
    }

    /// A step that could not be run.
    pub(super) fn failed(name: &str, why: &str) -> Self {
        Self { failed: vec![(name.into(), why.into())], ..Self::default() }
    }

    pub(super) fn fail(&mut self, name: &str, why: &str) {
        self.failed.push((name.into(), why.into()));
    }

    pub(super) fn skip(&mut self, name: &str, why: &str) {
        self.skipped.push((name.into(), why.into()));
    }

    /// The number of tests.
    pub(super) fn count(&self) -> u64 {
        self.passed + (self.failed.len() + self.skipped.len()) as u64
    }

    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
        self.repeated.extend(other.repeated);
    }

    /// What remains of a run whose failures were repeated with this result. A lab that died is named after its suite, one
    /// that did not after its kernel: the last part of the names counts.
    pub(super) fn after(mut self, repeated: Self) -> Self {
        let last = |name: &str| name.rsplit('/').next().map(str::to_owned);
        let fails = |name: &String| repeated.failed.iter().any(|(failed, _)| last(failed) == last(name));
        self.repeated =
            std::mem::take(&mut self.failed).into_iter().filter(|(name, _)| !fails(name)).collect();
        self.add(repeated);
        self
    }

    /// Makes a failure of every skip.
    pub(super) fn without_skips(mut self) -> Self {
        for (name, why) in std::mem::take(&mut self.skipped) {
            self.fail(&name, &format!("skipped, which CI does not allow: {why}"));
        }
        self
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_when_repeated_passed_and_is_named() {
        let fails = |names: &[&str]| {
            let mut tally = Tally { passed: 3, ..Tally::default() };
            names.iter().for_each(|name| tally.fail(name, "first"));
            tally
        };
        let mut second = Tally { passed: 1, ..Tally::default() };
        second.fail("amd/6.1/b", "second");
        let both = fails(&["amd/bookworm/a", "amd/bookworm/b"]).after(second);
        assert_eq!(both.to_string(), "4 passed, 1 failed, 0 skipped");
        assert_eq!(both.repeated, [("amd/bookworm/a".to_owned(), "first".to_owned())]);
        assert_eq!(both.failed, [("amd/6.1/b".to_owned(), "second".to_owned())]);
    }

    #[test]
    fn skips_become_failures_where_nothing_may_be_skipped() {
        let mut tally = Tally { passed: 2, ..Tally::default() };
        tally.add(Tally::skipped("a", "no sources"));
        tally.add(Tally::single("b", Err(anyhow::anyhow!("inner").context("outer"))));
        assert_eq!(tally.to_string(), "2 passed, 1 failed, 1 skipped");
        assert_eq!(tally.failed, [("b".to_owned(), "outer: inner".to_owned())]);
        assert_eq!(tally.count(), 4);
        assert_eq!(tally.without_skips().to_string(), "2 passed, 2 failed, 0 skipped");
    }
}
