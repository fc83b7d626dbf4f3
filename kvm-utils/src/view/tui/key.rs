//! Keys, and the bytes by which terminals tell them.
//!
//! Bytes may come in any portions. What is no key that is used here is read as a whole and dropped, so that no part of
//! it acts like one.

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Return, also of the numeric block.
    Enter,
    /// Escape.
    Esc,
    /// The key above Return.
    Backspace,
    /// Tabulator.
    Tab,
    /// Shift and tabulator.
    BackTab,
    /// Arrow.
    Up,
    /// Arrow.
    Down,
    /// Arrow.
    Left,
    /// Arrow.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// F1.
    Help,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L: the screen is to be drawn anew.
    Redraw,
}

const ESC: u8 = 0x1b;
/// Longer sequences than this are no keys (ECMA-48 sets no limit).
const LONGEST: usize = 64;

/// What has been read of a key so far.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
    /// Within a sequence that is too long: its end is awaited.
    drop: bool,
}

/// What a beginning of bytes is.
enum Read {
    /// A key, or nothing that is used here, of so many bytes.
    Whole(usize, Option<Key>),
    /// There must be more to come.
    Part,
}

impl Decoder {
    /// The keys that `bytes` complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        for byte in bytes {
            self.pending.push(*byte);
            while let Some((length, key)) = self.first() {
                self.pending.drain(..length);
                keys.extend(key);
            }
        }
        keys
    }

    /// Whether more bytes are awaited: if none come soon, [`Self::flush`].
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// No more bytes came: a sole ESC is the key, any other beginning is dropped.
    pub fn flush(&mut self) -> Option<Key> {
        let esc = self.pending == [ESC];
        self.pending.clear();
        self.drop = false;
        esc.then_some(Key::Esc)
    }

    fn first(&mut self) -> Option<(usize, Option<Key>)> {
        if self.pending.is_empty() {
            return None;
        }
        let read = read(&self.pending);
        match read {
            Read::Whole(length, key) => {
                let key = if std::mem::take(&mut self.drop) { None } else { key };
                Some((length, key))
            }
            Read::Part => {
                if self.pending.len() > LONGEST {
                    // Its introducer stays, so that its end is known for what it is.
                    self.pending.truncate(2);
                    self.drop = true;
                }
                None
            }
        }
    }
}

/// The first key of `bytes`, of which there is at least one.
fn read(bytes: &[u8]) -> Read {
    let one = |key| Read::Whole(1, key);
    match bytes[0] {
        b'\r' | b'\n' => one(Some(Key::Enter)),
        b'\t' => one(Some(Key::Tab)),
        0x08 | 0x7f => one(Some(Key::Backspace)),
        0x03 => one(Some(Key::Interrupt)),
        0x0c => one(Some(Key::Redraw)),
        0x1a => one(Some(Key::Suspend)),
        ESC => escape(bytes),
        0..0x20 => one(None),
        byte @ b' '..=b'~' => one(Some(Key::Char(char::from(byte)))),
        _ => character(bytes),
    }
}

/// A character of several bytes in UTF-8.
fn character(bytes: &[u8]) -> Read {
    let length = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Read::Whole(1, None),
    };
    let have = &bytes[..length.min(bytes.len())];
    match std::str::from_utf8(have) {
        Ok(text) => Read::Whole(have.len(), text.chars().next().filter(|c| !c.is_control()).map(Key::Char)),
        Err(error) if error.error_len().is_none() => Read::Part,
        Err(_) => Read::Whole(1, None),
    }
}

/// What begins with ESC (ECMA-48 5.3 and 5.4; the key codes are those of xterm, rxvt and Linux).
fn escape(bytes: &[u8]) -> Read {
    match bytes.get(1) {
        None => Read::Part,
        Some(b'[') => control_sequence(bytes),
        // SS3: keys in application mode.
        Some(b'O') => match bytes.get(2) {
            None => Read::Part,
            Some(byte) => Read::Whole(
                3,
                match byte {
                    b'M' => Some(Key::Enter),
                    b'P' => Some(Key::Help),
                    byte => arrow(*byte),
                },
            ),
        },
        // Strings, which end with ST or BEL: answers of a terminal that nobody asked.
        Some(b']' | b'P' | b'_' | b'^' | b'X') => {
            let end = bytes.windows(2).skip(2).position(|pair| pair == [ESC, b'\\']).map(|at| at + 4);
            let bell = bytes.iter().position(|byte| *byte == 0x07).map(|at| at + 1);
            match [end, bell].into_iter().flatten().min() {
                Some(length) => Read::Whole(length, None),
                None => Read::Part,
            }
        }
        // ESC, then another key: both were pressed.
        Some(_) => Read::Whole(1, Some(Key::Esc)),
    }
}

