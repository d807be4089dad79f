//! Results as lines on the first serial line.

use core::fmt::{self, Debug, Display, Write};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::sys::port;

/// Data port of the 16550; its line status register, and the bit "data ready".
const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const DATA_READY: u64 = 1;

static COUNT: AtomicU32 = AtomicU32::new(0);

struct Line;

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The virtual transmitter is never busy.
        text.bytes().for_each(|byte| port::write_byte(COM1, byte));
        Ok(())
    }
}

fn line(text: fmt::Arguments<'_>) {
    // Writing to a Line cannot fail.
    let _written = writeln!(Line, "{text}");
}

/// The checks that follow belong together.
pub fn section(name: &str) {
    line(format_args!("# {name}"));
}

/// Result of one check.
pub fn check<T: PartialEq + Debug>(name: impl Display, got: T, expected: T) {
    let number = COUNT.fetch_add(1, Relaxed) + 1;
    if got == expected {
        line(format_args!("ok {number} - {name}"));
    } else {
        line(format_args!("not ok {number} - {name}: got {got:x?}, expected {expected:x?}"));
    }
}

/// A check that is not made, because the machine is known to fail it for good.
pub fn deviates(name: &str, why: &str) {
    let number = COUNT.fetch_add(1, Relaxed) + 1;
    line(format_args!("not ok {number} - {name} # TODO {why}"));
}

/// A check of a condition.
pub fn holds(name: impl Display, condition: bool) {
    check(name, condition, true);
}

/// The plan, as the last line; then waits for a key, so that it has been seen before the machine is off.
pub fn finish() {
    line(format_args!("1..{}", COUNT.load(Relaxed)));
    while port::read_all(LINE_STATUS, 0)[0] & DATA_READY == 0 {}
}
