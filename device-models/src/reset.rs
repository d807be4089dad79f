//! The reset control register at port 0xcf9 (ICH9 data sheet, 13.7.5), which the FADT names as the
//! reset register.

use crate::bus::port::{Lanes, PortClaims};
use crate::bus::power::{PowerBus, PowerEvent, PowerSource};
use core::ops::RangeInclusive;

/// The register's port.
pub const RESET_PORT: u16 = 0xcf9;
/// The value that resets the machine, for the FADT.
pub const RESET_VALUE: u8 = RESET_CPU | SYSTEM_RESET;

const SYSTEM_RESET: u8 = 1 << 1;
const RESET_CPU: u8 = 1 << 2;
const FULL_RESET: u8 = 1 << 3;

/// The register.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResetControl {
    value: u8,
}

impl ResetControl {
    /// The register after power-on.
    #[must_use]
    pub const fn new() -> Self {
        Self { value: 0 }
    }

    /// Reads the register.
    #[must_use]
    pub const fn read(&self) -> u8 {
        self.value
    }

    /// Writes the register; a rising reset bit resets the machine.
    pub fn write(&mut self, value: u8, fx: &mut impl PowerBus) {
        let rises = value & !self.value & RESET_CPU != 0;
        self.value = value & (SYSTEM_RESET | RESET_CPU | FULL_RESET);
        if rises {
            fx.power(PowerEvent::Reset, PowerSource::ResetControl);
        }
    }
}

impl PortClaims for ResetControl {
    const LANES: Lanes = Lanes::Byte;

    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        [RESET_PORT..=RESET_PORT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Recorder;

    #[test]
    fn resets_on_the_rising_bit_only() {
        let (mut register, mut fx) = (ResetControl::new(), Recorder::default());
        register.write(SYSTEM_RESET, &mut fx);
        assert!(fx.power.is_empty());
        register.write(RESET_VALUE, &mut fx);
        register.write(RESET_VALUE, &mut fx);
        assert_eq!(fx.power, [(PowerEvent::Reset, PowerSource::ResetControl)]);
        register.write(0xff, &mut fx);
        assert_eq!(register.read(), 0x0e);
    }
}
