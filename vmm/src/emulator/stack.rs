//! PUSH and POP (APM3), and the stack that they share with calls. What lies outside RAM is their operand, or the stack.

use vm_memory::GuestMemoryBackend;

use super::address::{Intent, Location, linear_address};
use super::decode::{Decoded, Operand};
use super::error::Stop;
use super::execute::Executor;
use super::operand::{read_register, write_register};
use super::{Bus, Width};
use crate::state::{CpuMode, Gpr, SegmentAttributes, SegmentRegister, VcpuState};

/// An instruction that pushes, before it does.
pub(super) struct Push {
    /// Of its operand.
    pub(super) value: u64,
    /// Where something is pushed.
    pub(super) stack: Location,
    /// The stack pointer afterwards.
    pub(super) pointer: u64,
}

impl<M: GuestMemoryBackend, B: Bus> Executor<'_, M, B> {
    /// PUSH.
    pub(super) fn push(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let Push { value, stack, pointer } = self.prepare_push(decoded)?;
        self.store(&stack, value);
        self.set_stack_pointer(pointer);
        Ok(())
    }

    /// POP into memory or a register, which may be the stack pointer itself.
    pub(super) fn pop(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let pointer = self.stack_pointer();
        let stack = self.locate_stack(pointer, decoded, Intent::Read)?;
        let mut memory = decoded.memory;
        if memory.base == Some(Gpr::Rsp) {
            // The address is formed with the stack pointer after the pop (APM3, POP).
            memory.displacement = memory.displacement.wrapping_add(u64::from(decoded.extent.bytes()));
        }
        let target = match decoded.destination {
            Operand::Memory => Some(self.locate_walking(&memory, decoded.extent, Intent::Write)?),
            _ => None,
        };
        let value = self.load(&stack);
        self.set_stack_pointer(pointer.wrapping_add(u64::from(decoded.extent.bytes())));
        match target {
            Some(target) => self.store(&target, value),
            None => self.set_operand(decoded.destination, decoded.width, value),
        }
        Ok(())
    }

    /// Locates what PUSH and CALL access, and reads their operand.
    pub(super) fn prepare_push(&mut self, decoded: &Decoded) -> Result<Push, Stop> {
        let source = match decoded.destination {
            Operand::Memory => Some(self.locate_walking(&decoded.memory, decoded.extent, Intent::Read)?),
            _ => None,
        };
        let pointer = self.stack_pointer().wrapping_sub(u64::from(decoded.extent.bytes()));
        let stack = self.locate_stack(pointer, decoded, Intent::Write)?;
        let value = match source {
            Some(source) => self.load(&source),
            None => self.operand_value(decoded.destination, decoded.width),
        };
        Ok(Push { value, stack, pointer })
    }

    pub(super) fn locate_stack(&self, pointer: u64, decoded: &Decoded, intent: Intent) -> Result<Location, Stop> {
        let offset = pointer & stack_width(self.state).mask();
        let length = decoded.extent.bytes();
        let linear = linear_address(self.state, SegmentRegister::Ss, offset, length, intent)?;
        self.locate_linear(linear, length, intent)
    }

    pub(super) fn stack_pointer(&self) -> u64 {
        stack_pointer(self.state)
    }

    pub(super) fn set_stack_pointer(&mut self, pointer: u64) {
        set_stack_pointer(self.state, pointer);
    }
}

/// Size of the stack pointer: 64 bits in 64-bit mode, else SS.B decides (APM2 4.7.3).
pub(super) fn stack_width(state: &VcpuState) -> Width {
    let stack = state.segment(SegmentRegister::Ss).attributes;
    match state.mode() {
        CpuMode::Long64 => Width::Qword,
        CpuMode::Real | CpuMode::Virtual8086 => Width::Word,
        _ if stack.contains(SegmentAttributes::DEFAULT_32) => Width::Dword,
        _ => Width::Word,
    }
}

pub(super) fn stack_pointer(state: &VcpuState) -> u64 {
    read_register(state, Gpr::Rsp, false, stack_width(state))
}

pub(super) fn set_stack_pointer(state: &mut VcpuState, pointer: u64) {
    write_register(state, Gpr::Rsp, false, stack_width(state), pointer);
}
