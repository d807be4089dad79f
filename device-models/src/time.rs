//! Time as the models see it: guest TSC ticks, and fixed-point rates to device oscillators.
//!
//! Every oscillator is a pure function of the TSC counted from tick 0, so two models that share a
//! frequency agree on its phase, and nothing accumulates rounding errors.

use core::num::NonZeroU64;

/// An instant, in guest TSC ticks since the machine was switched on.
///
/// This is the time base of the virtual machine: it advances at the TSC frequency, never steps and
/// does not follow a guest's writes to `IA32_TSC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tsc(pub u64);

impl Tsc {
    /// The instant `ticks` later; sticks at the end of time.
    #[must_use]
    pub const fn after(self, ticks: u64) -> Self {
        Self(self.0.saturating_add(ticks))
    }

    /// Ticks since `earlier`; 0 where `earlier` lies ahead (vCPUs may see time a little apart).
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The earlier of two optional deadlines, for models and boards that have several.
#[must_use]
pub fn earliest(a: Option<Tsc>, b: Option<Tsc>) -> Option<Tsc> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The one clock of a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    tsc_hz: NonZeroU64,
}

impl Clock {
    /// A clock whose TSC runs at `tsc_hz` ticks per second.
    #[must_use]
    pub const fn new(tsc_hz: NonZeroU64) -> Self {
        Self { tsc_hz }
    }

    /// TSC ticks per second.
    #[must_use]
    pub const fn tsc_hz(self) -> u64 {
        self.tsc_hz.get()
    }

    /// The conversion to an oscillator of `hz` ticks per second.
    #[must_use]
    pub const fn rate(self, hz: NonZeroU64) -> Rate {
        Rate { to_device: Ratio::rounded_up(hz, self.tsc_hz), to_tsc: Ratio::rounded_up(self.tsc_hz, hz) }
    }
}

/// Conversion between TSC ticks and the ticks of one oscillator: a multiplication, no division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    to_device: Ratio,
    to_tsc: Ratio,
}

impl Rate {
    /// Oscillator ticks that have begun by `now`.
    ///
    /// Off by less than one tick over the whole 64-bit range, so it cannot drift.
    #[inline]
    #[must_use]
    pub const fn ticks(&self, now: Tsc) -> u64 {
        self.to_device.scale(now.0)
    }

    /// The instant at which [`Rate::ticks`] reaches `ticks`: exact to two TSC ticks, and never so
    /// early that `ticks()` does not agree yet.
    #[must_use]
    pub const fn when(&self, ticks: u64) -> Tsc {
        let tsc = Tsc(self.to_tsc.scale(ticks));
        // The factor is rounded up but the product down, by less than one.
        if self.ticks(tsc) < ticks { tsc.after(1) } else { tsc }
    }
}

/// A 64.64 fixed-point factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ratio {
    whole: u64,
    fraction: u64,
}

impl Ratio {
    /// `numerator / denominator`, rounded up so that exact multiples stay exact.
    const fn rounded_up(numerator: NonZeroU64, denominator: NonZeroU64) -> Self {
        let (numerator, denominator) = (numerator.get(), denominator.get());
        let rest = ((numerator % denominator) as u128) << 64;
        // rest < denominator * 2^64, and denominator < 2^64: the rounded quotient fits 64 bits.
        let fraction = rest.div_ceil(denominator as u128) as u64;
        Self { whole: numerator / denominator, fraction }
    }

    #[inline]
    const fn scale(&self, value: u64) -> u64 {
        let part = ((value as u128 * self.fraction as u128) >> 64) as u64;
        value.saturating_mul(self.whole).saturating_add(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hz(value: u64) -> NonZeroU64 {
        NonZeroU64::new(value).unwrap()
    }

    #[test]
    fn a_day_does_not_drift() {
        let rate = Clock::new(hz(2_599_998_123)).rate(hz(1_193_182));
        let day = 86_400;
        assert_eq!(rate.ticks(Tsc(2_599_998_123 * day)), 1_193_182 * day);
    }

    proptest! {
        #[test]
        fn ticks_are_within_one_of_exact(tsc_hz in 1_000_000u64..10_000_000_000, dev in 1u64..100_000_000, tsc in 0u64..u64::MAX / 128) {
            let rate = Clock::new(hz(tsc_hz)).rate(hz(dev));
            let exact = u128::from(tsc) * u128::from(dev) / u128::from(tsc_hz);
            prop_assume!(exact < u128::from(u64::MAX));
            prop_assert!(u128::from(rate.ticks(Tsc(tsc))).abs_diff(exact) <= 1);
        }

        #[test]
        fn when_is_exact_to_two_ticks_and_never_early(tsc_hz in 1_000_000u64..10_000_000_000, dev in 1u64..100_000_000, ticks in 0u64..1 << 40) {
            let rate = Clock::new(hz(tsc_hz)).rate(hz(dev));
            let when = rate.when(ticks);
            let exact = u128::from(ticks) * u128::from(tsc_hz) / u128::from(dev);
            prop_assume!(exact < u128::from(u64::MAX));
            prop_assert!(rate.ticks(when) >= ticks);
            prop_assert!(u128::from(when.0).abs_diff(exact) <= 2);
        }
    }
}
