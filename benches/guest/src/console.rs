//! COM1, a 16550 (National Semiconductor PC16550D), and the buffer of what goes there in the end.

use crate::cpu;
use core::fmt::{self, Write};

/// First port.
const BASE: u16 = 0x3f8;
/// Line control: 8 bits, no parity, one stop bit.
const LCR: u16 = BASE + 3;
const LCR_8N1: u8 = 3;
/// Line status, and its bit that says that the transmitter takes a byte.
const LSR: u16 = BASE + 5;
const LSR_THRE: u8 = 1 << 5;
/// Scratch: keeps what is written, and does nothing.
pub const SCRATCH: u16 = BASE + 7;

/// Prints at once.
pub fn print(text: fmt::Arguments<'_>) {
    cpu::out8(LCR, LCR_8N1);
    // The UART takes everything.
    let _printed = Uart.write_fmt(text);
}

struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while cpu::in8(LSR) & LSR_THRE == 0 {}
            cpu::out8(BASE, byte);
        }
        Ok(())
    }
}

/// Room for all lines.
const ROOM: usize = 16 * 1024;

/// Lines on their way.
pub struct Buffer {
    bytes: [u8; ROOM],
    used: usize,
}

impl Buffer {
    /// Without lines.
    pub const fn new() -> Self {
        Self { bytes: [0; ROOM], used: 0 }
    }

    /// What was written.
    pub fn text(&self) -> &str {
        let used = self.bytes.get(..self.used).unwrap_or_default();
        str::from_utf8(used).unwrap_or_default()
    }
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        self.bytes.get_mut(self.used..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}
