//! The time-stamp counter: the clock of deadlines.

use core::sync::atomic::{AtomicU64, Ordering};

const US_PER_SECOND: u64 = 1_000_000;

/// Ticks per second, set at startup.
static HZ: AtomicU64 = AtomicU64::new(US_PER_SECOND);

/// Current value.
#[inline]
#[must_use]
pub fn now() -> u64 {
    // SAFETY: reads a counter; the kernel leaves RDTSC enabled for user mode.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Ticks per second.
#[must_use]
pub fn hz() -> u64 {
    HZ.load(Ordering::Relaxed)
}

/// Sets the rate, as core told it.
pub fn set_hz(hz: u64) {
    HZ.store(hz.max(1), Ordering::Relaxed);
}

/// Ticks of some microseconds; the largest value if that is more.
#[must_use]
pub fn from_us(us: u64) -> u64 {
    scale(us, hz(), US_PER_SECOND)
}

/// Whole microseconds of some ticks.
#[must_use]
pub fn to_us(ticks: u64) -> u64 {
    scale(ticks, US_PER_SECOND, hz())
}

fn scale(value: u64, numerator: u64, denominator: u64) -> u64 {
    let product = u128::from(value) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn scaling_saturates_and_inverts(us in 0..u64::MAX / 10_000, hz in US_PER_SECOND..5_000_000_000) {
            let ticks = scale(us, hz, US_PER_SECOND);
            if ticks != u64::MAX {
                prop_assert!(us - scale(ticks, US_PER_SECOND, hz) <= 1);
            }
        }
    }
}
