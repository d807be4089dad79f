//! Shifts and rotations (APM3, RCL to SHRD).

use super::Width;
use super::arithmetic::{Computed, result_flags};
use crate::state::Rflags;

/// What is shifted in, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    RotateLeft,
    RotateRight,
    /// Through CF.
    RotateCarryLeft,
    RotateCarryRight,
    Left,
    Right,
    /// With copies of the sign.
    ArithmeticRight,
}

/// Which end of the second operand is shifted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DoubleShift {
    Left,
    Right,
}

/// The count that the CPU uses: the low five bits, or six with 64-bit operands.
fn masked(count: u64, width: Width) -> u32 {
    let mask = if width == Width::Qword { 0x3f } else { 0x1f };
    (count & mask) as u32
}

/// `value`, taken modulo `width`, shifted by `count`. Flags that are undefined (OF unless the count is 1, CF where a count exceeds
/// the width, AF) are those of the formulas for a count of 1, or clear.
pub(super) fn shift(operation: Shift, value: u64, count: u64, width: Width, rflags: Rflags) -> Computed {
    let value = value & width.mask();
    let count = masked(count, width);
    if count == 0 {
        return Computed { value, rflags };
    }
    match operation {
        Shift::RotateLeft | Shift::RotateRight => rotate(operation, value, count, width, rflags),
        Shift::RotateCarryLeft | Shift::RotateCarryRight => rotate_carry(operation, value, count, width, rflags),
        Shift::Left => {
            let wide = u128::from(value) << count;
            shifted(wide as u64, wide >> width.bits() & 1 == 1, width, rflags, |result, carry| result != carry)
        }
        Shift::Right => {
            let sign = value & width.sign() != 0;
            let wide = (u128::from(value) << 1) >> count;
            shifted((wide >> 1) as u64, wide & 1 == 1, width, rflags, |_, _| sign)
        }
        Shift::ArithmeticRight => {
            let wide = (i128::from(width.sign_extend(value) as i64) << 1) >> count;
            shifted((wide >> 1) as u64, wide & 1 == 1, width, rflags, |_, _| false)
        }
    }
}

/// `value` with bits of `other` shifted in.
pub(super) fn double_shift(
    operation: DoubleShift,
    value: u64,
    other: u64,
    count: u64,
    width: Width,
    rflags: Rflags,
) -> Computed {
    let (value, other) = (value & width.mask(), other & width.mask());
    let count = masked(count, width);
    if count == 0 {
        return Computed { value, rflags };
    }
    let bits = width.bits();
    let sign = value & width.sign() != 0;
    // What is shifted out for counts beyond the width, which are undefined, is the other operand once more.
    let (result, carry) = match operation {
        DoubleShift::Left => {
            let wide = u128::from(value) << bits | u128::from(other);
            let carry = if count <= bits { value >> (bits - count) } else { other >> (2 * bits - count) };
            ((wide << count >> bits) as u64, carry & 1 == 1)
        }
        DoubleShift::Right => {
            let wide = u128::from(other) << bits | u128::from(value);
            ((wide >> count) as u64, wide >> (count - 1) & 1 == 1)
        }
    };
    shifted(result, carry, width, rflags, |result, _| result != sign)
}

/// The flags of a shift; `overflow` gets the sign of the result and the carry.
fn shifted(
    value: u64,
    carry: bool,
    width: Width,
    rflags: Rflags,
    overflow: impl FnOnce(bool, bool) -> bool,
) -> Computed {
    let value = value & width.mask();
    let mut flags = result_flags(value, width, rflags);
    flags.set(Rflags::CF, carry);
    flags.set(Rflags::OF, overflow(value & width.sign() != 0, carry));
    Computed { value, rflags: flags }
}

fn rotate(operation: Shift, value: u64, count: u32, width: Width, rflags: Rflags) -> Computed {
    let bits = width.bits();
    let left = if operation == Shift::RotateLeft { count % bits } else { (bits - count % bits) % bits };
    let wide = u128::from(value) << left;
    let value = (wide as u64 | (wide >> bits) as u64) & width.mask();
    let carry = if operation == Shift::RotateLeft { value & 1 } else { value & width.sign() };
    rotated(operation, value, carry != 0, width, rflags)
}

/// The carry flag is one more bit of what is rotated.
fn rotate_carry(operation: Shift, value: u64, count: u32, width: Width, rflags: Rflags) -> Computed {
    let bits = width.bits() + 1;
    let carry = u128::from(rflags.contains(Rflags::CF)) << width.bits();
    let left = if operation == Shift::RotateCarryLeft { count % bits } else { (bits - count % bits) % bits };
    let whole = u128::from(value) | carry;
    // At most 65 bits: those that leave at the top come in at the bottom.
    let low = whole & ((1 << (bits - left)) - 1);
    let wide = low << left | whole >> (bits - left);
    rotated(operation, wide as u64 & width.mask(), wide >> width.bits() & 1 == 1, width, rflags)
}

