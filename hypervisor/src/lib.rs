//! The Kilonova microhypervisor: everything that runs in ring 0.
//!
//! One file per kernel object (`pd ec sc pt sm hw`) and per space (`space/`); `sched`, `ipc`, `event`, `interrupt` and `smp`
//! are what happens between them; `syscall/` decodes hypercalls. `arch/` and `mem/` are the only homes of `unsafe`.
//! How it fits together: `docs/design/hypervisor.md`; the interface: `docs/abi.md`.
//!
//! The crate is a library so that everything but the boot code is compiled and tested on the host.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "tests state their expectations tersely"))]

pub mod account;
#[allow(unsafe_code, reason = "home of instructions, entry code and device registers")]
pub mod arch;
pub mod boot;
pub mod cpu;
pub mod ec;
pub mod event;
pub mod frame;
pub mod hw;
pub mod interrupt;
pub mod ipc;
pub mod journal;
pub mod kernel;
#[allow(unsafe_code, reason = "home of the pool, objects and links; the argument is in its header")]
pub mod mem;
pub mod pd;
pub mod pt;
pub mod root;
pub mod sc;
pub mod sched;
pub mod sm;
pub mod smp;
pub mod space;
pub mod syscall;
pub mod timeout;

#[cfg(test)]
mod testing;
