//! The checks, by subject.

mod cpu;
mod interrupts;
mod memory;
mod ports;

/// All of them.
pub fn all() {
    cpu::run();
    ports::run();
    memory::run();
    interrupts::run();
}