/// CSI, parameters, intermediate bytes, final byte.
fn control_sequence(bytes: &[u8]) -> Read {
    // Linux: function keys are CSI [ A and so on.
    if bytes.get(2) == Some(&b'[') {
        return match bytes.get(3) {
            None => Read::Part,
            Some(byte) => Read::Whole(4, (*byte == b'A').then_some(Key::Help)),
        };
    }
    let Some(length) = bytes[2..].iter().position(|byte| !(0x20..0x40).contains(byte)) else {
        return Read::Part;
    };
    let last = bytes[2 + length];
    if !(0x40..0x7f).contains(&last) {
        // Broken off: what follows is something else.
        return Read::Whole(2 + length, None);
    }
    let first = bytes[2..2 + length].split(|byte| *byte == b';').next().unwrap_or_default();
    let key = match (last, first) {
        (b'~', b"1" | b"7") => Some(Key::Home),
        (b'~', b"4" | b"8") => Some(Key::End),
        (b'~', b"5") => Some(Key::PageUp),
        (b'~', b"6") => Some(Key::PageDown),
        (b'~', b"11") => Some(Key::Help),
        (b'Z', _) => Some(Key::BackTab),
        (b'P', _) => Some(Key::Help),
        (byte, _) => arrow(byte),
    };
    Read::Whole(3 + length, key)
}

fn arrow(last: u8) -> Option<Key> {
    Some(match last {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        let mut keys = decoder.feed(bytes);
        keys.extend(decoder.flush());
        keys
    }

    #[test]
    fn keys_of_common_terminals() {
        use Key::*;
        for (bytes, key) in [
            (&b"\x1b[A"[..], Up),
            (b"\x1bOB", Down),
            (b"\x1b[1;5C", Right),
            (b"\x1b[D", Left),
            (b"\x1b[5~", PageUp),
            (b"\x1b[6~", PageDown),
            (b"\x1b[H", Home),
            (b"\x1b[1~", Home),
            (b"\x1b[7~", Home),
            (b"\x1bOF", End),
            (b"\x1b[4~", End),
            (b"\x1b[8~", End),
            (b"\x1b[Z", BackTab),
            (b"\x1bOM", Enter),
            (b"\r", Enter),
            (b"\t", Tab),
            (b"\x7f", Backspace),
            (b"\x08", Backspace),
            (b"\x1b", Esc),
            (b"\x1bOP", Help),
            (b"\x1b[11~", Help),
            (b"\x1b[[A", Help),
            (b"\x03", Interrupt),
            (b"\x1a", Suspend),
            (b"\x0c", Redraw),
            (b"q", Char('q')),
            ("デ".as_bytes(), Char('デ')),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_dropped_as_a_whole() {
        // Focus, a mouse, a colour that a terminal answers with, F5, Delete.
        for bytes in [
            &b"\x1b[I"[..],
            b"\x1b[<0;10;20M",
            b"\x1b]11;rgb:0000/0000/0000\x07",
            b"\x1bP1$r0m\x1b\\",
            b"\x1b[15~",
            b"\x1b[3~",
        ] {
            assert_eq!(keys(&[bytes, b"j"].concat()), [Key::Char('j')], "{bytes:?}");
        }
        let long = [b"\x1b[".as_slice(), &[b'1'; 1000], b"Aj"].concat();
        assert_eq!(keys(&long), [Key::Char('j')]);
    }

    #[test]
    fn escape_before_another_key_is_a_key() {
        assert_eq!(keys(b"\x1bq"), [Key::Esc, Key::Char('q')]);
        assert_eq!(keys(b"\x1b\x1b[A"), [Key::Esc, Key::Up]);
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(b"\x1b"), []);
        assert!(decoder.is_waiting());
        assert_eq!(decoder.feed(b"[A"), [Key::Up]);
        assert!(!decoder.is_waiting());
    }

    proptest! {
        #[test]
        fn portions_do_not_matter(bytes in prop::collection::vec(prop_oneof![
            any::<u8>(), Just(0x1b), Just(b'['), Just(b'O'), b'0'..=b'9', b'A'..=b'H'
        ], 0..200), cuts in prop::collection::vec(1usize..7, 1..9)) {
            let mut decoder = Decoder::default();
            let mut keys = Vec::new();
            let (mut rest, mut cut) = (bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
                keys.extend(decoder.feed(now));
                rest = later;
            }
            prop_assert!(decoder.pending.len() <= LONGEST + 1);
            prop_assert_eq!(keys, Decoder::default().feed(&bytes));
        }
    }
}
