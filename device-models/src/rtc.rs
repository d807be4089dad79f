//! MC146818 real-time clock with CMOS RAM.
//!
//! Follows the MC146818A data sheet (Motorola) with the PC's additions: the century byte and the
//! memory size bytes. Time is computed from the 32768 Hz oscillator; the flags of register C are
//! brought up to date when somebody looks or an enabled interrupt is due.

mod alarm;
mod calendar;
mod cmos;

pub use calendar::UnixSeconds;
pub use cmos::{CENTURY_INDEX, CmosMemory};

use crate::bus::irq::{IrqBus, IrqLine, IrqPin};
use crate::bus::port::{Lanes, PortClaims};
use crate::time::{Clock, Rate, Tsc};
use alarm::Alarm;
use calendar::DateTime;
use cmos::{Cmos, Format};
use core::num::NonZeroU64;
use core::ops::RangeInclusive;

const OSCILLATOR_HZ: NonZeroU64 = NonZeroU64::new(1 << SECOND_SHIFT).unwrap();
const SECOND_SHIFT: u32 = 15;
const SECOND: i64 = 1 << SECOND_SHIFT;
/// Update-in-progress precedes the update by 244 microseconds (data sheet, figure 16).
const UIP_TICKS: i64 = 8;

/// Number of its ports: index and data.
pub const RTC_PORTS: u16 = 2;

/// Bit 7 of the index port masks the NMI; it does not address.
const INDEX: u8 = 0x7f;

mod a {
    pub const RATE: u8 = 0x0f;
    pub const DIVIDER: u8 = 0x70;
    /// Divider values 0b110 and 0b111 hold the divider chain in reset.
    pub const DIVIDER_RESET: u8 = 0x60;
    pub const UIP: u8 = 1 << 7;
    /// 32768 Hz time base, 1024 Hz periodic rate: what firmware sets.
    pub const DEFAULT: u8 = 0x26;
}

mod b {
    pub const SET: u8 = 1 << 7;
    pub const UPDATE: u8 = 1 << 4;
}

mod c {
    pub const IRQ: u8 = 1 << 7;
    pub const PERIODIC: u8 = 1 << 6;
    pub const ALARM: u8 = 1 << 5;
    pub const UPDATE: u8 = 1 << 4;
    /// The enable bits of register B stand where the flags stand.
    pub const FLAGS: u8 = PERIODIC | ALARM | UPDATE;
}

/// RAM and battery are good.
const D_VALID: u8 = 1 << 7;

/// An MC146818 at two ports.
#[derive(Debug)]
pub struct Rtc {
    io_base: u16,
    irq: IrqPin,
    rate: Rate,
    index: u8,
    cmos: Cmos,
    a: u8,
    format: Format,
    enables: u8,
    set: bool,
    flags: u8,
    /// Oscillator ticks of the epoch's clock less those since power-on.
    offset: i64,
    /// The clock's value while the divider is held in reset.
    held: Option<i64>,
    /// Up to where the flags account for the time.
    seen: i64,
}

impl Rtc {
    /// A clock at `io_base` that drives `irq`. The wall clock reads `start` at TSC 0.
    #[must_use]
    pub fn new(io_base: u16, irq: IrqLine, start: UnixSeconds, memory: CmosMemory, clock: Clock) -> Self {
        let offset = DateTime::from_unix(start).to_unix().0 * SECOND;
        Self {
            io_base,
            irq: IrqPin::new(irq),
            rate: clock.rate(OSCILLATOR_HZ),
            index: 0,
            cmos: Cmos::new(memory),
            a: a::DEFAULT,
            format: Format::DEFAULT,
            enables: 0,
            set: false,
            flags: 0,
            offset,
            held: None,
            seen: offset,
        }
    }

    /// Reads a port.
    pub fn read(&mut self, now: Tsc, port: u16, fx: &mut impl IrqBus) -> u8 {
        if port == self.io_base {
            // The index is write-only; the bus floats.
            return u8::MAX;
        }
        match self.index {
            cmos::REGISTER_A => self.a | self.update_in_progress(now),
            cmos::REGISTER_B => self.register_b(),
            cmos::REGISTER_C => self.read_c(now, fx),
            cmos::REGISTER_D => D_VALID,
            index => {
                if !self.set && cmos::is_time(index) {
                    self.show(now);
                }
                self.cmos.read(index)
            }
        }
    }

    /// Writes a port.
    pub fn write(&mut self, now: Tsc, port: u16, value: u8, fx: &mut impl IrqBus) {
        if port == self.io_base {
            self.index = value & INDEX;
            return;
        }
        self.expire(now, fx);
        match self.index {
            cmos::REGISTER_A => self.write_a(now, value),
            cmos::REGISTER_B => self.write_b(now, value),
            cmos::REGISTER_C | cmos::REGISTER_D => {}
            index if cmos::is_time(index) => {
                if self.set {
                    self.cmos.write(index, value);
                } else {
                    self.show(now);
                    self.cmos.write(index, value);
                    self.take(now);
                }
            }
            index => self.cmos.write(index, value),
        }
        self.update(fx);
    }

