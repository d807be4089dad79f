//! Everything that needs assembly: all of it is the kernel's own business, in a machine that is its own.
#![allow(unsafe_code, reason = "instructions of ring 0 have no safe form")]

mod entry;
pub mod exception;
pub mod extended;
pub mod instruction;
pub mod lapic;
pub mod legacy;
pub mod memory;
pub mod port;
pub mod power;
pub mod task;
