//! The UART that hypervisor and root task write the log to. In any other component it has no ports.

use core::fmt::{self, Write};

use abi::cap::root;
use abi::hypercall::Delegate;

use crate::sync::Mutex;
use crate::sys::port::PortRange;
use crate::sys::syscall;

/// Ports of a 16550 (National Semiconductor PC16550D, 8.0).
const PORTS: u16 = 8;
/// Transmitter holding register.
const THR: u16 = 0;
/// Line status register, and its bit that says that the holding register is empty.
const LSR: u16 = 5;
const LSR_THRE: u8 = 1 << 5;
/// How often the line status is looked at before a character is given up: a UART that is not there must not stop its user.
const PATIENCE: u32 = 1 << 20;

static UART: Mutex<Option<PortRange>> = Mutex::new(None);

/// Lets the root task use the ports of a UART.
#[must_use]
pub fn uart(base: u16) -> Option<PortRange> {
    let (src, count) = (u64::from(base), u64::from(PORTS));
    let delegate = Delegate { from: root::ALL_PIO, to: root::PIO, src, dst: src, count, rights: 1 };
    syscall::delegate(delegate).ok()?;
    PortRange::new(base, PORTS)
}

/// Takes over the UART at `port`, which the hypervisor has set up; 0: there is none.
pub fn open(port: u32) {
    let base = u16::try_from(port).ok().filter(|&base| base != 0);
    *UART.lock() = base.and_then(uart);
}

/// Writes a line. It needs no memory, so that the lack of it can be told.
pub fn write_line(line: fmt::Arguments<'_>) {
    if let Some(uart) = *UART.lock() {
        // The UART takes everything.
        let _written = Output(uart).write_fmt(line);
        b"\r\n".iter().for_each(|&byte| put(uart, byte));
    }
}

struct Output(PortRange);

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| put(self.0, byte));
        Ok(())
    }
}

fn put(uart: PortRange, byte: u8) {
    for _ in 0..PATIENCE {
        match uart.in8(LSR) {
            Ok(status) if status & LSR_THRE == 0 => {}
            _ => break,
        }
    }
    // The range has eight ports.
    let _written = uart.out8(THR, byte);
}
