//! The UART that the hypervisor logs to.

use abi::cap::root;
use abi::hypercall::Delegate;
use core::fmt::{self, Write};
use runtime::sync::Mutex;
use runtime::sys::port::PortRange;
use runtime::sys::syscall;

/// Ports of a 16550 (National Semiconductor PC16550D, 8.0).
const PORTS: u16 = 8;
/// Transmitter holding register.
const THR: u16 = 0;
/// Line status register, and its bit that says that the holding register is empty.
const LSR: u16 = 5;
const LSR_THRE: u8 = 1 << 5;

static UART: Mutex<Option<PortRange>> = Mutex::new(None);

/// Makes the registers of a UART accessible to this task.
pub fn uart(base: u16) -> Option<PortRange> {
    let src = u64::from(base);
    let delegate = Delegate { from: root::ALL_PIO, to: root::PIO, src, dst: src, count: u64::from(PORTS), rights: 1 };
    syscall::delegate(delegate).ok()?;
    PortRange::new(base, PORTS)
}

/// Takes over the UART at `port`.
pub fn open(port: u16) {
    *UART.lock() = uart(port);
}

/// Writes a line.
pub fn write_line(line: fmt::Arguments<'_>) {
    if let Some(uart) = *UART.lock() {
        // The UART takes everything.
        let _written = Output(uart).write_fmt(format_args!("{line}\r\n"));
    }
}

struct Output(PortRange);

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while self.0.in8(LSR).map_err(|_| fmt::Error)? & LSR_THRE == 0 {}
            self.0.out8(THR, byte).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}
