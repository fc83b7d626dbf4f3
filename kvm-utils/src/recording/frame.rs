//! The container: frames of one DEFLATE stream, each with a checksum. See [`crate::recording`].

use std::io::{self, Read, Write};

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first one: [`super::wire::Header`].
    Header,
    /// An interval: [`super::wire::Interval`].
    Interval,
    /// Single exits, see `recording::events`.
    Events,
    /// The last one, if the recording ended in good order: [`super::wire::End`].
    End,
    /// Of a later version.
    Other(u8),
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Interval => 2,
            Self::Events => 3,
            Self::End => 4,
            Self::Other(byte) => byte,
        }
    }

    const fn of(byte: u8) -> Self {
        match byte {
            1 => Self::Header,
            2 => Self::Interval,
            3 => Self::Events,
            4 => Self::End,
            other => Self::Other(other),
        }
    }
}

/// A payload, packed or not, is not longer than this: a length beyond it is not one.
const LONGEST: usize = 1 << 30;

/// Bytes of a frame before its payload.
const HEAD: usize = 5;

/// Makes frames.
pub struct Packer(Compress);

impl Packer {
    /// At the beginning of the stream.
    #[must_use]
    pub fn new() -> Self {
        Self(Compress::new(Compression::default(), false))
    }

    /// The next frame.
    ///
    /// # Errors
    ///
    /// If the payload is longer than a frame may be.
    pub fn frame(&mut self, kind: Kind, payload: &[u8]) -> io::Result<Vec<u8>> {
        if payload.len() > LONGEST {
            return Err(io::Error::other(
                "an interval takes more than 1 GiB: trace fewer VMs (--vm), or fewer drill-downs (--with)",
            ));
        }
        let mut frame = vec![0; HEAD];
        let mut rest = payload;
        loop {
            // A flush takes a few bytes more than its input at worst.
            frame.reserve(rest.len() / 2 + 64);
            let before = self.0.total_in();
            self.0.compress_vec(rest, &mut frame, FlushCompress::Sync).map_err(io::Error::other)?;
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(rest.len());
            rest = &rest[taken..];
            // With room left, all that there is has been flushed.
            if rest.is_empty() && frame.len() < frame.capacity() {
                break;
            }
        }
        let length = u32::try_from(frame.len() - HEAD).map_err(io::Error::other)?;
        frame[0] = kind.byte();
        frame[1..HEAD].copy_from_slice(&length.to_le_bytes());
        let sum = checksum(&frame);
        frame.extend_from_slice(&sum.to_le_bytes());
        Ok(frame)
    }
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

/// Why there is no further frame.
#[derive(Debug)]
pub enum Stop {
    /// The file ends after a whole frame.
    End,
    /// It ends within one, or what follows is no frame: so many bytes are left over.
    Torn,
    /// It cannot be read.
    Io(io::Error),
}

/// Reads frames.
pub struct Unpacker<R> {
    from: R,
    stream: Decompress,
}

impl<R: Read> Unpacker<R> {
    /// At the first frame.
    pub fn new(from: R) -> Self {
        Self { from, stream: Decompress::new(false) }
    }

    /// The next frame.
    ///
    /// # Errors
    ///
    /// See [`Stop`].
    pub fn frame(&mut self) -> Result<(Kind, Vec<u8>), Stop> {
        let mut frame = Vec::new();
        match self.take(HEAD, &mut frame)? {
            0 => return Err(Stop::End),
            HEAD => {}
            _ => return Err(Stop::Torn),
        }
        let length = u32::from_le_bytes([frame[1], frame[2], frame[3], frame[4]]) as usize;
        if length > LONGEST || self.take(length, &mut frame)? < length {
            return Err(Stop::Torn);
        }
        let mut sum = Vec::new();
        if self.take(4, &mut sum)? < 4 || sum != checksum(&frame).to_le_bytes() {
            return Err(Stop::Torn);
        }
        Ok((Kind::of(frame[0]), self.unpack(&frame[HEAD..])?))
    }

