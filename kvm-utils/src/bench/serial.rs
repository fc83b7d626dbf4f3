//! As much of a 16550 as a program needs that prints: what it writes is collected, line by line.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// First port of COM1 (IBM PC/AT).
const COM1: u16 = 0x3f8;
/// One behind its last port.
const COM1_END: u16 = COM1 + 8;
/// Transmitter holding register, receiver buffer, or the divisor's low byte.
const DATA: u16 = 0;
/// Line control register.
const LCR: u16 = 3;
/// Line status register.
const LSR: u16 = 5;
/// LCR: the first two ports are the divisor (DLAB).
const LCR_DIVISOR: u8 = 1 << 7;
/// LSR: transmitter holding register and transmitter are empty.
const LSR_EMPTY: u8 = 0x60;

/// Longest line that is kept, bytes: what is beyond is cut off.
const LINE_MAX: usize = 16 << 20;

/// COM1 of one guest, shared by its vCPUs' threads.
#[derive(Debug, Default)]
pub(super) struct Serial(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    lcr: u8,
    line: Vec<u8>,
    lines: Vec<String>,
}

/// Whether a port is COM1's.
pub(super) fn is_com1(port: u16) -> bool {
    (COM1..COM1_END).contains(&port)
}

impl Serial {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest writes bytes to one of the ports. Whether that ended a line.
    pub(super) fn write(&self, port: u16, data: &[u8]) -> bool {
        let mut state = self.state();
        let before = state.lines.len();
        for &byte in data {
            match port - COM1 {
                DATA if state.lcr & LCR_DIVISOR == 0 => state.push(byte),
                LCR => state.lcr = byte,
                _ => {}
            }
        }
        state.lines.len() > before
    }

    /// The guest reads one of the ports: nothing is ever received, and the transmitter is always ready.
    pub(super) fn read(&self, port: u16) -> u8 {
        match port - COM1 {
            LCR => self.state().lcr,
            LSR => LSR_EMPTY,
            _ => 0,
        }
    }

    /// Takes the whole lines that came since.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.state().lines)
    }

    /// Takes what was begun and not ended, at the end.
    pub(super) fn take_rest(&self) -> Option<String> {
        let rest = std::mem::take(&mut self.state().line);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

impl State {
    fn push(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                let line = std::mem::take(&mut self.line);
                self.lines.push(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
            }
            _ if self.line.len() < LINE_MAX => self.line.push(byte),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_comes_in_lines_and_settings_are_no_text() {
        let serial = Serial::default();
        assert_eq!((serial.read(COM1 + LSR), serial.read(COM1 + 2)), (0x60, 0));
        serial.write(COM1 + LCR, &[0x83]);
        serial.write(COM1, &[1]);
        assert_eq!(serial.read(COM1 + LCR), 0x83);
        serial.write(COM1 + LCR, &[3]);
        assert!(!serial.write(COM1, b"{\"a\":"));
        assert!(serial.write(COM1, b"1}\r\n\nrest"));
        assert_eq!(serial.take(), ["{\"a\":1}", ""]);
        assert_eq!(
            (serial.take().len(), serial.take_rest(), serial.take_rest()),
            (0, Some("rest".into()), None)
        );
        assert!(is_com1(0x3ff) && !is_com1(0x400) && !is_com1(0x3f7));
    }
}
