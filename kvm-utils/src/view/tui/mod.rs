//! The full screen: a state, fed with reports and keys, and what it looks like. Neither knows of a terminal, of a clock
//! or of what traces; `state/` says what is shown, `view/` how.

mod ansi;
mod key;
pub mod state;
mod view;

pub use ansi::Ansi;
pub use key::{Decoder, Key};
pub use state::{Action, Offer, State};
pub use view::{Drawn, LEAST_SIZE, Look, draw};
