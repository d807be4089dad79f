//! Measures the hypervisor's operations one by one and prints a line for each: in instructions where the time stamp
//! counter counts those (QEMU with `-icount shift=0`, Bochs), in cycles on hardware.
//!
//! How is explained in `asm`, what in `rows`; `./x bench` runs it and renders the lines.
#![cfg_attr(kilonova, no_std, no_main)]
#![deny(unsafe_code)]

extern crate alloc;

#[allow(unsafe_code, reason = "exact counts need exact instructions: loops, handlers and hypercalls are assembly")]
mod asm;
mod domain;
mod memory;
mod report;
mod rows;
mod selectors;
mod thread;

runtime::root_task!(report::main);
