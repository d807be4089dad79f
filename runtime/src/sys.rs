//! Everything that needs `unsafe`: hypercalls, entry points, shared and device memory.
//!
//! The rest of the crate, and every component, is built on the safe interfaces of these modules.
#![allow(unsafe_code, reason = "this is the one place for it")]

#[cfg(kilonova)]
mod intrinsics;
pub mod lock;
pub mod memory;
pub mod mmio;
pub(crate) mod object;
pub mod physical;
pub mod port;
pub mod portal;
pub mod stack;
pub mod start;
pub mod syscall;
pub mod talc_heap;
pub mod thread;
pub mod tls;
pub mod tsc;
pub mod utcb;
