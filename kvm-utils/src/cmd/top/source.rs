//! Where the screen's numbers come from.

use crate::{
    drilldown::registry::names,
    model::Report,
    view::tui::{Offer, state::KEYS},
};

/// Something that counts.
pub trait Source {
    /// The drill-downs, whether they run, and whether they could be started.
    fn offers(&self) -> Vec<Offer>;

    /// Ends the interval: a report of it from each drill-down that runs.
    ///
    /// # Errors
    ///
    /// When counting cannot go on.
    fn poll(&mut self) -> anyhow::Result<Vec<Report>>;

    /// What is to be done several times a second. Whether all is over that was to be seen.
    ///
    /// # Errors
    ///
    /// When counting cannot go on.
    fn housekeep(&mut self) -> anyhow::Result<bool>;

    /// Starts one more drill-down; if that fails, its offer tells why.
    fn start(&mut self, noun: &'static str);
}

/// Every drill-down in the order of its key, those that run and those that could be started by `can_start`.
#[must_use]
pub fn offers(runs: impl Fn(&str) -> bool, can_start: bool) -> Vec<Offer> {
    let mut nouns = names();
    let place = |noun: &str| KEYS.iter().position(|(_, nouns)| nouns.contains(&noun)).unwrap_or(KEYS.len());
    nouns.sort_by_key(|noun| place(noun));
    let offer = |noun| {
        let runs = runs(noun);
        Offer { noun, runs, can_start: can_start && !runs, failure: None }
    };
    nouns.into_iter().map(offer).collect()
}