    /// The clock, in oscillator ticks since the epoch.
    fn clock(&self, now: Tsc) -> i64 {
        self.held.unwrap_or_else(|| (self.rate.ticks(now) as i64).saturating_add(self.offset))
    }

    fn set_clock(&mut self, now: Tsc, value: i64) {
        self.offset = value.saturating_sub(self.rate.ticks(now) as i64);
        if self.held.is_some() {
            self.held = Some(value);
        }
        self.seen = value;
    }

    /// Copies the time into the time registers.
    fn show(&mut self, now: Tsc) {
        let time = DateTime::from_unix(UnixSeconds(self.clock(now) >> SECOND_SHIFT));
        self.cmos.set_time(&time, self.format);
    }

    /// Takes the time from the time registers; the fraction of the second stays.
    fn take(&mut self, now: Tsc) {
        let fraction = self.clock(now) & (SECOND - 1);
        let seconds = self.cmos.time(self.format).to_unix().0;
        self.set_clock(now, seconds * SECOND + fraction);
    }

    fn update_in_progress(&self, now: Tsc) -> u8 {
        let to_update = SECOND - (self.clock(now) & (SECOND - 1));
        if !self.set && self.held.is_none() && to_update <= UIP_TICKS { a::UIP } else { 0 }
    }

    fn register_b(&self) -> u8 {
        let set = if self.set { b::SET } else { 0 };
        set | self.enables | self.format.bits()
    }

    fn write_a(&mut self, now: Tsc, value: u8) {
        self.a = value & (a::RATE | a::DIVIDER);
        let reset = value & a::DIVIDER_RESET == a::DIVIDER_RESET;
        match self.held {
            None if reset => self.held = Some(self.clock(now)),
            Some(clock) if !reset => {
                // The first update comes half a second after the divider is released.
                self.held = None;
                self.set_clock(now, (clock & !(SECOND - 1)) + SECOND / 2);
            }
            _ => {}
        }
    }

    fn write_b(&mut self, now: Tsc, value: u8) {
        let set = value & b::SET != 0;
        if set && !self.set {
            self.show(now);
        }
        self.format = Format::from_bits(value);
        self.enables = value & c::FLAGS;
        if set {
            self.enables &= !b::UPDATE;
        }
        if self.set && !set {
            self.take(now);
        }
        self.set = set;
    }

    fn read_c(&mut self, now: Tsc, fx: &mut impl IrqBus) -> u8 {
        self.expire(now, fx);
        let irq = if self.irq.is_active() { c::IRQ } else { 0 };
        let value = self.flags | irq;
        self.flags = 0;
        self.update(fx);
        value
    }

    /// Ticks between periodic interrupts (data sheet, table 5).
    const fn period(&self) -> Option<i64> {
        match self.a & a::RATE {
            0 => None,
            // Rates 1 and 2 repeat 8 and 9.
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    fn alarm(&self) -> Option<Alarm> {
        self.cmos.alarm(self.format)
    }

    /// When an enabled interrupt is due next.
    #[must_use]
    pub fn deadline(&self) -> Option<Tsc> {
        let wanted = self.enables & !self.flags;
        if wanted == 0 || self.held.is_some() {
            return None;
        }
        let next = |flag, tick: Option<i64>| tick.filter(|_| wanted & flag != 0);
        let second = (self.seen >> SECOND_SHIFT) + 1;
        let periodic = self.period().map(|period| (self.seen | (period - 1)) + 1);
        let update = (!self.set).then_some(second << SECOND_SHIFT);
        let due = [next(c::PERIODIC, periodic), next(c::UPDATE, update), next(c::ALARM, update.and(self.next_alarm()))];
        let tick = due.into_iter().flatten().min()?.saturating_sub(self.offset);
        Some(self.rate.when(u64::try_from(tick).unwrap_or(0)))
    }

    /// The first alarm after what the flags account for.
    fn next_alarm(&self) -> Option<i64> {
        let second = (self.seen >> SECOND_SHIFT) + 1;
        let wait = self.alarm()?.seconds_until(UnixSeconds(second))?;
        Some((second + i64::from(wait)) << SECOND_SHIFT)
    }

    /// Brings the flags up to date and raises what is due.
    pub fn expire(&mut self, now: Tsc, fx: &mut impl IrqBus) {
        let clock = self.clock(now);
        if clock <= self.seen {
            return;
        }
        if let Some(period) = self.period()
            && clock & !(period - 1) > self.seen
        {
            self.flags |= c::PERIODIC;
        }
        if !self.set {
            if clock & !(SECOND - 1) > self.seen {
                self.flags |= c::UPDATE;
            }
            if self.next_alarm().is_some_and(|alarm| alarm <= clock) {
                self.flags |= c::ALARM;
            }
        }
        self.seen = clock;
        self.update(fx);
    }

    fn update(&mut self, fx: &mut impl IrqBus) {
        let active = self.flags & self.enables != 0;
        self.irq.set(active, fx);
    }
}

impl PortClaims for Rtc {
    const LANES: Lanes = Lanes::Byte;

    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        [self.io_base..=self.io_base.saturating_add(RTC_PORTS - 1)]
    }
}

#[cfg(test)]
mod tests;
