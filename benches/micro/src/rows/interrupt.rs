//! Latencies of interrupts and timeouts, to a thread that waits.

use crate::asm::{self, SUCCESS, interrupts};
use crate::report::{self, Report, Row};
use crate::selectors::LINE;
use crate::thread::{Place, Thread};
use abi::cap::root;
use abi::hypercall::{AssignInt, CpuId, IntSource};
use abi::status::Status;
use runtime::console;

/// Standard UARTs: base port and ISA interrupt.
const UARTS: [(u16, u32); 2] = [(0x3f8, 4), (0x2f8, 3)];
/// Registers of a 16550: interrupt enable, modem control, scratch.
const IER: u16 = 1;
const MCR: u16 = 4;
const SCR: u16 = 7;
/// OUT2 connects the interrupt to the PC's line.
const MCR_OUT2: u8 = 1 << 3;
/// Ticks between asking for a timeout and its end.
const DELAY: u64 = 50_000;

pub fn measure(report: &Report) -> Result<(), Status> {
    line(report)?;
    Thread::run(Place::default(), || {
        interrupts::expire::<DELAY>();
        SUCCESS
    })?;
    let row = Row { name: "timeout", user: 3, overhead: 0 };
    report.row(row, asm::durations());
    Ok(())
}

fn line(report: &Report) -> Result<(), Status> {
    const NAME: &str = "interrupt";
    let other = UARTS.iter().find(|(base, _)| *base != report.log_port);
    let uart = other.and_then(|&(base, gsi)| Some((base, gsi, console::uart(base)?)));
    let Some((base, gsi, uart)) = uart else {
        report.skip(NAME, "no ports");
        return Ok(());
    };
    // A scratch register that keeps what was written belongs to a UART.
    const PROBE: u8 = 0x5a;
    let present = uart.out8(SCR, PROBE).and_then(|()| uart.in8(SCR)) == Ok(PROBE);
    if !present || uart.out8(MCR, MCR_OUT2).is_err() {
        report.skip(NAME, "no second UART");
        return Ok(());
    }
    report::semaphore(LINE)?;
    let source = IntSource::Gsi { gsi, level: false, low: false };
    asm::hypercall(AssignInt { hw: root::HW, sm: LINE, cpu: CpuId(0), source }.encode())?;
    interrupts::use_port(base + IER);
    let raiser = Place { index: 1, priority: 50, ..Place::default() };
    let raiser = Thread::start(raiser, interrupts::raise)?;
    Thread::run(Place::default(), || {
        interrupts::wait();
        SUCCESS
    })?;
    raiser.stop()?;
    let row = Row { name: NAME, user: 6, overhead: 0 };
    report.row(row, asm::durations());
    Ok(())
}