/// Rotations change only CF and OF.
fn rotated(operation: Shift, value: u64, carry: bool, width: Width, rflags: Rflags) -> Computed {
    let sign = value & width.sign() != 0;
    let below_sign = value & width.sign() >> 1 != 0;
    let is_left = matches!(operation, Shift::RotateLeft | Shift::RotateCarryLeft);
    let mut flags = rflags;
    flags.set(Rflags::CF, carry);
    flags.set(Rflags::OF, sign != if is_left { carry } else { below_sign });
    Computed { value, rflags: flags }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::arithmetic::STATUS;
    use super::*;

    const WIDTHS: [Width; 4] = [Width::Byte, Width::Word, Width::Dword, Width::Qword];
    const ALL: [Shift; 7] = [
        Shift::RotateLeft,
        Shift::RotateRight,
        Shift::RotateCarryLeft,
        Shift::RotateCarryRight,
        Shift::Left,
        Shift::Right,
        Shift::ArithmeticRight,
    ];

    /// Bits from the least significant one on.
    fn bits(value: u64, width: Width) -> Vec<bool> {
        (0..width.bits()).map(|bit| value >> bit & 1 == 1).collect()
    }

    fn value(bits: &[bool]) -> u64 {
        bits.iter().rev().fold(0, |value, bit| value << 1 | u64::from(*bit))
    }

    /// One step of the manual's loops: the bit that leaves is the carry.
    fn step(operation: Shift, bits: &mut Vec<bool>, carry: &mut bool) {
        let (first, last) = (bits[0], bits[bits.len() - 1]);
        match operation {
            Shift::RotateLeft | Shift::RotateCarryLeft | Shift::Left => {
                bits.pop();
                let enters = match operation {
                    Shift::RotateLeft => last,
                    Shift::RotateCarryLeft => *carry,
                    _ => false,
                };
                bits.insert(0, enters);
                *carry = last;
            }
            _ => {
                bits.remove(0);
                bits.push(match operation {
                    Shift::RotateRight => first,
                    Shift::RotateCarryRight => *carry,
                    Shift::ArithmeticRight => last,
                    _ => false,
                });
                *carry = first;
            }
        }
    }

    /// OF after a count of 1, from before and after (APM3).
    fn overflow(operation: Shift, before: &[bool], after: &[bool], carry: bool) -> bool {
        let sign = |bits: &[bool]| bits[bits.len() - 1];
        match operation {
            Shift::Left | Shift::RotateLeft | Shift::RotateCarryLeft => sign(after) != carry,
            Shift::Right => sign(before),
            Shift::ArithmeticRight => false,
            Shift::RotateRight | Shift::RotateCarryRight => sign(after) != after[after.len() - 2],
        }
    }

    proptest! {
        #[test]
        fn shifts_are_repeated_steps(number: u64, count: u8, carry: bool, which in 0usize..4) {
            let width = WIDTHS[which];
            let mut before = Rflags::IF | Rflags::AF;
            before.set(Rflags::CF, carry);
            let times = count & if width == Width::Qword { 63 } else { 31 };
            for operation in ALL {
                let old = bits(number, width);
                let (mut new, mut carry) = (old.clone(), carry);
                (0..times).for_each(|_| step(operation, &mut new, &mut carry));
                let computed = shift(operation, number, count.into(), width, before);
                prop_assert_eq!(computed.value, value(&new), "{:?} {:?}", operation, width);
                prop_assert_eq!(computed.rflags.contains(Rflags::CF), carry, "{:?} {:?}", operation, width);
                if times == 0 {
                    prop_assert_eq!(computed.rflags, before);
                    continue;
                }
                if times == 1 {
                    let expected = overflow(operation, &old, &new, carry);
                    prop_assert_eq!(computed.rflags.contains(Rflags::OF), expected, "{:?} {:?}", operation, width);
                }
                let (rest, was) = (computed.rflags - STATUS, before - STATUS);
                prop_assert_eq!(rest, was);
                if matches!(operation, Shift::Left | Shift::Right | Shift::ArithmeticRight) {
                    let expected = result_flags(value(&new), width, before) - Rflags::AF;
                    prop_assert_eq!(computed.rflags - (Rflags::CF | Rflags::OF | Rflags::AF), expected);
                } else {
                    prop_assert!(computed.rflags.contains(Rflags::AF), "only CF and OF change");
                }
            }
        }

        #[test]
        fn double_shifts_take_the_other_operand_in(number: u64, other: u64, count: u8, which in 1usize..4) {
            let width = WIDTHS[which];
            let times = usize::from(count & if width == Width::Qword { 63 } else { 31 });
            prop_assume!(times <= width.bits() as usize);
            for operation in [DoubleShift::Left, DoubleShift::Right] {
                let (mut new, mut source, mut carry) = (bits(number, width), bits(other, width), false);
                for _ in 0..times {
                    if operation == DoubleShift::Left {
                        carry = new.pop().unwrap();
                        new.insert(0, source.pop().unwrap());
                    } else {
                        carry = new.remove(0);
                        new.push(source.remove(0));
                    }
                }
                let computed = double_shift(operation, number, other, count.into(), width, Rflags::CF);
                prop_assert_eq!(computed.value, value(&new), "{:?} {:?}", operation, width);
                prop_assert_eq!(computed.rflags.contains(Rflags::CF), carry || times == 0);
                if times == 1 {
                    let changed = (number ^ computed.value) & width.sign() != 0;
                    prop_assert_eq!(computed.rflags.contains(Rflags::OF), changed);
                }
            }
        }
    }
}
