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
                if let Some(register) = self.state.xmm.as_mut().and_then(|all| all.get_mut(usize::from(number))) {
                    *register = value;
                }
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
}
