//! What this CPU's SVM offers, and which of it is used.

use super::vmcb::{self, group};
use crate::arch::cpuid;
use crate::arch::x86::{self, Msr};
use abi::hip::{Features, VcpuAbsence};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

const VM_CR_SVMDIS: u64 = 1 << 4;

bitflags::bitflags! {
    /// What SVM may have and is used here: bits of CPUID 8000_000A, EDX (APM vol. 3, E.4.9).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Has: u32 {
        const NP = 1 << 0;
        const NRIPS = 1 << 3;
        const VMCB_CLEAN = 1 << 5;
        const FLUSH_BY_ASID = 1 << 6;
        const DECODE_ASSISTS = 1 << 7;
    }
}

/// Address-space ids that there are.
pub static ASIDS: AtomicU64 = AtomicU64::new(2);
pub(super) static HAS: AtomicU32 = AtomicU32::new(0);
/// Interrupts are injected as virtual ones.
pub static VIRTUAL_INTERRUPTS: AtomicBool = AtomicBool::new(false);

/// What this CPU's SVM offers.
///
/// # Errors
/// Why there is none, or none with nested paging.
pub fn detect() -> Result<Features, VcpuAbsence> {
    if !cpuid::Flag::SVM.is_set() {
        return Err(VcpuAbsence::Hardware);
    }
    let leaf = x86::cpuid(cpuid::leaf::SVM, 0);
    let has = Has::from_bits_truncate(leaf.edx);
    let features = judge(has, x86::rdmsr(Msr::VmCr))?;
    ASIDS.store(u64::from(leaf.ebx), Relaxed);
    HAS.store(has.bits(), Relaxed);
    vmcb::KEPT.store(if has.contains(Has::VMCB_CLEAN) { group::ALL } else { group::NONE }, Relaxed);
    VIRTUAL_INTERRUPTS.store(is_qemu_tcg(), Relaxed);
    Ok(features)
}

/// Whether QEMU's code generator is the CPU, which delivers interrupts in EVENTINJ twice (decision 0007).
pub fn is_qemu_tcg() -> bool {
    cpuid::Flag::HYPERVISOR.is_set() && cpuid::name(cpuid::leaf::HYPERVISOR) == *b"TCGT"
}

/// What SVM with these features and this VM_CR offers (APM vol. 2, 15.4).
fn judge(has: Has, vm_cr: u64) -> Result<Features, VcpuAbsence> {
    if vm_cr & VM_CR_SVMDIS != 0 {
        return Err(VcpuAbsence::Firmware);
    }
    if !has.contains(Has::NP) {
        return Err(VcpuAbsence::Hardware);
    }
    let mut features = Features::SVM;
    features.set(Features::NRIP, has.contains(Has::NRIPS));
    features.set(Features::DECODE_ASSISTS, has.contains(Has::DECODE_ASSISTS));
    Ok(features)
}

/// Whether the CPU has it.
pub fn has(feature: Has) -> bool {
    HAS.load(Relaxed) & feature.bits() != 0
}

/// Names of the optional features that are used.
pub fn used() -> impl Iterator<Item = &'static str> {
    (Has::from_bits_truncate(HAS.load(Relaxed)) - Has::NP).iter_names().map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told() {
        let all = Has::NP | Has::NRIPS;
        assert_eq!(judge(all, 0), Ok(Features::SVM | Features::NRIP));
        assert_eq!(judge(all, VM_CR_SVMDIS), Err(VcpuAbsence::Firmware));
        assert_eq!(judge(Has::NRIPS, 0), Err(VcpuAbsence::Hardware));
    }
}