    /// Appends up to `length` bytes; fewer only at the end.
    fn take(&mut self, length: usize, to: &mut Vec<u8>) -> Result<usize, Stop> {
        // As many as there are, not as many as a torn length says.
        (&mut self.from).take(length as u64).read_to_end(to).map_err(Stop::Io)
    }

    fn unpack(&mut self, packed: &[u8]) -> Result<Vec<u8>, Stop> {
        let mut payload = Vec::new();
        let mut rest = packed;
        loop {
            payload.reserve((rest.len() * 8).clamp(4096, 1 << 20));
            let before = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress_vec(rest, &mut payload, FlushDecompress::Sync)
                .map_err(|_| Stop::Torn)?;
            let taken = usize::try_from(self.stream.total_in() - before.0).unwrap_or(rest.len());
            rest = &rest[taken..];
            if payload.len() > LONGEST || status == Status::StreamEnd {
                return Err(Stop::Torn);
            }
            // A call may leave room and yet have more to give, of what it has taken in: it is done when it gives nothing.
            if taken == 0 && self.stream.total_out() == before.1 {
                return if rest.is_empty() { Ok(payload) } else { Err(Stop::Torn) };
            }
        }
    }
}

fn checksum(frame: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(frame);
    crc.sum()
}

/// Writes a frame whole, or says how the file was left.
///
/// # Errors
///
/// Those of the file.
pub fn put(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    to.write_all(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut packer = Packer::new();
        payloads.iter().flat_map(|payload| packer.frame(Kind::Interval, payload).unwrap()).collect()
    }

    fn unpack(file: &[u8]) -> (Vec<Vec<u8>>, Stop) {
        let mut unpacker = Unpacker::new(file);
        let mut payloads = Vec::new();
        loop {
            match unpacker.frame() {
                Ok((_, payload)) => payloads.push(payload),
                Err(stop) => return (payloads, stop),
            }
        }
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let payload = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..3000),
            prop::collection::vec(0u8..3, 0..30_000),
        ];
        prop::collection::vec(payload, 0..6)
    }

    #[test]
    fn what_repeats_costs_next_to_nothing() {
        let payload: Vec<u8> =
            (0..5000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut packer = Packer::new();
        let first = packer.frame(Kind::Interval, &payload).unwrap().len();
        let second = packer.frame(Kind::Interval, &payload).unwrap().len();
        assert!(first > 15_000 && second < first / 20, "{first}, {second}");
    }

    #[test]
    fn a_long_payload_that_packs_well_comes_back() {
        let payloads = [vec![7; 5_000_000], vec![], vec![1]];
        let (back, stop) = unpack(&pack(&payloads));
        assert!(back == payloads && matches!(stop, Stop::End));
    }

    proptest! {
        #[test]
        fn payloads_come_back(payloads in payloads()) {
            let (back, stop) = unpack(&pack(&payloads));
            prop_assert!(matches!(stop, Stop::End));
            prop_assert_eq!(back, payloads);
        }

        #[test]
        fn a_file_that_is_cut_off_anywhere_gives_its_whole_frames(payloads in payloads(), at in any::<prop::sample::Index>()) {
            let file = pack(&payloads);
            let at = at.index(file.len() + 1);
            let mut packer = Packer::new();
            let mut end = 0;
            let mut whole = 0;
            for payload in &payloads {
                end += packer.frame(Kind::Interval, payload).unwrap().len();
                whole += usize::from(end <= at);
            }
            let (back, stop) = unpack(&file[..at]);
            prop_assert_eq!(&back, &payloads[..whole]);
            prop_assert!(matches!(stop, Stop::End | Stop::Torn));
        }

        #[test]
        fn any_bytes_are_frames_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = unpack(&bytes);
        }

        #[test]
        fn a_changed_byte_is_noticed(payloads in payloads(), at in any::<prop::sample::Index>(), by in 1u8..) {
            let mut file = pack(&payloads);
            prop_assume!(!file.is_empty());
            let at = at.index(file.len());
            file[at] ^= by;
            let (back, _) = unpack(&file);
            prop_assert!(back.len() < payloads.len());
            prop_assert_eq!(&back[..], &payloads[..back.len()]);
        }
    }
}
