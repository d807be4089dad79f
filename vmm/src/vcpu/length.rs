//! Lengths of intercepted instructions.
//!
//! VMX says with the exit where the next instruction is, and SVM with NRIPS how long this one is. On a CPU without, the frequent
//! instructions are taken to have the length that they have without prefixes: no assembler emits prefixes for them, which have no
//! meaning there. A guest that puts some in front is continued inside its own instruction, to nobody's harm but its own; to fetch and
//! decode at each CPUID would cost every other guest more than the exit itself.

use abi::state::{ArchState, Mtd};

use super::{Call, NextRip};

/// CPUID: 0F A2.
pub(super) const CPUID: u64 = 2;
/// RDMSR and WRMSR: 0F 32, 0F 30.
pub(super) const MSR: u64 = 2;
/// HLT: F4.
pub(super) const HLT: u64 = 1;
/// PAUSE: F3 90.
pub(super) const PAUSE: u64 = 2;
/// INVD: 0F 08.
pub(super) const INVD: u64 = 2;
/// XSETBV: 0F 01 D1.
pub(super) const XSETBV: u64 = 3;

/// Moves the instruction pointer behind the instruction, which has `known` bytes if the CPU does not say.
#[inline]
pub(super) fn advance(arch: &mut ArchState, call: &Call, known: u64) {
    if let Some(NextRip(next)) = call.vendor.next_rip(&call.words) {
        arch.rip = next;
        return;
    }
    let told = if call.delivered.contains(Mtd::RIP) { u64::from(arch.inst_len) } else { 0 };
    let length = if told == 0 { known } else { told };
    arch.rip = call.words.rip.wrapping_add(length);
}
