//! The virtual-machine monitor without its hypercalls.
//!
//! The way of an exit: [`vcpu`] decodes it, asks [`vm`] for the machine, and lets the [`board`] or
//! one of the pure parts (CPUID, MSRs, emulator) handle it. What remains for the component's
//! `main` is the [`kernel::Kernel`], sessions, and guest memory.
//!
//! What comes from a guest (registers, memory, instruction bytes), from a file (kernel image) or
//! from a configuration is an allegation: each module checks it and answers with a typed error.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::panic, missing_docs) // a failing test is meant to panic
)]

pub mod acpi;
pub mod board;
pub mod config;
pub mod cpuid;
pub mod emulator;
pub mod exit_stats;
pub mod kernel;
pub mod linux_boot;
pub mod loader;
pub mod machine;
pub mod memory;
pub mod msr;
pub mod paging;
pub mod state;
#[cfg(test)]
mod testing;
pub mod vcpu;
pub mod vm;
