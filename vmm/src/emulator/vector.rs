//! SSE moves between XMM registers and memory.

use vm_memory::GuestMemoryBackend;

use super::Bus;
use super::address::Intent;
use super::decode::{Decoded, Operand};
use super::error::{Exception, Stop, Unemulated};
use super::execute::Executor;
use crate::paging::PAGE_SIZE;

impl<M: GuestMemoryBackend, B: Bus> Executor<'_, M, B> {
    /// Loads clear the register above the operand; stores write its low bytes.
    pub(super) fn vector_move(&mut self, decoded: &Decoded, aligned: bool) -> Result<(), Stop> {
        let intent = if decoded.destination == Operand::Memory { Intent::Write } else { Intent::Read };
        let registers = self.state.xmm.ok_or(Unemulated::NoVectorState)?;
        let location = self.locate(&decoded.memory, decoded.extent, intent)?;
        let alignment = u64::from(decoded.extent.bytes());
        let offset = location.address().0 % PAGE_SIZE;
        if aligned && !offset.is_multiple_of(alignment) {
            return Err(Exception::GENERAL_PROTECTION.into());
        }
        match (decoded.destination, decoded.source) {
            (Operand::Vector(number), Operand::Memory) => {
                let value = self.load_wide(&location);
                self.set_vector(number, value);
            }
            (Operand::Memory, Operand::Vector(number)) => {
                let value = registers.get(usize::from(number));
                let value = value.ok_or(Unemulated::Instruction)?;
                self.store_wide(&location, *value);
            }
            _ => return Err(Unemulated::Instruction.into()),
        }
        Ok(())
    }

    /// Loads replace one half of the register and keep the other.
    pub(super) fn vector_half(&mut self, decoded: &Decoded, high: bool) -> Result<(), Stop> {
        let intent = if decoded.destination == Operand::Memory { Intent::Write } else { Intent::Read };
        let registers = self.state.xmm.ok_or(Unemulated::NoVectorState)?;
        let shift = if high { u64::BITS } else { 0 };
        let number = match (decoded.destination, decoded.source) {
            (Operand::Vector(number), Operand::Memory) | (Operand::Memory, Operand::Vector(number)) => number,
            _ => return Err(Unemulated::Instruction.into()),
        };
        let old = *registers.get(usize::from(number)).ok_or(Unemulated::Instruction)?;
        let location = self.locate(&decoded.memory, decoded.extent, intent)?;
        if intent == Intent::Write {
            self.store(&location, (old >> shift) as u64);
        } else {
            let half = u128::from(self.load(&location)) << shift;
            self.set_vector(number, old & !(u128::from(u64::MAX) << shift) | half);
        }
        Ok(())
    }

    fn set_vector(&mut self, number: u8, value: u128) {
        if let Some(register) = self.state.xmm.as_mut().and_then(|all| all.get_mut(usize::from(number))) {
            *register = value;
        }
    }
}
