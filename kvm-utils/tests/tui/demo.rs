//! A source of made-up numbers.

use kvm_utils::cmd::top::{Source, offers};
use kvm_utils::model::Report;
use kvm_utils::view::tui::Offer;

use crate::fleet::Fleet;

pub struct Demo {
    pub fleet: Fleet,
    /// What runs.
    pub nouns: Vec<String>,
    /// Intervals so far.
    pub ticks: u64,
    /// Fails in an unforeseen way in this one.
    pub panic_after: Option<u64>,
}

impl Demo {
    pub fn new(fleet: Fleet) -> Self {
        Self { fleet, nouns: ["exits", "time"].map(str::to_owned).to_vec(), ticks: 0, panic_after: None }
    }
}

impl Source for Demo {
    fn offers(&self) -> Vec<Offer> {
        offers(|noun| self.nouns.iter().any(|of| of == noun), true)
    }

    fn poll(&mut self) -> anyhow::Result<Vec<Report>> {
        self.ticks += 1;
        assert_ne!(Some(self.ticks), self.panic_after, "as was asked for");
        let nouns: Vec<&str> = self.nouns.iter().map(String::as_str).collect();
        Ok(self.fleet.reports(&nouns))
    }

    fn housekeep(&mut self) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn start(&mut self, noun: &'static str) {
        self.nouns.push(noun.to_owned());
    }
}
