//! Prometheus: what was counted since the start, as counters and histograms that Prometheus scrapes.
//!
//! Every drill-down is served by the same rules: each of its columns that is a sum is a counter, its text columns that
//! are keys are labels, how its durations are distributed is a histogram. [`names`] has the names, and better ones and
//! words where the rules' own are poor. A report of the whole run so far goes in; [`Exposition`] remembers which series
//! are shown, so that their number is bounded, none comes and goes, and no counter goes back; families come out, and
//! [`text`] writes them.
//!
//! Native histograms are not served: their buckets end at powers of two (and roots of these) of a *second*, ours, of
//! the kernel, at powers of two of a nanosecond, so that every one of them would be split by guesswork. Prometheus can
//! store the classic ones as native ones with custom bounds, exactly (`convert_classic_histograms_to_nhcb`).

mod bins;
mod exposition;
mod family;
mod labels;
mod names;
mod number;
mod proof;
mod rows;
pub mod text;

pub use exposition::{Exposition, Limits};
pub use family::{Family, Kind, Metric, Value};
pub use labels::Labels;
pub use names::{Names, own, prefix};
pub use text::Format;
