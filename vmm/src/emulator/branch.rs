//! CALL, JMP and RET within the code segment.

use vm_memory::GuestMemoryBackend;

use super::address::{Intent, Location, is_canonical};
use super::decode::Decoded;
use super::error::{Exception, Stop};
use super::execute::{Executor, Progress};
use super::{Bus, Width};
use crate::state::{CpuMode, SegmentRegister};

impl<M: GuestMemoryBackend, B: Bus> Executor<'_, M, B> {
    pub(super) fn jump(&mut self, decoded: &Decoded) -> Result<Progress, Stop> {
        let location = self.locate_operand(decoded, Intent::Read)?;
        let target = self.load(&location);
        self.check_target(target)?;
        self.state.rip = target;
        Ok(Progress::Jumped)
    }

    pub(super) fn call(&mut self, decoded: &Decoded) -> Result<Progress, Stop> {
        let location = self.locate_walking(&decoded.memory, decoded.extent, Intent::Read)?;
        let pointer = self.stack_pointer().wrapping_sub(u64::from(decoded.extent.bytes()));
        let stack = self.locate_stack(pointer, decoded, Intent::Write)?;
        let target = self.load(&location);
        self.enter(decoded, &stack, pointer, target)
    }

    /// CALL of an address or of what a register holds: the stack is not RAM.
    pub(super) fn call_to(&mut self, decoded: &Decoded) -> Result<Progress, Stop> {
        let target = self.operand_value(decoded.destination, decoded.width);
        let pointer = self.stack_pointer().wrapping_sub(u64::from(decoded.extent.bytes()));
        let stack = self.locate_stack(pointer, decoded, Intent::Write)?;
        self.enter(decoded, &stack, pointer, target)
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

    /// The end of a call, which puts the return address on the stack.
    fn enter(&mut self, decoded: &Decoded, stack: &Location, pointer: u64, target: u64) -> Result<Progress, Stop> {
        self.check_target(target)?;
        let next = self.state.rip.wrapping_add(u64::from(decoded.length));
        self.store(stack, next & decoded.width.mask());
        self.set_stack_pointer(pointer);
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
