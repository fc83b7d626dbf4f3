//! The tests, one file per subject.

mod guest;
mod placement;
mod robustness;
mod two_vms;

use crate::registry::Test;

/// Every test, in the order in which they are run.
pub fn all() -> impl Iterator<Item = &'static Test> {
    [guest::TESTS, two_vms::TESTS, placement::TESTS, robustness::TESTS].into_iter().flatten()
}
