//! The checks, by subject.

mod cpu;
mod extended;
mod interrupts;
mod memory;
mod ports;

/// All of them.
pub fn all() {
    cpu::run();
    extended::run();
    ports::run();
    memory::run();
    interrupts::run();
}
