//! Integer instructions beyond those that every driver uses.

use vm_memory::GuestMemoryBackend;

use super::address::Intent;
use super::arithmetic::result_flags;
use super::condition::Condition;
use super::decode::{Decoded, Operand};
use super::error::{Exception, Stop};
use super::execute::Executor;
use super::multiply::{Quotient, divide, multiply};
use super::operand::{read_register, write_register};
use super::shift::{DoubleShift, Shift, double_shift, shift};
use super::{Bus, Width};
use crate::state::{Gpr, Rflags};

impl<M: GuestMemoryBackend, B: Bus> Executor<'_, M, B> {
    pub(super) fn shift(&mut self, decoded: &Decoded, operation: Shift) -> Result<(), Stop> {
        let count = self.operand_value(decoded.source, Width::Byte);
        self.modify(decoded, |old, flags| shift(operation, old, count, decoded.width, flags))
    }

    pub(super) fn double_shift(&mut self, decoded: &Decoded, operation: DoubleShift) -> Result<(), Stop> {
        let other = self.operand_value(decoded.source, decoded.width);
        let count = self.operand_value(decoded.extra, Width::Byte);
        self.modify(decoded, |old, flags| double_shift(operation, old, other, count, decoded.width, flags))
    }

    /// The upper half of what has twice the width: AH for bytes, otherwise part of RDX.
    fn upper_half(width: Width) -> (Gpr, bool) {
        if width == Width::Byte { (Gpr::Rax, true) } else { (Gpr::Rdx, false) }
    }

    pub(super) fn multiply_wide(&mut self, decoded: &Decoded, signed: bool) -> Result<(), Stop> {
        let width = decoded.width;
        let factor = self.read(decoded)?;
        let accumulator = read_register(self.state, Gpr::Rax, false, width);
        let product = multiply(accumulator, factor, width, signed, self.state.rflags);
        let (upper, high) = Self::upper_half(width);
        write_register(self.state, Gpr::Rax, false, width, product.low);
        write_register(self.state, upper, high, width, product.high);
        self.state.rflags = product.rflags;
        Ok(())
    }

    pub(super) fn multiply(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let width = decoded.width;
        let factor = self.read(decoded)?;
        let other = if decoded.extra == Operand::None { decoded.destination } else { decoded.extra };
        let product = multiply(self.operand_value(other, width), factor, width, true, self.state.rflags);
        self.set_operand(decoded.destination, width, product.low);
        self.state.rflags = product.rflags;
        Ok(())
    }

    pub(super) fn divide(&mut self, decoded: &Decoded, signed: bool) -> Result<(), Stop> {
        let width = decoded.width;
        let divisor = self.read(decoded)?;
        let (upper, high) = Self::upper_half(width);
        let low = read_register(self.state, Gpr::Rax, false, width);
        let result = divide(read_register(self.state, upper, high, width), low, divisor, width, signed);
        let Quotient { quotient, remainder } = result.ok_or(Exception::DIVIDE)?;
        write_register(self.state, Gpr::Rax, false, width, quotient);
        write_register(self.state, upper, high, width, remainder);
        Ok(())
    }

    pub(super) fn set_on(&mut self, decoded: &Decoded, condition: Condition) -> Result<(), Stop> {
        let location = self.locate_operand(decoded, Intent::Write)?;
        self.store(&location, condition.holds(self.state.rflags).into());
        Ok(())
    }

    /// The operand is read in any case, and 32-bit registers lose their upper half in any case (APM3, CMOVcc).
    pub(super) fn move_on(&mut self, decoded: &Decoded, condition: Condition) -> Result<(), Stop> {
        let value = self.read(decoded)?;
        let old = self.operand_value(decoded.destination, decoded.width);
        let new = if condition.holds(self.state.rflags) { value } else { old };
        self.set_operand(decoded.destination, decoded.width, new);
        Ok(())
    }

    pub(super) fn swap_load(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let value = swapped(self.read(decoded)?, decoded.width);
        self.set_operand(decoded.destination, decoded.width, value);
        Ok(())
    }

    pub(super) fn swap_store(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let location = self.locate_operand(decoded, Intent::Write)?;
        let value = swapped(self.operand_value(decoded.source, decoded.width), decoded.width);
        self.store(&location, value);
        Ok(())
    }

    /// The number of the least or most significant bit that is set; without one the register is kept, as CPUs do.
    pub(super) fn scan(&mut self, decoded: &Decoded, backward: bool) -> Result<(), Stop> {
        let value = self.read(decoded)?;
        self.state.rflags.set(Rflags::ZF, value == 0);
        let found = if backward { value.checked_ilog2() } else { Some(value.trailing_zeros()).filter(|_| value != 0) };
        let old = self.operand_value(decoded.destination, decoded.width);
        self.set_operand(decoded.destination, decoded.width, found.map_or(old, u64::from));
        Ok(())
    }

    /// All flags are cleared but ZF, which says that there are none (APM3, POPCNT).
    pub(super) fn count_ones(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let value = self.read(decoded)?;
        self.set_operand(decoded.destination, decoded.width, value.count_ones().into());
        let flags = result_flags(value, decoded.width, self.state.rflags);
        self.state.rflags = flags - (Rflags::SF | Rflags::PF);
        Ok(())
    }

    pub(super) fn translate(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let mut memory = decoded.memory;
        memory.displacement = read_register(self.state, Gpr::Rax, false, Width::Byte);
        let location = self.locate(&memory, decoded.extent, Intent::Read)?;
        let value = self.load(&location);
        write_register(self.state, Gpr::Rax, false, Width::Byte, value);
        Ok(())
    }
}

/// The bytes of `value` in the other order.
fn swapped(value: u64, width: Width) -> u64 {
    value.swap_bytes() >> (u64::BITS - width.bits())
}
