//! The checks, by subject.

mod cpu;
mod extended;
mod interrupts;
mod memory;
mod ports;

/// All of them.
pub fn all(takes_reserved_bits: bool) {
    cpu::run(takes_reserved_bits);
    extended::run();
    ports::run();
    memory::run();
    interrupts::run();
}
