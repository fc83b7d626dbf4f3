//! Serves reports over HTTP, for Prometheus to scrape.
//!
//! Two threads: the caller's has the tracer, and is asked for numbers through a channel ([`Ask`]); the other has the
//! server ([`serve`]), the memory of what is shown and the text. However many clients there are and whatever they do,
//! the tracer is asked at most once in an interval, and nothing that a client does can make it wait.

mod accept;
mod notify;
mod own;
mod page;
mod serve;
mod server;

pub use accept::format;
pub use notify::Notify;
pub use page::{Ask, Collected, Pages};
pub use serve::{Limits, Server, listen};
