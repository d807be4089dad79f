//! Integer results and status flags (APM3 chapter 3).

use super::Width;
use crate::state::Rflags;

/// Two-operand instructions that set all status flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Adc,
    Sub,
    Sbb,
    And,
    Or,
    Xor,
    /// As `Sub`, result dropped.
    Cmp,
    /// As `And`, result dropped.
    Test,
}

impl Binary {
    /// Whether the destination is written.
    pub(super) fn writes(self) -> bool {
        !matches!(self, Binary::Cmp | Binary::Test)
    }
}

/// One-operand instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    Inc,
    Dec,
    Neg,
    Not,
}

/// What BT and its kin do to the bit after copying it to CF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BitAction {
    Test,
    Set,
    Reset,
    Complement,
}

/// The flags that arithmetic defines.
pub(super) const STATUS: Rflags =
    Rflags::CF.union(Rflags::PF).union(Rflags::AF).union(Rflags::ZF).union(Rflags::SF).union(Rflags::OF);

/// A result and the RFLAGS after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Computed {
    pub(super) value: u64,
    pub(super) rflags: Rflags,
}

/// `left operation right`, both taken modulo `width`.
pub(super) fn binary(operation: Binary, left: u64, right: u64, width: Width, rflags: Rflags) -> Computed {
    let carry = u64::from(rflags.contains(Rflags::CF));
    match operation {
        Binary::Add => sum(left, right, 0, width, rflags),
        Binary::Adc => sum(left, right, carry, width, rflags),
        Binary::Sub | Binary::Cmp => difference(left, right, 0, width, rflags),
        Binary::Sbb => difference(left, right, carry, width, rflags),
        Binary::And | Binary::Test => logic(left & right, width, rflags),
        Binary::Or => logic(left | right, width, rflags),
        Binary::Xor => logic(left ^ right, width, rflags),
    }
}

/// `operation value`, taken modulo `width`.
pub(super) fn unary(operation: Unary, value: u64, width: Width, rflags: Rflags) -> Computed {
    let keep_carry =
        |computed: Computed| Computed { rflags: (computed.rflags - Rflags::CF) | (rflags & Rflags::CF), ..computed };
    match operation {
        Unary::Inc => keep_carry(sum(value, 1, 0, width, rflags)),
        Unary::Dec => keep_carry(difference(value, 1, 0, width, rflags)),
        Unary::Neg => difference(0, value, 0, width, rflags),
        Unary::Not => Computed { value: !value & width.mask(), rflags },
    }
}

/// The bit `index` (below the width) of `value` into CF, and the value after `action`.
pub(super) fn bit(action: BitAction, value: u64, index: u32, rflags: Rflags) -> Computed {
    let mask = 1u64.checked_shl(index).unwrap_or(0);
    let mut flags = rflags;
    flags.set(Rflags::CF, value & mask != 0);
    let value = match action {
        BitAction::Test => value,
        BitAction::Set => value | mask,
        BitAction::Reset => value & !mask,
        BitAction::Complement => value ^ mask,
    };
    Computed { value, rflags: flags }
}

fn sum(left: u64, right: u64, carry: u64, width: Width, rflags: Rflags) -> Computed {
    let (left, right) = (left & width.mask(), right & width.mask());
    let full = u128::from(left) + u128::from(right) + u128::from(carry);
    let value = full as u64 & width.mask();
    let overflow = (left ^ value) & (right ^ value) & width.sign() != 0;
    let mut flags = result_flags(value, width, rflags);
    flags.set(Rflags::CF, full > u128::from(width.mask()));
    flags.set(Rflags::OF, overflow);
    flags.set(Rflags::AF, (left ^ right ^ value) & NIBBLE_CARRY != 0);
    Computed { value, rflags: flags }
}

fn difference(left: u64, right: u64, borrow: u64, width: Width, rflags: Rflags) -> Computed {
    let (left, right) = (left & width.mask(), right & width.mask());
    let value = left.wrapping_sub(right).wrapping_sub(borrow) & width.mask();
    let overflow = (left ^ right) & (left ^ value) & width.sign() != 0;
    let mut flags = result_flags(value, width, rflags);
    flags.set(Rflags::CF, u128::from(left) < u128::from(right) + u128::from(borrow));
    flags.set(Rflags::OF, overflow);
    flags.set(Rflags::AF, (left ^ right ^ value) & NIBBLE_CARRY != 0);
    Computed { value, rflags: flags }
}

/// Logic clears CF and OF; AF is undefined, and CPUs clear it.
fn logic(value: u64, width: Width, rflags: Rflags) -> Computed {
    let value = value & width.mask();
    Computed { value, rflags: result_flags(value, width, rflags) }
}

/// The carry from bit 3 shows up in bit 4 of `left ^ right ^ result`.
const NIBBLE_CARRY: u64 = 1 << 4;

/// ZF, SF and PF of `value`; CF, OF and AF clear; all other flags kept.
pub(super) fn result_flags(value: u64, width: Width, rflags: Rflags) -> Rflags {
    let mut flags = rflags - STATUS;
    flags.set(Rflags::ZF, value == 0);
    flags.set(Rflags::SF, value & width.sign() != 0);
    flags.set(Rflags::PF, (value as u8).count_ones().is_multiple_of(2));
    flags
}

#[cfg(test)]
#[path = "arithmetic_tests.rs"]
mod tests;
