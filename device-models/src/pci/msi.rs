//! The MSI capability with one 64-bit message (PCI Local Bus 3.0, 6.8.1).

use super::config::{CapabilityOffset, ConfigSpace, LayoutError};
use crate::bus::mmio::Gpa;

const ID: u8 = 0x05;
const CONTROL_ENABLE: u32 = 1 << 16;
const CONTROL_64_BIT: u32 = 1 << 23;
const ADDRESS_LOW: u32 = !0b11;
const DATA: u32 = 0xffff;

/// Where a function's MSI capability is.
#[derive(Clone, Copy, Debug)]
pub struct MsiCapability(CapabilityOffset);

impl MsiCapability {
    /// Adds the capability.
    ///
    /// # Errors
    /// [`LayoutError::Full`] when it does not fit.
    pub fn add(space: &mut ConfigSpace) -> Result<Self, LayoutError> {
        let body = [(CONTROL_64_BIT, CONTROL_ENABLE), (0, ADDRESS_LOW), (0, u32::MAX), (0, DATA)];
        space.add_capability(ID, &body).map(Self)
    }

    /// The message to write, where the guest enabled it and lets the function write.
    #[must_use]
    pub fn message(&self, space: &ConfigSpace) -> Option<(Gpa, u32)> {
        let dword = |index| space.capability(self.0, index);
        let enabled = dword(0) & CONTROL_ENABLE != 0 && space.bus_master();
        let address = u64::from(dword(2)) << 32 | u64::from(dword(1));
        enabled.then(|| (Gpa(address), dword(3)))
    }
}
