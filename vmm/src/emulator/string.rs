//! String instructions, with and without a repeat prefix.
//!
//! Every iteration locates its operands before it acts and then updates the index and count
//! registers, so that a fault or the end of this exit's share leaves the instruction resumable.

use vm_memory::GuestMemoryBackend;

use super::address::{AddressSize, Intent, Location, linear_address};
use super::arithmetic::{Binary, binary};
use super::decode::{Decoded, Repeat};
use super::error::Stop;
use super::execute::{Executor, Progress};
use super::operand::{read_register, write_register};
use super::{Bus, Width};
use crate::state::{Gpr, Rflags, SegmentRegister};

/// String instructions (APM3 chapter 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringOperation {
    /// MOVS: \[rDI\] := \[rSI\].
    Move,
    /// CMPS: compares \[rSI\] with \[rDI\].
    Compare,
    /// STOS: \[rDI\] := accumulator.
    Store,
    /// LODS: accumulator := \[rSI\].
    Load,
    /// SCAS: compares the accumulator with \[rDI\].
    Scan,
    /// INS: \[rDI\] := port DX.
    Input,
    /// OUTS: port DX := \[rSI\].
    Output,
}

impl StringOperation {
    fn intent_at_destination(self) -> Option<Intent> {
        match self {
            StringOperation::Move | StringOperation::Store | StringOperation::Input => Some(Intent::Write),
            StringOperation::Compare | StringOperation::Scan => Some(Intent::Read),
            StringOperation::Load | StringOperation::Output => None,
        }
    }

    fn has_source(self) -> bool {
        matches!(
            self,
            StringOperation::Move | StringOperation::Compare | StringOperation::Load | StringOperation::Output
        )
    }

    /// The repeat prefix also ends on ZF.
    fn compares(self) -> bool {
        matches!(self, StringOperation::Compare | StringOperation::Scan)
    }
}

impl AddressSize {
    fn register_width(self) -> Width {
        match self {
            AddressSize::Bits16 => Width::Word,
            AddressSize::Bits32 => Width::Dword,
            AddressSize::Bits64 => Width::Qword,
        }
    }
}

impl<M: GuestMemoryBackend, B: Bus> Executor<'_, M, B> {
    pub(super) fn string(&mut self, decoded: &Decoded, operation: StringOperation) -> Result<Progress, Stop> {
        if decoded.repeat == Repeat::None {
            self.iteration(decoded, operation)?;
            return Ok(Progress::Complete);
        }
        let address_width = decoded.memory.size.register_width();
        for _ in 0..self.limit {
            let count = read_register(self.state, Gpr::Rcx, false, address_width);
            if count == 0 {
                return Ok(Progress::Complete);
            }
            self.iteration(decoded, operation)?;
            let left = count - 1;
            write_register(self.state, Gpr::Rcx, false, address_width, left);
            let equal = self.state.rflags.contains(Rflags::ZF);
            let ended = match decoded.repeat {
                Repeat::WhileEqual => !equal,
                Repeat::WhileNotEqual => equal,
                Repeat::None => true,
            };
            if left == 0 || (operation.compares() && ended) {
                return Ok(Progress::Complete);
            }
        }
        Ok(Progress::Partial)
    }

    fn iteration(&mut self, decoded: &Decoded, operation: StringOperation) -> Result<(), Stop> {
        let source = if operation.has_source() {
            Some(self.locate_index(decoded, Gpr::Rsi, decoded.memory.segment, Intent::Read)?)
        } else {
            None
        };
        let destination = match operation.intent_at_destination() {
            Some(intent) => Some(self.locate_index(decoded, Gpr::Rdi, SegmentRegister::Es, intent)?),
            None => None,
        };
        self.transfer(operation, decoded.width, source.as_ref(), destination.as_ref());
        if source.is_some() {
            self.step_index(decoded, Gpr::Rsi);
        }
        if destination.is_some() {
            self.step_index(decoded, Gpr::Rdi);
        }
        Ok(())
    }

    /// Cannot fail: all operands are located. Operands that the operation lacks read as zero.
    fn transfer(
        &mut self,
        operation: StringOperation,
        width: Width,
        source: Option<&Location>,
        destination: Option<&Location>,
    ) {
        let port = self.state.gpr(Gpr::Rdx) as u16;
        let accumulator = read_register(self.state, Gpr::Rax, false, width);
        let read = source.map_or(0, |location| self.load(location));
        let written = match operation {
            StringOperation::Move => read,
            StringOperation::Store => accumulator,
            StringOperation::Input => self.bus.port_read(port, width) & width.mask(),
            StringOperation::Load => {
                return write_register(self.state, Gpr::Rax, false, width, read);
            }
            StringOperation::Output => return self.bus.port_write(port, width, read),
            StringOperation::Compare | StringOperation::Scan => {
                let left = if operation == StringOperation::Scan { accumulator } else { read };
                let right = destination.map_or(0, |location| self.load(location));
                let compared = binary(Binary::Cmp, left, right, width, self.state.rflags);
                self.state.rflags = compared.rflags;
                return;
            }
        };
        if let Some(location) = destination {
            self.store(location, written);
        }
    }

    fn locate_index(
        &self,
        decoded: &Decoded,
        index: Gpr,
        segment: SegmentRegister,
        intent: Intent,
    ) -> Result<Location, Stop> {
        let offset = decoded.memory.size.truncate(self.state.gpr(index));
        let length = decoded.width.bytes();
        let linear = linear_address(self.state, segment, offset, length, intent)?;
        self.locate_linear(linear, length, intent)
    }

    fn step_index(&mut self, decoded: &Decoded, index: Gpr) {
        let address_width = decoded.memory.size.register_width();
        let step = u64::from(decoded.width.bytes());
        let old = self.state.gpr(index);
        let new = if self.state.rflags.contains(Rflags::DF) { old.wrapping_sub(step) } else { old.wrapping_add(step) };
        write_register(self.state, index, false, address_width, new);
    }
}
