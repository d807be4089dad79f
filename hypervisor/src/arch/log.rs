//! The kernel's own lines: the banner, and what went wrong. Writing waits for the serial line, with interrupts off. Once the root task
//! runs, it owns that line, and the kernel only writes if itself or the root task is broken: see [`crate::journal`].

use super::x86;
use crate::mem::lock::Lock;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// 16550 registers (data sheet, table 1).
mod reg {
    pub const DATA: u16 = 0;
    pub const INTERRUPT_ENABLE: u16 = 1;
    pub const FIFO_CONTROL: u16 = 2;
    pub const LINE_CONTROL: u16 = 3;
    pub const MODEM_CONTROL: u16 = 4;
    pub const LINE_STATUS: u16 = 5;
}

const COM1: u16 = 0x3f8;
const COM2: u16 = 0x2f8;
/// Divisor latches in the place of data and interrupt enable; eight data bits, one stop bit, no parity (line control).
const DIVISOR_LATCH: u8 = 1 << 7;
const EIGHT_BITS: u8 = 0b11;
/// Divisor for 115200 baud.
const DIVISOR: u8 = 1;
/// Enable and clear both (FIFO control).
const FIFOS: u8 = 0b111;
/// Data terminal ready, request to send (modem control).
const READY: u8 = 0b11;
/// Transmitter empty.
const THRE: u8 = 1 << 5;
/// How often to look for an empty transmitter before giving up on a line that is not there.
const PATIENCE: u32 = 100_000;

static PORT: AtomicU64 = AtomicU64::new(0);
static LOCK: Lock = Lock::new();

/// Base port of the line in use; 0 for none.
pub fn port() -> u16 {
    PORT.load(Relaxed) as u16
}

/// Chooses the line by the boot command line: `log=com1` (the default), `log=com2` or `log=none`.
pub fn init(command_line: &str) {
    let choice = command_line.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix("log="));
    let port = match choice {
        Some("none") => return,
        Some("com2") => COM2,
        _ => COM1,
    };
    x86::outb(port + reg::INTERRUPT_ENABLE, 0);
    x86::outb(port + reg::LINE_CONTROL, DIVISOR_LATCH);
    x86::outb(port + reg::DATA, DIVISOR);
    x86::outb(port + reg::INTERRUPT_ENABLE, 0);
    x86::outb(port + reg::LINE_CONTROL, EIGHT_BITS);
    x86::outb(port + reg::FIFO_CONTROL, FIFOS);
    x86::outb(port + reg::MODEM_CONTROL, READY);
    PORT.store(u64::from(port), Relaxed);
}

struct Serial(u16);

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let mut patience = PATIENCE;
            while x86::inb(self.0 + reg::LINE_STATUS) & THRE == 0 && patience > 0 {
                patience -= 1;
            }
            x86::outb(self.0 + reg::DATA, byte);
        }
        Ok(())
    }
}

/// Writes a line.
pub fn line(text: fmt::Arguments) {
    let port = port();
    if port == 0 || cfg!(not(target_os = "none")) {
        return;
    }
    let _guard = LOCK.lock();
    // Writing to a Serial cannot fail.
    let _ = writeln!(Serial(port), "[kernel] {text}");
}

/// Reports a bug of the kernel, or that it cannot start, and stops.
pub fn fatal(text: fmt::Arguments) -> ! {
    let port = port();
    if port != 0 {
        // The lock may be held by the code that failed.
        let _ = writeln!(Serial(port), "[kernel] panic: {text}");
    }
    x86::halt()
}
