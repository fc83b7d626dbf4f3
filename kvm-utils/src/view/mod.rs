//! What a report looks like: pure functions of the model, one file per format. None of them knows where the numbers
//! come from or what the terminal is; they are told.

mod columns;
pub mod csv;
pub mod html;
pub mod json;
pub mod live;
pub mod perfetto;
pub mod prometheus;
pub mod sentences;
pub mod table;
pub mod text;
pub mod tui;
pub mod units;

pub use live::Frame;
pub use table::{By, Style};
