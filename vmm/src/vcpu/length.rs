//! Lengths of intercepted instructions.
//!
//! VMX says with the exit where the next instruction is, and SVM with NRIPS how long this one is. On a CPU without, the frequent instructions are taken to have the length that they have without prefixes: no
//! assembler emits prefixes for them, which have no meaning there. A guest that puts some in front is
//! continued inside its own instruction, to nobody's harm but its own; to fetch and decode at each
//! CPUID would cost every other guest more than the exit itself.

use abi::event::EventWords;
use abi::state::{ArchState, Mtd, gpr};
use vm_memory::GuestMemoryBackend;

use super::injection::{DEBUG_EXCEPTION, WINDOWS};
use super::{Boundary, Call, Deferred, Exit, Kernel, NextRip, Step, Trouble, Vcpu, selection};
use crate::state::Rflags;
use abi::state::Injection;

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

/// DR6: the exception comes after a single step (APM2 13.1.1).
const DR6_SINGLE_STEP: u64 = 1 << 14;

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// An instruction with these flags is done, and has changed this state.
    #[inline]
    pub(super) fn completed(&self, changed: Mtd, rflags: u64) -> Step {
        let boundary = Boundary::after_instruction(rflags);
        if rflags & (Rflags::TF | Rflags::RF).bits() == 0 {
            return Step::new(changed, boundary);
        }
        self.completed_debugged(changed, rflags, boundary)
    }

    /// The resume flag ends with the instruction, and a single step is over.
    #[cold]
    fn completed_debugged(&self, changed: Mtd, rflags: u64, boundary: Boundary) -> Step {
        self.vm.kernel.with_state(|arch| arch.rflags = rflags & !Rflags::RF.bits());
        let steps = rflags & Rflags::TF.bits() != 0;
        let boundary = if steps { boundary.with_exception(DEBUG_EXCEPTION) } else { boundary };
        Step::new(changed | Mtd::RFLAGS, boundary)
    }

    /// Has the exception of a single step wait for a recall that delivers DR6, which keeps what it holds. Nothing else is injected
    /// meanwhile.
    #[cold]
    pub(super) fn defer_step(&mut self, injection: Injection, boundary: &Boundary) -> Mtd {
        let selection = selection::RECALL | Mtd::DR;
        self.deferred = Some(Deferred { exit: Exit::Stepped, words: EventWords::default(), selection });
        self.vm.kernel.select_recall(self.index, selection);
        self.vm.kernel.recall(self.index);
        self.inject(Injection(injection.0 & WINDOWS), boundary)
    }

    /// The exception of a single step.
    pub(super) fn stepped(&self) -> Step {
        self.vm.kernel.with_state(|arch| {
            arch.dr6 |= DR6_SINGLE_STEP;
            Step::new(Mtd::DR, Boundary::at_exit(arch).with_debug_exception())
        })
    }

    /// Does nothing, which is all that an instruction of this length needs.
    pub(super) fn skip(&self, call: &Call, known: u64) -> Step {
        let rflags = self.vm.kernel.with_state(|arch| {
            advance(arch, call, known);
            arch.rflags
        });
        self.completed(Mtd::RIP, rflags)
    }

    /// EDX:EAX, as RDMSR, WRMSR and XSETBV have it.
    pub(super) fn edx_eax(arch: &ArchState) -> u64 {
        u64::from(arch.gpr[gpr::RDX] as u32) << u32::BITS | u64::from(arch.gpr[gpr::RAX] as u32)
    }

    /// The guest gets an exception instead of the instruction. Exceptions with an error code need to know the
    /// mode: real mode pushes none.
    #[cold]
    pub(super) fn exception(&self, call: &Call, vector: u8, error: Option<u32>) -> Result<Step, Trouble> {
        if error.is_some() {
            call.require(super::selection::EMULATE)?;
        }
        Ok(self.vm.kernel.with_state(|arch| {
            let is_real = error.is_some() && arch.cr0 & crate::state::Cr0::PE.bits() == 0;
            let error = error.filter(|_| !is_real);
            let boundary = Boundary::default().with_exception(Injection::exception(vector, error));
            Step::new(Mtd::empty(), boundary)
        }))
    }

    /// #GP(0).
    #[cold]
    pub(super) fn general_protection(&self, call: &Call) -> Result<Step, Trouble> {
        const GENERAL_PROTECTION: u8 = 13;
        self.exception(call, GENERAL_PROTECTION, Some(0))
    }

    /// #UD.
    #[cold]
    pub(super) fn undefined(&self, call: &Call) -> Result<Step, Trouble> {
        const INVALID_OPCODE: u8 = 6;
        self.exception(call, INVALID_OPCODE, None)
    }
}
