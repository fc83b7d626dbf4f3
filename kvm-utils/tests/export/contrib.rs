//! What is given beside the program: the dashboard, the rules and the unit.

use super::harness::Test;

pub const TESTS: &[Test] = &[];
