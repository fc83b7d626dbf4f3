//! Recordings: the samples of several drill-downs at intervals, in one compressed file.
//!
//! A file is the 8 bytes [`MAGIC`] and then frames. A frame is
//!
//! | Bytes | Content |
//! |---:|---|
//! | 1 | [`frame::Kind`] |
//! | 4 | length of the payload, little-endian |
//! | that | payload |
//! | 4 | CRC-32 (IEEE 802.3) of all of the above |
//!
//! Payloads are one raw DEFLATE stream (RFC 1951) over all frames, flushed at the end of each (Z_SYNC_FLUSH): names and keys
//! that repeat from interval to interval cost next to nothing, and each frame can be read once those before it have been.
//! A file that was cut off is read up to its last whole frame. What is in the frames of samples is JSON, described in
//! [`wire`]; a frame of a kind that a reader does not know is passed over, so is a key.

pub mod events;
pub mod frame;
mod read;
pub mod wire;
mod write;

use std::path::PathBuf;

pub use read::{Recording, Series};
pub use write::Recorder;

/// The first bytes of a file, with the version of the container.
pub const MAGIC: &[u8; 8] = b"KVMUREC1";

/// Version of what is in the frames. A reader refuses later ones: they would be read wrongly.
pub const VERSION: u32 = 1;

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A call to the file system failed.
    #[error("cannot {what} {}: {error}", path.display())]
    File {
        /// `open`, `write` or `read`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        error: std::io::Error,
    },
    /// It does not begin as recordings do.
    #[error("{} is no recording of kvm-utils: it begins with something else", .0.display())]
    Foreign(PathBuf),
    /// Nothing of it is whole.
    #[error("{} was cut off before its first interval: there is nothing in it", .0.display())]
    Empty(PathBuf),
    /// It is of a later version.
    #[error("{} has version {version} of the format, this kvm-utils reads up to {VERSION}: use a newer one", path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A frame that is whole does not say what it should.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}
