//! Model-specific registers of a virtual CPU: which ones the hardware keeps for the guest, which
//! ones a device model owns, and the values of those that only have to be remembered.
//!
//! The set is what a Linux 6.1 kernel touches on AMD family 17h and on Intel, each with the
//! behaviour that keeps it from warning. Everything else raises #GP, which Linux probes for.

mod number;
mod policy;

use std::collections::BTreeMap;

pub use number::Msr;
pub use policy::{Forwarded, MsrPolicy, PAT_RESET, policy};

/// RDMSR or WRMSR as the dispatcher sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrOutcome {
    /// Done; for reads, with this value.
    Value(u64),
    /// Another part of the machine owns the register.
    Forward(Forwarded),
    /// The guest gets #GP(0).
    Fault,
}

/// Values of the registers that are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsrFile {
    stored: BTreeMap<u32, u64>,
    physical_address_bits: u8,
}

impl MsrFile {
    /// Reset values, as firmware leaves them: MTRRs on, write-back by default, the device hole
    /// below 4 GiB and video memory uncached.
    pub fn new(physical_address_bits: u8) -> Self {
        let mut file = MsrFile { stored: BTreeMap::new(), physical_address_bits };
        file.set_firmware_mtrrs();
        file
    }

    /// RDMSR of `msr`.
    #[inline]
    pub fn read(&self, msr: Msr) -> MsrOutcome {
        // What guests access most often, without the table.
        if msr.is_local_apic() { MsrOutcome::Forward(Forwarded::LocalApic) } else { self.read_any(msr) }
    }

    fn read_any(&self, msr: Msr) -> MsrOutcome {
        match policy(msr) {
            MsrPolicy::Stored { reset, .. } => MsrOutcome::Value(self.stored.get(&msr.0).copied().unwrap_or(reset)),
            MsrPolicy::Constant(value) | MsrPolicy::Ignored(value) => MsrOutcome::Value(value),
            MsrPolicy::Forward(owner) => MsrOutcome::Forward(owner),
            MsrPolicy::WriteOnly | MsrPolicy::Fault => MsrOutcome::Fault,
        }
    }

    /// WRMSR of `value` to `msr`.
    #[inline]
    pub fn write(&mut self, msr: Msr, value: u64) -> MsrOutcome {
        if msr.is_local_apic() { MsrOutcome::Forward(Forwarded::LocalApic) } else { self.write_any(msr, value) }
    }

    fn write_any(&mut self, msr: Msr, value: u64) -> MsrOutcome {
        match policy(msr) {
            MsrPolicy::Stored { valid, .. } => {
                if !valid.accepts(value, self.physical_address_bits) {
                    return MsrOutcome::Fault;
                }
                self.stored.insert(msr.0, value);
                MsrOutcome::Value(value)
            }
            MsrPolicy::Ignored(_) | MsrPolicy::WriteOnly => MsrOutcome::Value(value),
            MsrPolicy::Forward(owner) => MsrOutcome::Forward(owner),
            MsrPolicy::Constant(_) | MsrPolicy::Fault => MsrOutcome::Fault,
        }
    }

    fn set_firmware_mtrrs(&mut self) {
        use crate::memory::{DEVICE_HOLE, DEVICE_HOLE_END};
        /// Write-back in all eight fields of a fixed-range register.
        const ALL_WRITE_BACK: u64 = 0x0606_0606_0606_0606;
        /// Variable-range mask: the range is valid.
        const VALID: u64 = 1 << 11;
        /// Default type write-back, fixed ranges and MTRRs enabled.
        const ENABLED_WRITE_BACK: u64 = 1 << 11 | 1 << 10 | 6;
        let bits = u32::from(self.physical_address_bits).clamp(36, 52);
        let size = DEVICE_HOLE_END - DEVICE_HOLE;
        let mask = ((1 << bits) - 1) & !(size - 1);
        let mut set = |msr: Msr, value| self.stored.insert(msr.0, value);
        for msr in Msr::MTRR_FIXED.into_iter().filter(|msr| *msr != Msr::MTRR_FIX_16K_A0000) {
            set(msr, ALL_WRITE_BACK);
        }
        // Type 0, uncached, is in the base register.
        set(Msr::MTRR_PHYS_BASE_0, DEVICE_HOLE);
        set(Msr::MTRR_PHYS_MASK_0, mask | VALID);
        set(Msr::MTRR_DEF_TYPE, ENABLED_WRITE_BACK);
    }
}

#[cfg(test)]
mod tests;
