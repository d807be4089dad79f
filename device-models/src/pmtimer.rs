//! ACPI power management timer (ACPI 6.5, 4.8.3.3).

use crate::bus::port::{Lanes, PortAccess, PortClaims};
use crate::time::{Clock, Rate, Tsc};
use core::num::NonZeroU64;
use core::ops::RangeInclusive;

/// The timer's frequency.
pub const PM_TIMER_HZ: NonZeroU64 = NonZeroU64::new(3_579_545).unwrap();

/// Size of the register in bytes.
pub const PM_TIMER_BYTES: u16 = 4;

/// Bits of the counter (FADT flag TMR_VAL_EXT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 24 bits, the upper byte reads 0.
    Bits24,
    /// 32 bits.
    Bits32,
}

impl Width {
    const fn mask(self) -> u32 {
        match self {
            Self::Bits24 => (1 << 24) - 1,
            Self::Bits32 => u32::MAX,
        }
    }
}

/// The PM timer: a free-running counter at one 32-bit port.
#[derive(Clone, Copy, Debug)]
pub struct PmTimer {
    io_port: u16,
    width: Width,
    rate: Rate,
}

impl PmTimer {
    /// A timer at `io_port`.
    #[must_use]
    pub const fn new(io_port: u16, width: Width, clock: Clock) -> Self {
        Self { io_port, width, rate: clock.rate(PM_TIMER_HZ) }
    }

    /// Reads the counter, or a part of it; writes have no effect.
    #[inline]
    #[must_use]
    pub const fn read(&self, now: Tsc, access: PortAccess) -> u32 {
        let count = self.rate.ticks(now) as u32 & self.width.mask();
        let byte = access.port.wrapping_sub(self.io_port) as u32 & 3;
        count >> (byte * u8::BITS)
    }
}

impl PortClaims for PmTimer {
    const LANES: Lanes = Lanes::Wide;

    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        [self.io_port..=self.io_port.saturating_add(PM_TIMER_BYTES - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::port::PortSize;
    use crate::recorder::{at_us, clock};

    const DWORD: PortAccess = PortAccess { port: 0x8000, size: PortSize::Dword };

    #[test]
    fn counts_at_its_frequency_and_wraps_at_its_width() {
        let narrow = PmTimer::new(0x8000, Width::Bits24, clock());
        let wide = PmTimer::new(0x8000, Width::Bits32, clock());
        let ten_seconds = at_us(10_000_000);
        assert!(wide.read(ten_seconds, DWORD).abs_diff(35_795_450) <= 1);
        assert_eq!(narrow.read(ten_seconds, DWORD), wide.read(ten_seconds, DWORD) & 0xff_ffff);
        assert_eq!(wide.read(ten_seconds, PortAccess::byte(0x8002)) & 0xff, wide.read(ten_seconds, DWORD) >> 16 & 0xff);
    }
}
