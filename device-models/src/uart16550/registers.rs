//! Register layout (PC16550D data sheet, table II).

use crate::time::Clock;

/// The crystal that feeds the baud rate generator.
const CRYSTAL_HZ: u128 = 1_843_200;
/// The generator's output is 16 times the baud rate.
const OVERSAMPLING: u128 = 16;
/// Characters of silence before the timeout interrupt.
const TIMEOUT_CHARACTERS: u128 = 4;

pub(super) mod offset {
    pub const DATA: u16 = 0;
    pub const IER: u16 = 1;
    pub const IIR_FCR: u16 = 2;
    pub const LCR: u16 = 3;
    pub const MCR: u16 = 4;
    pub const LSR: u16 = 5;
    pub const MSR: u16 = 6;
    pub const SCRATCH: u16 = 7;
}

pub(super) mod ier {
    pub const RECEIVED: u8 = 1 << 0;
    pub const THRE: u8 = 1 << 1;
    pub const LINE_STATUS: u8 = 1 << 2;
    pub const MODEM_STATUS: u8 = 1 << 3;
    pub const IMPLEMENTED: u8 = 0x0f;
}

pub(super) mod iir {
    pub const MODEM_STATUS: u8 = 0b0000;
    pub const NONE: u8 = 0b0001;
    pub const THRE: u8 = 0b0010;
    pub const RECEIVED: u8 = 0b0100;
    pub const LINE_STATUS: u8 = 0b0110;
    pub const TIMEOUT: u8 = 0b1100;
    pub const FIFO_ENABLED: u8 = 0b11 << 6;
}

pub(super) mod fcr {
    pub const ENABLE: u8 = 1 << 0;
    pub const CLEAR_RX: u8 = 1 << 1;

    /// The receiver trigger level in bytes.
    pub const fn trigger(value: u8) -> usize {
        match value >> 6 {
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }
    }
}

pub(super) mod lcr {
    pub const WORD_LENGTH: u8 = 0b11;
    pub const TWO_STOP_BITS: u8 = 1 << 2;
    pub const PARITY: u8 = 1 << 3;
    pub const DIVISOR_LATCH: u8 = 1 << 7;
}

pub(super) mod mcr {
    use super::msr;

    pub const DTR: u8 = 1 << 0;
    pub const RTS: u8 = 1 << 1;
    pub const OUT1: u8 = 1 << 2;
    pub const OUT2: u8 = 1 << 3;
    pub const LOOP: u8 = 1 << 4;
    pub const IMPLEMENTED: u8 = 0x1f;

    /// The modem inputs in loop-back mode: the four outputs.
    pub const fn looped(mcr: u8) -> u8 {
        let mut inputs = 0;
        if mcr & RTS != 0 {
            inputs |= msr::CTS;
        }
        if mcr & DTR != 0 {
            inputs |= msr::DSR;
        }
        if mcr & OUT1 != 0 {
            inputs |= msr::RI;
        }
        if mcr & OUT2 != 0 {
            inputs |= msr::DCD;
        }
        inputs
    }
}

pub(super) mod lsr {
    pub const DATA_READY: u8 = 1 << 0;
    pub const OVERRUN: u8 = 1 << 1;
    pub const THRE: u8 = 1 << 5;
    pub const TEMT: u8 = 1 << 6;
}

pub(super) mod msr {
    pub const CTS: u8 = 1 << 4;
    pub const DSR: u8 = 1 << 5;
    pub const RI: u8 = 1 << 6;
    pub const DCD: u8 = 1 << 7;
    /// The inputs with a terminal attached.
    pub const ATTACHED: u8 = CTS | DSR | DCD;

    /// The delta bits for a change of the inputs. The ring indicator has one for its end only.
    pub const fn delta(old: u8, new: u8) -> u8 {
        let changed = (old ^ new) & (CTS | DSR | DCD) | old & !new & RI;
        changed >> 4
    }
}

/// Length of the character timeout in TSC ticks.
pub(super) fn timeout_ticks(clock: Clock, divisor: u16, lcr: u8) -> u64 {
    let extra = |bit: u8| u128::from(lcr & bit != 0);
    let data = 5 + u128::from(lcr & self::lcr::WORD_LENGTH);
    let bits = 1 + data + extra(self::lcr::PARITY) + 1 + extra(self::lcr::TWO_STOP_BITS);
    let cycles = bits * TIMEOUT_CHARACTERS * OVERSAMPLING * u128::from(divisor.max(1));
    let ticks = cycles * u128::from(clock.tsc_hz()) / CRYSTAL_HZ;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}
