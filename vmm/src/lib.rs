//! The pure parts of the virtual-machine monitor: everything that can be decided from registers,
//! guest memory and a configuration alone, without a hypercall. The component's `main` wires these
//! to virtual CPUs, device models and sessions.
//!
//! What comes from a guest (registers, memory, instruction bytes), from a file (kernel image) or
//! from a configuration is an allegation: each module checks it and answers with a typed error.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::panic, missing_docs) // a failing test is meant to panic
)]

pub mod acpi;
pub mod config;
pub mod cpuid;
pub mod emulator;
pub mod exit_stats;
pub mod linux_boot;
pub mod machine;
pub mod memory;
pub mod msr;
pub mod paging;
pub mod state;
