//! How an instruction that exited ends: it is done, or an exception comes instead.

use abi::state::{Injection, Mtd};
use vm_memory::GuestMemoryBackend;

use super::injection::DEBUG_EXCEPTION;
use super::{Boundary, Call, Kernel, Step, Trouble, Vcpu, length, selection};
use crate::emulator::ExceptionVector;
use crate::state::{Cr0, Rflags};

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

    /// Does nothing, which is all that an instruction of this length needs.
    pub(super) fn skip(&self, call: &Call, known: u64) -> Step {
        let rflags = self.vm.kernel.with_state(|arch| {
            length::advance(arch, call, known);
            arch.rflags
        });
        self.completed(Mtd::RIP, rflags)
    }

    /// The guest gets an exception instead of the instruction. Exceptions with an error code need to know the
    /// mode: real mode pushes none.
    #[cold]
    fn exception(&self, call: &Call, vector: ExceptionVector, error: Option<u32>) -> Result<Step, Trouble> {
        if error.is_some() {
            call.require(selection::EMULATE)?;
        }
        Ok(self.vm.kernel.with_state(|arch| {
            let is_real = error.is_some() && arch.cr0 & Cr0::PE.bits() == 0;
            let error = error.filter(|_| !is_real);
            let boundary = Boundary::default().with_exception(Injection::exception(vector as u8, error));
            Step::new(Mtd::empty(), boundary)
        }))
    }

    /// #GP(0).
    #[cold]
    pub(super) fn general_protection(&self, call: &Call) -> Result<Step, Trouble> {
        self.exception(call, ExceptionVector::GeneralProtection, Some(0))
    }

    /// #UD.
    #[cold]
    pub(super) fn undefined(&self, call: &Call) -> Result<Step, Trouble> {
        self.exception(call, ExceptionVector::InvalidOpcode, None)
    }
}
