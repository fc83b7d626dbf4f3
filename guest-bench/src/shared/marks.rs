//! How the payload tells a VMM that asks for it (`mark_port=` on its command line) when it takes samples.

/// The port that `kvm-utils bench` asks for. No device of KVM or of a PC answers there.
pub const MARK_PORT: u16 = 0x5d2;
/// Written, as 4 bytes, when the round's last sample has been taken. Any other number: the first comes next.
pub const END: u32 = 0;
