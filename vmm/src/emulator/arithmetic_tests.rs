//! Flags against formulas over exact integers, independent of the bit tricks in use.

use proptest::prelude::*;

use super::*;

const WIDTHS: [Width; 4] = [Width::Byte, Width::Word, Width::Dword, Width::Qword];

fn signed(value: u64, width: Width) -> i128 {
    let value = i128::from(value & width.mask());
    if value >= i128::from(width.sign()) { value - (i128::from(width.mask()) + 1) } else { value }
}

/// Flags that follow from the exact unsigned, signed and low-nibble results.
fn expected(unsigned: i128, signed: i128, nibble: i128, width: Width) -> (u64, Rflags) {
    let modulus = i128::from(width.mask()) + 1;
    let value = unsigned.rem_euclid(modulus) as u64;
    let half = modulus / 2;
    let mut flags = Rflags::empty();
    flags.set(Rflags::CF, unsigned < 0 || unsigned >= modulus);
    flags.set(Rflags::OF, signed < -half || signed >= half);
    flags.set(Rflags::AF, !(0..16).contains(&nibble));
    flags.set(Rflags::ZF, value == 0);
    flags.set(Rflags::SF, value >> (width.bits() - 1) == 1);
    flags.set(Rflags::PF, (0..8).filter(|bit| value >> bit & 1 == 1).count() % 2 == 0);
    (value, flags)
}

fn interesting() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        prop::sample::select(vec![0, 1, 0xf, 0x10, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff]),
        prop::sample::select(vec![0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 63, u64::MAX >> 1]),
        Just(u64::MAX),
    ]
}

proptest! {
    #[test]
    fn sums_and_differences(left in interesting(), right in interesting(), carry: bool, which in 0usize..4) {
        let width = WIDTHS[which];
        let mut before = Rflags::IF | Rflags::DF;
        before.set(Rflags::CF, carry);
        let (a, b) = (i128::from(left & width.mask()), i128::from(right & width.mask()));
        let (sa, sb) = (signed(left, width), signed(right, width));
        let (na, nb) = (a & 15, b & 15);
        for (operation, sign, uses_carry) in [
            (Binary::Add, 1, false),
            (Binary::Adc, 1, true),
            (Binary::Sub, -1, false),
            (Binary::Sbb, -1, true),
            (Binary::Cmp, -1, false),
        ] {
            let c = if uses_carry && carry { 1 } else { 0 };
            let (value, flags) = expected(
                a + sign * (b + c), sa + sign * (sb + c), na + sign * (nb + c), width,
            );
            let computed = binary(operation, left, right, width, before);
            prop_assert_eq!(computed.value, value);
            prop_assert_eq!(computed.rflags & STATUS, flags, "{:?} {:?}", operation, width);
            prop_assert_eq!(computed.rflags - STATUS, before - STATUS);
        }
    }

    #[test]
    fn logic_clears_carry_and_overflow(left in interesting(), right in interesting(), which in 0usize..4) {
        let width = WIDTHS[which];
        for (operation, exact) in [
            (Binary::And, left & right),
            (Binary::Test, left & right),
            (Binary::Or, left | right),
            (Binary::Xor, left ^ right),
        ] {
            let exact = i128::from(exact & width.mask());
            let (value, flags) = expected(exact, 0, 0, width);
            let computed = binary(operation, left, right, width, STATUS);
            prop_assert_eq!((computed.value, computed.rflags), (value, flags));
        }
    }

    #[test]
    fn one_operand(value in interesting(), carry: bool, which in 0usize..4) {
        let width = WIDTHS[which];
        let mut before = Rflags::empty();
        before.set(Rflags::CF, carry);
        let exact = i128::from(value & width.mask());
        let number = signed(value, width);
        for (operation, step) in [(Unary::Inc, 1), (Unary::Dec, -1)] {
            let (result, flags) = expected(exact + step, number + step, (exact & 15) + step, width);
            let computed = unary(operation, value, width, before);
            prop_assert_eq!(computed.value, result);
            prop_assert_eq!(computed.rflags - Rflags::CF, flags - Rflags::CF);
            prop_assert_eq!(computed.rflags.contains(Rflags::CF), carry, "INC and DEC keep CF");
        }
        let (result, flags) = expected(-exact, -number, -(exact & 15), width);
        let negated = unary(Unary::Neg, value, width, before);
        prop_assert_eq!((negated.value, negated.rflags), (result, flags));
        let inverted = unary(Unary::Not, value, width, before);
        prop_assert_eq!(inverted.value, (i128::from(width.mask()) - exact) as u64);
        prop_assert_eq!(inverted.rflags, before, "NOT keeps all flags");
    }

    #[test]
    fn bits(value: u64, index in 0u32..64) {
        let set = value / 2u64.pow(index) % 2 == 1;
        for (action, after) in [
            (BitAction::Test, set),
            (BitAction::Set, true),
            (BitAction::Reset, false),
            (BitAction::Complement, !set),
        ] {
            let computed = bit(action, value, index, Rflags::ZF);
            prop_assert_eq!(computed.rflags.contains(Rflags::CF), set);
            prop_assert!(computed.rflags.contains(Rflags::ZF));
            prop_assert_eq!(computed.value / 2u64.pow(index) % 2 == 1, after);
            prop_assert_eq!(computed.value & !(1 << index), value & !(1 << index));
        }
    }
}
