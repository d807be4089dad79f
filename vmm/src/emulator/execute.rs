//! Execution of decoded instructions: first locate and check every operand, then act.

use vm_memory::GuestMemoryBackend;

use super::address::{Intent, Location};
use super::arithmetic::{Binary, BitAction, Computed, Unary, binary, bit, unary};
use super::decode::{Decoded, Extent, Operand};
use super::error::{Exception, Stop, Unemulated};
use super::operand::{read_register, write_register};
use super::operation::Operation;
use super::{Bus, NestedFault, Width};
use crate::state::{Gpr, Rflags, VcpuState};

/// How far an instruction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it.
    Complete,
    /// All of it, and RIP is where it leads.
    Jumped,
    /// Some iterations of a string instruction; executing it again continues.
    Partial,
}

/// One instruction in execution.
pub(super) struct Executor<'a, M, B> {
    pub(super) state: &'a mut VcpuState,
    pub(super) memory: &'a M,
    pub(super) bus: &'a mut B,
    pub(super) fault: Option<NestedFault>,
    /// Most iterations of a repeated string instruction.
    pub(super) limit: u32,
}

impl<M: GuestMemoryBackend, B: Bus> Executor<'_, M, B> {
    /// Performs `decoded`, all but the advance of RIP.
    #[inline]
    pub(super) fn execute(mut self, decoded: &Decoded) -> Result<Progress, Stop> {
        match decoded.operation {
            Operation::Load { from, signed } => self.move_to_register(decoded, from, signed),
            Operation::Store => self.move_to_memory(decoded),
            operation => return self.execute_other(decoded, operation),
        }
        .map(|()| Progress::Complete)
    }

    /// The same for all but the moves, which are what drivers do.
    #[inline(never)]
    fn execute_other(&mut self, decoded: &Decoded, operation: Operation) -> Result<Progress, Stop> {
        match operation {
            // Above.
            Operation::Load { .. } | Operation::Store => Err(Unemulated::Instruction.into()),
            Operation::Binary(operation) => self.binary(decoded, operation),
            Operation::Unary(operation) => self.unary(decoded, operation),
            Operation::Bit(action) => self.bit(decoded, action),
            Operation::Exchange => self.exchange(decoded),
            Operation::ExchangeAdd => self.exchange_add(decoded),
            Operation::CompareExchange => self.compare_exchange(decoded),
            Operation::CompareExchangeWide => self.compare_exchange_wide(decoded),
            Operation::Shift(operation) => self.shift(decoded, operation),
            Operation::DoubleShift(operation) => self.double_shift(decoded, operation),
            Operation::MultiplyWide { signed } => self.multiply_wide(decoded, signed),
            Operation::Multiply => self.multiply(decoded),
            Operation::Divide { signed } => self.divide(decoded, signed),
            Operation::Set(condition) => self.set_on(decoded, condition),
            Operation::ConditionalMove(condition) => self.move_on(decoded, condition),
            Operation::SwapLoad => self.swap_load(decoded),
            Operation::SwapStore => self.swap_store(decoded),
            Operation::Scan { backward } => self.scan(decoded, backward),
            Operation::CountOnes => self.count_ones(decoded),
            Operation::Translate => self.translate(decoded),
            Operation::Push => self.push(decoded),
            Operation::Pop => self.pop(decoded),
            Operation::Call => return self.call(decoded),
            Operation::Jump => return self.jump(decoded),
            Operation::Return => return self.return_near(decoded),
            Operation::String(operation) => return self.string(decoded, operation),
            Operation::VectorMove { aligned } => self.vector_move(decoded, aligned),
            Operation::VectorHalf { high } => self.vector_half(decoded, high),
            Operation::CacheHint => Ok(()),
        }
        .map(|()| Progress::Complete)
    }

    #[inline]
    pub(super) fn locate_operand(&self, decoded: &Decoded, intent: Intent) -> Result<Location, Stop> {
        self.locate(&decoded.memory, decoded.extent, intent)
    }

    #[inline]
    fn move_to_register(&mut self, decoded: &Decoded, from: Width, signed: bool) -> Result<(), Stop> {
        let location = self.locate_operand(decoded, Intent::Read)?;
        let value = self.load(&location);
        let value = if signed { from.sign_extend(value) } else { value };
        self.set_operand(decoded.destination, decoded.width, value);
        Ok(())
    }

    #[inline]
    fn move_to_memory(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let location = self.locate_operand(decoded, Intent::Write)?;
        let value = self.operand_value(decoded.source, decoded.width);
        self.store(&location, value);
        Ok(())
    }

    fn binary(&mut self, decoded: &Decoded, operation: Binary) -> Result<(), Stop> {
        let width = decoded.width;
        let to_memory = decoded.destination == Operand::Memory;
        let intent = if to_memory && operation.writes() { Intent::Write } else { Intent::Read };
        let location = self.locate_operand(decoded, intent)?;
        let in_memory = self.load(&location);
        let (left, right) = if to_memory {
            (in_memory, self.operand_value(decoded.source, width))
        } else {
            (self.operand_value(decoded.destination, width), in_memory)
        };
        let Computed { value, rflags } = binary(operation, left, right, width, self.state.rflags);
        if operation.writes() {
            self.write_back(decoded, &location, value);
        }
        self.state.rflags = rflags;
        Ok(())
    }

    fn write_back(&mut self, decoded: &Decoded, location: &Location, value: u64) {
        match decoded.destination {
            Operand::Memory => self.store(location, value),
            register => self.set_operand(register, decoded.width, value),
        }
    }

    /// The value of the memory operand. Out of line, so that what it calls stays inlined in the moves.
    #[inline(never)]
    pub(super) fn read(&mut self, decoded: &Decoded) -> Result<u64, Stop> {
        let location = self.locate_operand(decoded, Intent::Read)?;
        Ok(self.load(&location))
    }

    /// Reads the memory operand and writes what `compute` makes of it and of the flags.
    pub(super) fn modify(
        &mut self,
        decoded: &Decoded,
        compute: impl FnOnce(u64, Rflags) -> Computed,
    ) -> Result<(), Stop> {
        let location = self.locate_operand(decoded, Intent::Write)?;
        let old = self.load(&location);
        let Computed { value, rflags } = compute(old, self.state.rflags);
        self.store(&location, value);
        self.state.rflags = rflags;
        Ok(())
    }

    fn unary(&mut self, decoded: &Decoded, operation: Unary) -> Result<(), Stop> {
        self.modify(decoded, |old, flags| unary(operation, old, decoded.width, flags))
    }

    /// BT, BTS, BTR, BTC. A bit index in a register reaches beyond the operand: it selects the
    /// word, with sign, and the bit in it.
    fn bit(&mut self, decoded: &Decoded, action: BitAction) -> Result<(), Stop> {
        let width = decoded.width;
        let index = self.operand_value(decoded.source, width);
        let mut memory = decoded.memory;
        if let Operand::Register { .. } = decoded.source {
            let index = width.sign_extend(index) as i64;
            let words = index.div_euclid(i64::from(width.bits()));
            let bytes = words.wrapping_mul(i64::from(width.bytes())) as u64;
            memory.displacement = memory.displacement.wrapping_add(bytes);
        }
        let intent = if action == BitAction::Test { Intent::Read } else { Intent::Write };
        let location = self.locate(&memory, decoded.extent, intent)?;
        let old = self.load(&location);
        let index = index as u32 % width.bits();
        let Computed { value, rflags } = bit(action, old, index, self.state.rflags);
        if action != BitAction::Test {
            self.store(&location, value);
        }
        self.state.rflags = rflags;
        Ok(())
    }

    fn exchange(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let location = self.locate_operand(decoded, Intent::Write)?;
        // Either operand may be the memory one; the decoder normalises it to the first.
        let register = decoded.source;
        let old = self.load(&location);
        self.store(&location, self.operand_value(register, decoded.width));
        self.set_operand(register, decoded.width, old);
        Ok(())
    }

    fn exchange_add(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let location = self.locate_operand(decoded, Intent::Write)?;
        let width = decoded.width;
        let old = self.load(&location);
        let addend = self.operand_value(decoded.source, width);
        let Computed { value, rflags } = binary(Binary::Add, old, addend, width, self.state.rflags);
        self.store(&location, value);
        self.set_operand(decoded.source, width, old);
        self.state.rflags = rflags;
        Ok(())
    }

    fn compare_exchange(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let location = self.locate_operand(decoded, Intent::Write)?;
        let width = decoded.width;
        let old = self.load(&location);
        let accumulator = read_register(self.state, Gpr::Rax, false, width);
        let compared = binary(Binary::Cmp, accumulator, old, width, self.state.rflags);
        // The memory operand is written in both cases (APM3, CMPXCHG).
        if accumulator == old {
            let new = self.operand_value(decoded.source, width);
            self.store(&location, new);
        } else {
            self.store(&location, old);
            write_register(self.state, Gpr::Rax, false, width, old);
        }
        self.state.rflags = compared.rflags;
        Ok(())
    }

    /// CMPXCHG8B/16B: (E/R)DX:(E/R)AX against memory, (E/R)CX:(E/R)BX stored if equal.
    fn compare_exchange_wide(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let location = self.locate_operand(decoded, Intent::Write)?;
        let wide = decoded.extent == Extent::Wide;
        if wide && !location.address().0.is_multiple_of(16) {
            return Err(Exception::GENERAL_PROTECTION.into());
        }
        let half = if wide { Width::Qword } else { Width::Dword };
        let pair = |state: &VcpuState, high, low| {
            let high = u128::from(read_register(state, high, false, half));
            high << half.bits() | u128::from(read_register(state, low, false, half))
        };
        let old = self.load_wide(&location);
        let equal = pair(self.state, Gpr::Rdx, Gpr::Rax) == old;
        let new = if equal { pair(self.state, Gpr::Rcx, Gpr::Rbx) } else { old };
        self.store_wide(&location, new);
        if !equal {
            write_register(self.state, Gpr::Rax, false, half, old as u64);
            write_register(self.state, Gpr::Rdx, false, half, (old >> half.bits()) as u64);
        }
        self.state.rflags.set(Rflags::ZF, equal);
        Ok(())
    }
}
