//! Spaces: what a protection domain, a guest or a device can reach. One file per kind.

pub mod guest;
pub mod mem;
pub mod msr;
pub mod obj;
pub mod pio;
