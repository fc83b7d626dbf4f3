//! COM1: everything that the payload says.

use crate::port::{inb, outb};

const COM1: u16 = 0x3f8;
/// Offsets of registers, and bits, of a 16550: data; interrupt enable; FIFO control and interrupt identification; line control; modem control;
/// line status (NS PC16550D data sheet, table II).
const IER: u16 = 1;
const FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const DIVISOR_LATCH: u8 = 0x80;
const EIGHT_BITS: u8 = 3;
const FIFO_ON_AND_EMPTY: u8 = 7;
const FIFO_IS_ON: u8 = 0xc0;
const READY: u8 = 0x20;
/// Bytes that may be written when the transmitter is ready.
const FIFO: u32 = 16;
/// How often to look whether it is ready. One that never becomes ready is written to all the same.
const LOOKS: u32 = 10_000;

/// The port. There is one: whoever needs it gets it passed.
pub struct Serial {
    /// Bytes that may be written without looking.
    room: u32,
    fifo: u32,
    /// How often to look; once it was never ready, not again.
    looks: u32,
}

impl Serial {
    /// Sets it to 115200 baud, 8N1, without interrupts.
    pub fn open() -> Self {
        outb(COM1 + IER, 0);
        outb(COM1 + LCR, DIVISOR_LATCH | EIGHT_BITS);
        outb(COM1, 1);
        outb(COM1 + IER, 0);
        outb(COM1 + LCR, EIGHT_BITS);
        outb(COM1 + FCR, FIFO_ON_AND_EMPTY);
        outb(COM1 + MCR, 3);
        let fifo = if inb(COM1 + FCR) & FIFO_IS_ON == FIFO_IS_ON { FIFO } else { 1 };
        Self { room: 0, fifo, looks: LOOKS }
    }

    fn byte(&mut self, byte: u8) {
        if self.room == 0 {
            let mut left = self.looks;
            while left > 0 && inb(COM1 + LSR) & READY == 0 {
                core::hint::spin_loop();
                left -= 1;
            }
            if left == 0 {
                self.looks = 1;
            }
            self.room = self.fifo;
        }
        self.room -= 1;
        outb(COM1, byte);
    }

    /// Text as it is.
    pub fn raw(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            self.byte(byte);
        }
    }

    /// A number.
    pub fn number(&mut self, number: u64) {
        let mut left = number;
        let mut weight = 1;
        while left >= 10 {
            left /= 10;
            weight *= 10;
        }
        let mut rest = number;
        while weight > 0 {
            self.byte(b'0' + (rest / weight) as u8);
            rest %= weight;
            weight /= 10;
        }
    }

    /// A number in hexadecimal, as a JSON string: `"0x1b"`.
    pub fn hex(&mut self, number: u64) {
        self.raw("\"0x");
        let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            let value = (number >> (digit * 4) & 0xf) as u8;
            self.byte(if value < 10 { b'0' + value } else { b'a' + value - 10 });
        }
        self.byte(b'"');
    }

    /// A JSON string. What is no printable ASCII becomes a question mark.
    pub fn string(&mut self, text: &[u8]) {
        self.byte(b'"');
        for &byte in text {
            match byte {
                b'"' | b'\\' => {
                    self.byte(b'\\');
                    self.byte(byte);
                }
                b' '..=b'~' => self.byte(byte),
                _ => self.byte(b'?'),
            }
        }
        self.byte(b'"');
    }
}
