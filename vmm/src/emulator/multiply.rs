//! Multiplication and division (APM3, DIV, IDIV, IMUL, MUL).

use super::Width;
use crate::state::Rflags;

/// A product as wide as both factors, and the RFLAGS after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Product {
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) rflags: Rflags,
}

/// Quotient and remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quotient {
    pub(super) quotient: u64,
    pub(super) remainder: u64,
}

fn signed(value: u64, width: Width) -> i128 {
    i128::from(width.sign_extend(value) as i64)
}

/// `left * right`. CF and OF say that the low half is not all of it; the other flags are undefined, and kept.
pub(super) fn multiply(left: u64, right: u64, width: Width, is_signed: bool, rflags: Rflags) -> Product {
    let (low, high, fits) = if is_signed {
        let product = signed(left, width) * signed(right, width);
        let low = product as u64 & width.mask();
        (low, (product >> width.bits()) as u64 & width.mask(), signed(low, width) == product)
    } else {
        let product = u128::from(left & width.mask()) * u128::from(right & width.mask());
        let high = (product >> width.bits()) as u64;
        (product as u64 & width.mask(), high, high == 0)
    };
    let mut flags = rflags;
    flags.set(Rflags::CF | Rflags::OF, !fits);
    Product { low, high, rflags: flags }
}

/// `high:low / divisor`; `None` where the quotient does not exist or does not fit, which is a #DE.
pub(super) fn divide(high: u64, low: u64, divisor: u64, width: Width, is_signed: bool) -> Option<Quotient> {
    let dividend = u128::from(high & width.mask()) << width.bits() | u128::from(low & width.mask());
    if is_signed {
        // Sign-extended from twice the width.
        let unused = u128::BITS - 2 * width.bits();
        let dividend = ((dividend << unused) as i128) >> unused;
        let divisor = signed(divisor, width);
        let quotient = dividend.checked_div(divisor)?;
        let fits = signed(quotient as u64, width) == quotient;
        let remainder = dividend.checked_rem(divisor)? as u64 & width.mask();
        fits.then_some(Quotient { quotient: quotient as u64 & width.mask(), remainder })
    } else {
        let divisor = u128::from(divisor & width.mask());
        let quotient =
            u64::try_from(dividend.checked_div(divisor)?).ok().filter(|quotient| *quotient <= width.mask())?;
        Some(Quotient { quotient, remainder: dividend.checked_rem(divisor)? as u64 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDTHS: [Width; 4] = [Width::Byte, Width::Word, Width::Dword, Width::Qword];

    fn factor() -> impl Strategy<Value = u64> {
        prop_oneof![any::<u64>(), 0..300u64, Just(u64::MAX), Just(1 << 63), Just(0x80), Just(0xffff_ffff)]
    }

    /// The product by additions of shifted summands, modulo twice the width.
    fn product_of_sums(left: u64, right: u64, width: Width, is_signed: bool) -> u128 {
        let extend =
            |value: u64| if is_signed { signed(value, width) as u128 } else { u128::from(value & width.mask()) };
        let (left, right) = (extend(left), extend(right));
        let sum =
            (0..u128::BITS).filter(|bit| right >> bit & 1 == 1).fold(0_u128, |sum, bit| sum.wrapping_add(left << bit));
        sum & (u128::MAX >> (u128::BITS - 2 * width.bits()))
    }

    proptest! {
        #[test]
        fn products(left in factor(), right in factor(), which in 0usize..4, is_signed: bool) {
            let width = WIDTHS[which];
            let product = multiply(left, right, width, is_signed, Rflags::ZF | Rflags::CF);
            let exact = product_of_sums(left, right, width, is_signed);
            prop_assert_eq!(u128::from(product.high) << width.bits() | u128::from(product.low), exact);
            // The high half adds something unless it is that of an extension.
            let extension = if is_signed && product.low & width.sign() != 0 { width.mask() } else { 0 };
            let carries = product.high != extension;
            prop_assert_eq!(product.rflags.contains(Rflags::CF), carries);
            prop_assert_eq!(product.rflags.contains(Rflags::OF), carries);
            prop_assert!(product.rflags.contains(Rflags::ZF));
        }

        /// Quotient and remainder make the dividend again, and are the only ones that can: the remainder is smaller than the
        /// divisor and has the dividend's sign.
        #[test]
        fn quotients(quotient in factor(), remainder in factor(), divisor in factor(), which in 0usize..4, is_signed: bool) {
            let width = WIDTHS[which];
            let extend = |value: u64| if is_signed { signed(value, width) } else { i128::from(value & width.mask()) };
            let (q, r, d) = (extend(quotient), extend(remainder), extend(divisor));
            let Some(dividend) = q.checked_mul(d).and_then(|product| product.checked_add(r)) else { return Ok(()) };
            prop_assume!(d != 0 && r.abs() < d.abs() && (r == 0 || (r < 0) == (dividend < 0)));
            let (high, low) = ((dividend >> width.bits()) as u64, dividend as u64);
            let expected = Quotient { quotient: quotient & width.mask(), remainder: remainder & width.mask() };
            prop_assert_eq!(divide(high, low, divisor, width, is_signed), Some(expected));
        }

        #[test]
        fn any_division_is_exact_or_an_error(high: u64, low in factor(), divisor in factor(), which in 0usize..4) {
            let width = WIDTHS[which];
            let (high, low, divisor) = (high & width.mask(), low & width.mask(), divisor & width.mask());
            let fits = divisor != 0 && high < divisor;
            let result = divide(high, low, divisor, width, false);
            prop_assert_eq!(result.is_some(), fits);
            if let Some(Quotient { quotient, remainder }) = result {
                let dividend = u128::from(high) << width.bits() | u128::from(low);
                prop_assert_eq!(u128::from(quotient) * u128::from(divisor) + u128::from(remainder), dividend);
            }
            // Signed ones never panic either.
            divide(high, low, divisor, width, true);
        }
    }

    #[test]
    fn quotients_that_do_not_fit_are_errors() {
        assert_eq!(divide(0, 1, 0, Width::Dword, false), None);
        assert_eq!(divide(0, 1, 0, Width::Dword, true), None);
        assert_eq!(divide(1, 0, 1, Width::Byte, false), None);
        // -128 / -1, and the least number of all.
        assert_eq!(divide(0xff, 0x80, 0xff, Width::Byte, true), None);
        assert_eq!(divide(1 << 63, 0, u64::MAX, Width::Qword, true), None);
        let fits = Quotient { quotient: 0x80, remainder: 0 };
        assert_eq!(divide(0xff, 0x80, 1, Width::Byte, true), Some(fits));
    }
}
