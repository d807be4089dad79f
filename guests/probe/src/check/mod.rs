//! The checks, by subject.

mod cpu;
mod interrupts;
mod memory;
mod ports;

/// All of them.
pub fn all(takes_reserved_bits: bool) {
    cpu::run(takes_reserved_bits);
    ports::run();
    memory::run();
    interrupts::run();
}
