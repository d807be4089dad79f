//! Time stamp counter: the clock of the whole system.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

static HZ: AtomicU64 = AtomicU64::new(1_000_000_000);

/// The counter.
#[inline(always)]
pub fn read() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: no effect.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Ticks per second.
pub fn hz() -> u64 {
    HZ.load(Relaxed)
}

/// Sets the frequency, once at boot.
pub fn set_hz(hz: u64) {
    HZ.store(hz.max(1), Relaxed);
}

/// Ticks in `us` microseconds; saturates.
pub fn from_us(us: u64) -> u64 {
    u64::try_from(u128::from(us) * u128::from(hz()) / 1_000_000).unwrap_or(u64::MAX)
}
