//! Queueing disciplines, from rtnetlink: include/uapi/linux/rtnetlink.h and pkt_sched.h. Anybody may ask.

use std::ffi::CStr;
use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// One of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Discipline {
    /// The device's name.
    pub device: String,
    /// `fq`, `fq_codel`, `mq`, ...
    pub kind: String,
}

/// `RTM_NEWQDISC`, `RTM_GETQDISC`, and of every netlink `NLMSG_ERROR` and `NLMSG_DONE`.
const NEW: u16 = 36;
const GET: u16 = 38;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const DUMP: u16 = 1 | 0x300;
/// `struct nlmsghdr`, `struct tcmsg`.
const HEADER: usize = 16;
const BODY: usize = 20;
/// `TCA_KIND`
const KIND: u16 = 1;
/// As large as the kernel makes its answers.
const ANSWER: usize = 32 * 1024;
/// More answers than any machine has devices.
const ANSWERS_MAX: usize = 1_000;

/// All of this network namespace.
pub(super) fn all() -> io::Result<Vec<Discipline>> {
    // The protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut request = Vec::with_capacity(HEADER + BODY);
    request.extend(((HEADER + BODY) as u32).to_ne_bytes());
    request.extend(GET.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.resize(HEADER + BODY, 0);
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut found = Vec::new();
    let mut answer = vec![0; ANSWER];
    for _ in 0..ANSWERS_MAX {
        let (length, _) = recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
        if read(&answer[..length], &mut found)? {
            break;
        }
    }
    let named = found.into_iter().map(|(index, kind)| Discipline { device: name(index), kind });
    Ok(named.collect())
}

/// Adds what one answer tells, device numbers and kinds; whether it was the last.
fn read(mut answer: &[u8], found: &mut Vec<(u32, String)>) -> io::Result<bool> {
    while let Some(length) = word(answer, 0).map(|length| length as usize) {
        let Some(message) = answer.get(..length).filter(|message| message.len() >= HEADER) else { break };
        match half(message, 4) {
            Some(DONE) => return Ok(true),
            Some(ERROR) => {
                let code = word(message, HEADER).map_or(0, |code| code as i32);
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            Some(NEW) => {
                if let (Some(index), Some(kind)) = (word(message, HEADER + 4), kind(message)) {
                    found.push((index, kind));
                }
            }
            _ => {}
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The attribute behind the body.
fn kind(message: &[u8]) -> Option<String> {
    let mut attributes = message.get(HEADER + BODY..)?;
    while let (Some(length), Some(name)) = (half(attributes, 0), half(attributes, 2)) {
        let length = usize::from(length).max(4);
        if name == KIND {
            let text = CStr::from_bytes_until_nul(attributes.get(4..length)?).ok()?;
            return Some(text.to_string_lossy().into_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A device's name, or its number.
fn name(index: u32) -> String {
    let mut buffer = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that the function asks for; it writes a string with its end, or nothing.
    let is_known = unsafe { !libc::if_indextoname(index, buffer.as_mut_ptr()).is_null() };
    let bytes = buffer.map(|byte| byte as u8);
    match CStr::from_bytes_until_nul(&bytes) {
        Ok(name) if is_known => name.to_string_lossy().into_owned(),
        _ => index.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_cut_ones_do_no_harm() {
        let mut message = Vec::new();
        message.extend(48_u32.to_ne_bytes());
        message.extend(NEW.to_ne_bytes());
        message.resize(HEADER + 4, 0);
        message.extend(2_u32.to_ne_bytes());
        message.resize(HEADER + BODY, 0);
        message.extend(7_u16.to_ne_bytes());
        message.extend(KIND.to_ne_bytes());
        message.extend(b"fq\0\0");
        message.resize(48, 0);
        let mut found = Vec::new();
        assert!(!read(&message, &mut found).unwrap());
        assert_eq!(found, [(2, "fq".to_owned())]);
        for length in 0..message.len() {
            assert!(!read(&message[..length], &mut found).unwrap());
        }
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn every_network_namespace_has_a_loopback() {
        // Where sockets of this kind are forbidden there is an error, and no hang.
        if let Ok(all) = all() {
            assert!(all.iter().all(|one| !one.device.is_empty() && !one.kind.is_empty()), "{all:?}");
        }
    }
}
