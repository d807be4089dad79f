//! System control ports A (0x92) and B (0x61) of the PS/2 and every PC since
//! (ICH9 data sheet, 13.7.1 and 13.7.3).

use crate::bus::a20::A20Bus;
use crate::bus::port::{Lanes, PortClaims};
use crate::bus::power::{PowerBus, PowerEvent, PowerSource};
use crate::bus::speaker::SpeakerBus;
use crate::time::{Clock, Rate, Tsc};
use core::num::NonZeroU64;
use core::ops::RangeInclusive;

const A_FAST_RESET: u8 = 1 << 0;
const A_FAST_A20: u8 = 1 << 1;

const B_GATE: u8 = 1 << 0;
const B_WRITABLE: u8 = 0x0f;
const B_REFRESH: u8 = 1 << 4;
const B_OUTPUT: u8 = 1 << 5;

/// The refresh bit changes every 15.085 microseconds: 66291 times a second.
const REFRESH_HZ: NonZeroU64 = NonZeroU64::new(66_291).unwrap();

/// Both ports.
#[derive(Debug)]
pub struct SystemControlPorts {
    io_port_a: u16,
    io_port_b: u16,
    refresh: Rate,
    fast_reset: bool,
    b: u8,
}

impl SystemControlPorts {
    /// Port A at `io_port_a`, port B at `io_port_b`.
    #[must_use]
    pub const fn new(io_port_a: u16, io_port_b: u16, clock: Clock) -> Self {
        Self { io_port_a, io_port_b, refresh: clock.rate(REFRESH_HZ), fast_reset: false, b: 0 }
    }

    /// Reads a port.
    pub fn read(&mut self, now: Tsc, port: u16, fx: &mut (impl A20Bus + SpeakerBus)) -> u8 {
        if port == self.io_port_a {
            let flag = |on: bool, bit: u8| if on { bit } else { 0 };
            return flag(fx.a20(), A_FAST_A20) | flag(self.fast_reset, A_FAST_RESET);
        }
        let output = if fx.speaker_output(now) { B_OUTPUT } else { 0 };
        let refresh = if self.refresh.ticks(now) & 1 != 0 { B_REFRESH } else { 0 };
        self.b | output | refresh
    }

    /// Writes a port.
    pub fn write(&mut self, now: Tsc, port: u16, value: u8, fx: &mut (impl A20Bus + PowerBus + SpeakerBus)) {
        if port == self.io_port_a {
            self.write_a(value, fx);
        } else {
            let changed = self.b ^ value;
            self.b = value & B_WRITABLE;
            if changed & B_GATE != 0 {
                fx.speaker_gate(now, value & B_GATE != 0);
            }
        }
    }

    fn write_a(&mut self, value: u8, fx: &mut (impl A20Bus + PowerBus)) {
        fx.set_a20(value & A_FAST_A20 != 0);
        let reset = value & A_FAST_RESET != 0;
        if reset && !self.fast_reset {
            fx.power(PowerEvent::Reset, PowerSource::FastReset);
        }
        self.fast_reset = reset;
    }
}

impl PortClaims for SystemControlPorts {
    const LANES: Lanes = Lanes::Byte;

    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        [self.io_port_a..=self.io_port_a, self.io_port_b..=self.io_port_b]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{Recorder, at_us, clock};

    fn ports() -> (SystemControlPorts, Recorder) {
        let ports = SystemControlPorts::new(0x92, 0x61, clock());
        (ports, Recorder::default())
    }

    #[test]
    fn port_a_resets_and_gates_a20() {
        let (mut scp, mut fx) = ports();
        assert_eq!(scp.read(Tsc(0), 0x92, &mut fx), A_FAST_A20);
        scp.write(Tsc(0), 0x92, 0, &mut fx);
        assert!(!fx.a20());
        assert_eq!(scp.read(Tsc(0), 0x92, &mut fx), 0);
        // Somebody else opens the gate.
        fx.set_a20(true);
        assert_eq!(scp.read(Tsc(0), 0x92, &mut fx), A_FAST_A20);
        assert!(fx.power.is_empty());
        scp.write(Tsc(0), 0x92, A_FAST_A20 | A_FAST_RESET, &mut fx);
        assert_eq!(fx.power, [(PowerEvent::Reset, PowerSource::FastReset)]);
    }

    #[test]
    fn port_b_passes_gate_and_output_and_toggles_refresh() {
        let (mut scp, mut fx) = ports();
        scp.write(Tsc(0), 0x61, 0xf1, &mut fx);
        scp.write(Tsc(0), 0x61, 0x03, &mut fx);
        scp.write(Tsc(0), 0x61, 0x00, &mut fx);
        assert_eq!(fx.gate, [true, false]);
        scp.write(Tsc(0), 0x61, 0xfe, &mut fx);
        assert_eq!(scp.read(Tsc(0), 0x61, &mut fx), 0x0e);
        scp.write(Tsc(0), 0x61, 0x00, &mut fx);
        fx.speaker = true;
        assert_eq!(scp.read(Tsc(0), 0x61, &mut fx), B_OUTPUT);
        let toggles = (0..1000)
            .map(|i| scp.read(at_us(i), 0x61, &mut fx) & B_REFRESH)
            .collect::<std::vec::Vec<_>>()
            .windows(2)
            .filter(|pair| pair[0] != pair[1])
            .count();
        assert_eq!(toggles, 66);
    }
}
