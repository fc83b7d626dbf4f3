//! /proc/PID/net/unix: the UNIX sockets of a network namespace.
//!
//! A line is `NUM: REFCOUNT PROTOCOL FLAGS TYPE STATE INODE[ PATH]` (unix_seq_show, net/unix/af_unix.c). What
//! connects to a listening socket gets a twin at the listener's end that has the listener's path: without inode until
//! the listener accepts it.

/// __SO_ACCEPTCON, include/linux/net.h: the socket listens.
const LISTENS: u32 = 1 << 16;
/// SS_CONNECTING, include/uapi/linux/net.h; shown for a connected socket that nobody has accepted yet.
const CONNECTING: u32 = 2;
/// SS_CONNECTED, the same file.
const CONNECTED: u32 = 3;

/// What a socket is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Waits for connections.
    Listening,
    /// A connection that nobody has accepted yet.
    Waiting,
    /// A connection.
    Connected,
    /// Anything else.
    Other,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) state: State,
    /// As in `socket:[INODE]`; 0 for a connection not yet accepted.
    pub(super) inode: u64,
    /// The path it was bound to, or that of the listener it comes from; empty if it has none.
    pub(super) path: Vec<u8>,
}

/// The sockets in the text of such a file. A path may hold a line end and so fake a line: that can make a socket look
/// taken, never free.
pub(super) fn parse(text: &[u8]) -> Vec<Entry> {
    text.split(|byte| *byte == b'\n').filter_map(entry).collect()
}

fn entry(line: &[u8]) -> Option<Entry> {
    let mut rest = line;
    let mut next = || {
        let start = rest.iter().position(|byte| *byte != b' ')?;
        let field = &rest[start..];
        let end = field.iter().position(|byte| *byte == b' ').unwrap_or(field.len());
        rest = &field[end..];
        std::str::from_utf8(&field[..end]).ok()
    };
    next()?.strip_suffix(':')?;
    let (_refcount, _protocol) = (next()?, next()?);
    let flags = u32::from_str_radix(next()?, 16).ok()?;
    let _type = next()?;
    let state = u32::from_str_radix(next()?, 16).ok()?;
    let inode = next()?.parse().ok()?;
    let path = rest.strip_prefix(b" ").unwrap_or_default().to_vec();
    let state = match state {
        _ if flags & LISTENS != 0 => State::Listening,
        CONNECTING => State::Waiting,
        CONNECTED => State::Connected,
        _ => State::Other,
    };
    Some(Entry { state, inode, path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_monitor_with_a_client_and_another_behind_it() {
        // Linux 6.18, QEMU 7.2.
        let text = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000009075a0d: 00000003 00000000 00000000 0001 03 505486 /run/vm 1/h\n\
            00000000606e5e60: 00000002 00000000 00010000 0001 01 505483 /run/vm 1/h\n\
            00000000b3d76cf4: 00000003 00000000 00000000 0001 02     0 /run/vm 1/h\n\
            0000000073ee6f65: 00000003 00000000 00000000 0001 03 505554\n\
            00000000e6b9a5ad: 00000002 00000000 00000000 0002 01 12345 @abstract\n";
        let found: Vec<_> = parse(text)
            .into_iter()
            .map(|entry| (entry.state, entry.inode, String::from_utf8(entry.path).expect("UTF-8")))
            .collect();
        let expected = [
            (State::Connected, 505_486, "/run/vm 1/h"),
            (State::Listening, 505_483, "/run/vm 1/h"),
            (State::Waiting, 0, "/run/vm 1/h"),
            (State::Connected, 505_554, ""),
            (State::Other, 12_345, "@abstract"),
        ];
        assert_eq!(found, expected.map(|(state, inode, path)| (state, inode, path.to_owned())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text in any::<Vec<u8>>()) {
            parse(&text);
        }
    }
}
