//! Cuts a stream of JSON objects into objects. QEMU puts one on a line, or, with `-qmp-pretty`, on several.

/// Remembers how far it has looked, so that each byte is looked at once however the bytes arrive.
#[derive(Debug, Default)]
pub(super) struct Framer {
    looked: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

/// The stream holds something between objects that is not white space.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotJson;

impl Framer {
    /// The length of the first object in `bytes`, white space before it included, once it is complete. After that the
    /// caller takes it away; until then `bytes` only grows.
    pub(super) fn first(&mut self, bytes: &[u8]) -> Result<Option<usize>, NotJson> {
        for byte in bytes.get(self.looked..).unwrap_or_default() {
            self.looked += 1;
            if self.in_string {
                self.in_string = self.escaped || *byte != b'"';
                self.escaped = !self.escaped && *byte == b'\\';
                continue;
            }
            match byte {
                b'{' => self.depth += 1,
                _ if self.depth == 0 && byte.is_ascii_whitespace() => {}
                _ if self.depth == 0 => return Err(NotJson),
                b'[' => self.depth += 1,
                b'"' => self.in_string = true,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(std::mem::take(self).looked));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Objects out of bytes that arrive in pieces of `step`, and whether all was JSON.
    fn cut(bytes: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
        let (mut framer, mut unread, mut frames) = (Framer::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(step.max(1)) {
            unread.extend_from_slice(piece);
            loop {
                match framer.first(&unread) {
                    Ok(Some(length)) => frames.push(unread.drain(..length).collect()),
                    Ok(None) => break,
                    Err(NotJson) => return (frames, false),
                }
            }
        }
        (frames, true)
    }

    #[test]
    fn objects_end_where_they_end() {
        let text = br#"{"a": "}{\"]\\"}  {"b": [{"c": {}}, "["]}
            {}{ "d""#;
        let (frames, all) = cut(text, 1);
        assert!(all);
        let frames: Vec<_> = frames.iter().map(|frame| String::from_utf8_lossy(frame)).collect();
        assert_eq!(
            frames.iter().map(|frame| frame.trim()).collect::<Vec<_>>(),
            [r#"{"a": "}{\"]\\"}"#, r#"{"b": [{"c": {}}, "["]}"#, "{}"]
        );
        assert_eq!(cut(b"QEMU 7.2", 3), (Vec::new(), false));
        assert_eq!(cut(b"{} 1", 1), (vec![b"{}".to_vec()], false));
    }

    proptest! {
        #[test]
        fn the_same_however_the_bytes_arrive(bytes in r#"[{}\[\]"\\ a\n]{0,40}"#, step in 1_usize..8) {
            prop_assert_eq!(cut(bytes.as_bytes(), step), cut(bytes.as_bytes(), usize::MAX));
        }

        #[test]
        fn any_bytes_are_survived(bytes in any::<Vec<u8>>(), step in 1_usize..8) {
            cut(&bytes, step);
        }
    }
}
