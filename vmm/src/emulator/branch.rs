//! CALL, JMP and RET within the code segment.

use vm_memory::GuestMemoryBackend;

use super::address::{Intent, is_canonical};
use super::decode::Decoded;
use super::error::{Exception, Stop};
use super::execute::{Executor, Progress};
use super::stack::Push;
use super::{Bus, Width};
use crate::state::{CpuMode, SegmentRegister};

impl<M: GuestMemoryBackend, B: Bus> Executor<'_, M, B> {
    pub(super) fn jump(&mut self, decoded: &Decoded) -> Result<Progress, Stop> {
        let target = self.read(decoded)?;
        self.check_target(target)?;
        self.state.rip = target;
        Ok(Progress::Jumped)
    }

    /// CALL of an address that the instruction, a register or memory has.
    pub(super) fn call(&mut self, decoded: &Decoded) -> Result<Progress, Stop> {
        let Push { value: target, stack, pointer } = self.prepare_push(decoded)?;
        self.check_target(target)?;
        let next = self.state.rip.wrapping_add(u64::from(decoded.length));
        self.store(&stack, next & decoded.width.mask());
        self.set_stack_pointer(pointer);
        self.state.rip = target;
        Ok(Progress::Jumped)
    }

    pub(super) fn return_near(&mut self, decoded: &Decoded) -> Result<Progress, Stop> {
        let pointer = self.stack_pointer();
        let stack = self.locate_stack(pointer, decoded, Intent::Read)?;
        let target = self.load(&stack);
        self.check_target(target)?;
        let released = self.operand_value(decoded.destination, Width::Word);
        self.set_stack_pointer(pointer.wrapping_add(u64::from(decoded.extent.bytes())).wrapping_add(released));
        self.state.rip = target;
        Ok(Progress::Jumped)
    }

    /// Where code may go on (APM3, CALL and JMP).
    fn check_target(&self, target: u64) -> Result<(), Exception> {
        let allowed = if self.state.mode() == CpuMode::Long64 {
            is_canonical(self.state, target)
        } else {
            target <= self.state.segment(SegmentRegister::Cs).limit.into()
        };
        if allowed { Ok(()) } else { Err(Exception::GENERAL_PROTECTION) }
    }
}
