//! The register file: time in the guest's format, alarm, and CMOS RAM.

use super::alarm::Alarm;
use super::calendar::DateTime;

const SECONDS: u8 = 0x00;
const SECONDS_ALARM: u8 = 0x01;
const MINUTES: u8 = 0x02;
const MINUTES_ALARM: u8 = 0x03;
const HOURS: u8 = 0x04;
const HOURS_ALARM: u8 = 0x05;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
pub(super) const REGISTER_A: u8 = 0x0a;
pub(super) const REGISTER_B: u8 = 0x0b;
pub(super) const REGISTER_C: u8 = 0x0c;
pub(super) const REGISTER_D: u8 = 0x0d;
const BASE_MEMORY: usize = 0x15;
const EXTENDED_MEMORY: usize = 0x17;
const EXTENDED_MEMORY_COPY: usize = 0x30;
/// Where the century is, for the FADT.
pub const CENTURY_INDEX: u8 = 0x32;
const MEMORY_ABOVE_16M: usize = 0x34;
const MEMORY_ABOVE_4G: usize = 0x5b;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const UNIT_64K: u64 = 1 << 16;
const BASE_MEMORY_KIB: u64 = 640;

/// Alarm bytes from here on match anything.
const DONT_CARE: u8 = 0xc0;
/// The hours byte in 12-hour format.
const PM: u8 = 1 << 7;

/// How the guest wants to see the time: register B, bits 2 (binary) and 1 (24 hours).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format(u8);

impl Format {
    const BINARY: u8 = 1 << 2;
    const HOURS_24: u8 = 1 << 1;
    pub(super) const DEFAULT: Self = Self(Self::HOURS_24);

    pub(super) const fn from_bits(register_b: u8) -> Self {
        // Square wave (bit 3) and daylight saving (bit 0) have no effect, but stay readable.
        const STORED: u8 = 0x0f;
        Self(register_b & STORED)
    }

    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    const fn encode(self, value: u8) -> u8 {
        if self.0 & Self::BINARY != 0 { value } else { ((value / 10) << 4) | (value % 10) }
    }

    const fn decode(self, value: u8) -> u8 {
        if self.0 & Self::BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0xf) }
    }

    const fn encode_hour(self, hour: u8) -> u8 {
        if self.0 & Self::HOURS_24 != 0 {
            return self.encode(hour);
        }
        let twelve = match hour % 12 {
            0 => 12,
            other => other,
        };
        self.encode(twelve) | if hour >= 12 { PM } else { 0 }
    }

    const fn decode_hour(self, value: u8) -> u8 {
        if self.0 & Self::HOURS_24 != 0 {
            return self.decode(value);
        }
        let hour = self.decode(value & !PM) % 12;
        if value & PM != 0 { hour + 12 } else { hour }
    }
}

/// Guest RAM, as firmware reports it in CMOS RAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CmosMemory {
    /// End of RAM below 4 GiB, in bytes from address 0.
    pub below_4g: u64,
    /// Bytes of RAM above 4 GiB.
    pub above_4g: u64,
}

/// Whether the register holds a part of the time.
pub(super) const fn is_time(index: u8) -> bool {
    matches!(index, SECONDS | MINUTES | HOURS | WEEKDAY | DAY | MONTH | YEAR | CENTURY_INDEX)
}

/// 128 bytes, of which the control registers are not used.
#[derive(Debug)]
pub(super) struct Cmos([u8; 128]);

impl Cmos {
    pub(super) fn new(memory: CmosMemory) -> Self {
        let mut cmos = Self([0; 128]);
        let extended = memory.below_4g.saturating_sub(MIB);
        cmos.put(BASE_MEMORY, 2, BASE_MEMORY_KIB);
        cmos.put(EXTENDED_MEMORY, 2, extended / KIB);
        cmos.put(EXTENDED_MEMORY_COPY, 2, extended / KIB);
        let above_16m = memory.below_4g.saturating_sub(16 * MIB);
        cmos.put(MEMORY_ABOVE_16M, 2, above_16m / UNIT_64K);
        cmos.put(MEMORY_ABOVE_4G, 3, memory.above_4g / UNIT_64K);
        cmos
    }

    /// Stores `value` in `bytes` bytes, little-endian; too large a value sticks at the maximum.
    fn put(&mut self, index: usize, bytes: usize, value: u64) {
        let value = value.min((1 << (bytes as u32 * u8::BITS)) - 1);
        let slots = self.0.iter_mut().skip(index).take(bytes);
        for (slot, byte) in slots.zip(value.to_le_bytes()) {
            *slot = byte;
        }
    }

    pub(super) fn read(&self, index: u8) -> u8 {
        self.0.get(usize::from(index)).copied().unwrap_or(u8::MAX)
    }

    pub(super) fn write(&mut self, index: u8, value: u8) {
        if let Some(slot) = self.0.get_mut(usize::from(index)) {
            *slot = value;
        }
    }

    pub(super) fn set_time(&mut self, time: &DateTime, format: Format) {
        self.write(SECONDS, format.encode(time.second));
        self.write(MINUTES, format.encode(time.minute));
        self.write(HOURS, format.encode_hour(time.hour));
        self.write(WEEKDAY, format.encode(time.weekday));
        self.write(DAY, format.encode(time.day));
        self.write(MONTH, format.encode(time.month));
        self.write(YEAR, format.encode((time.year % 100) as u8));
        self.write(CENTURY_INDEX, format.encode((time.year / 100) as u8));
    }

    pub(super) fn time(&self, format: Format) -> DateTime {
        let field = |index| format.decode(self.read(index));
        DateTime {
            second: field(SECONDS),
            minute: field(MINUTES),
            hour: format.decode_hour(self.read(HOURS)),
            weekday: field(WEEKDAY),
            day: field(DAY),
            month: field(MONTH),
            year: u16::from(field(CENTURY_INDEX)) * 100 + u16::from(field(YEAR)),
        }
    }

    pub(super) fn alarm(&self, format: Format) -> Option<Alarm> {
        let field = |index| Some(self.read(index)).filter(|value| *value < DONT_CARE);
        Alarm::new(
            field(HOURS_ALARM).map(|value| format.decode_hour(value)),
            field(MINUTES_ALARM).map(|value| format.decode(value)),
            field(SECONDS_ALARM).map(|value| format.decode(value)),
        )
    }
}
