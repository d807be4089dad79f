//! Spaces: what a protection domain, a guest or a device can reach. One file per kind.

pub mod guest;
pub mod mem;
pub mod msr;
pub mod obj;
pub mod pio;

use crate::mem::Phys;
use crate::mem::ptab::{Done, Mapping};
use abi::cap::MemRights;
use abi::status::Status;

/// A space of memory: addresses that translate to physical ones.
pub trait Mappings {
    /// What is mapped at `addr`; see [`crate::mem::ptab::walk`].
    ///
    /// # Errors
    /// How many bytes are not mapped there.
    fn walk(&self, addr: u64) -> Result<Mapping, u64>;

    /// Maps or unmaps; see [`crate::mem::ptab::set`].
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn set(&self, addr: u64, level: u32, to: Option<(Phys, MemRights)>) -> Result<Done, Status>;
}
