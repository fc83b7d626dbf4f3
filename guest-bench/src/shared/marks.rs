//! How the payload tells a VMM that asks for it when it takes samples, so that exits can be counted in between.

/// A byte written here is a mark. No device of KVM or of a PC answers at this port.
pub const MARK_PORT: u16 = 0x5d2;
/// The next thing that happens is a round's first sample.
pub const BEGIN: u8 = 1;
/// The round's last sample has been taken.
pub const END: u8 = 2;
/// The word of the command line that asks for marks.
pub const OPTION: &str = "marks=1";
