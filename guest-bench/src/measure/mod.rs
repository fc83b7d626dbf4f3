//! Measuring: a [`worker`] process takes samples of one operation, the [`supervisor`] asks workers for rounds in shuffled
//! order, and whatever happens to a worker costs one operation only.

pub mod disturbance;
pub mod overhead;
pub mod perf_page;
pub mod round;
pub mod skew;
pub mod supervisor;
pub mod tsc;
pub mod worker;
mod yardstick;

pub use round::Round;
