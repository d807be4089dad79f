//! The checks, by subject.

mod cpu;
mod extended;
mod interrupts;
mod memory;
mod ports;

/// What the CPU does that its manual does not say.
#[derive(Clone, Copy, Debug)]
pub struct Deviations {
    /// It lets the guest set bits of control registers that are none, and then refuses to enter it.
    pub takes_reserved_bits: bool,
    /// It arms no breakpoints of guests.
    pub never_breaks: bool,
    /// It does not say in DR6 why a debug exception came.
    pub forgets_reasons: bool,
}

/// All of them.
pub fn all(deviations: Deviations) {
    cpu::run(deviations);
    extended::run();
    ports::run();
    memory::run();
    interrupts::run();
}
