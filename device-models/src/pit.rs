//! Intel 8254 programmable interval timer.
//!
//! Follows the 82C54 data sheet (order 231244). A channel's count and output are computed from the
//! time that passed since it was loaded; nothing is counted tick by tick.

mod channel;

use crate::bus::irq::{IrqBus, IrqLine, IrqPin};
use crate::bus::port::{Lanes, PortClaims};
use crate::time::{Clock, Rate, Tsc};
use channel::{Access, Channel, Mode};
use core::num::NonZeroU64;
use core::ops::RangeInclusive;

/// The frequency of the timer's clock input: 315 MHz / 264.
pub const PIT_HZ: NonZeroU64 = NonZeroU64::new(1_193_182).unwrap();

const CONTROL_OFFSET: u16 = 3;
/// Number of its ports.
pub const PIT_PORTS: u16 = CONTROL_OFFSET + 1;
const TIMER_CHANNEL: usize = 0;
const SPEAKER_CHANNEL: usize = 2;
/// Control word, select counter: the read-back command.
const READ_BACK: usize = 3;
const READ_BACK_NO_COUNT: u8 = 1 << 5;
const READ_BACK_NO_STATUS: u8 = 1 << 4;
const CONTROL_BCD: u8 = 1 << 0;

/// An 8254: three channels at four ports.
#[derive(Debug)]
pub struct Pit {
    io_base: u16,
    irq: IrqPin,
    rate: Rate,
    channels: [Channel; 3],
}

impl Pit {
    /// A timer at `io_base` whose channel 0 drives `irq`. The gate of channel 2 starts low, those
    /// of the other channels are tied high.
    #[must_use]
    pub const fn new(io_base: u16, irq: IrqLine, clock: Clock) -> Self {
        Self {
            io_base,
            irq: IrqPin::new(irq),
            rate: clock.rate(PIT_HZ),
            channels: [Channel::new(true), Channel::new(true), Channel::new(false)],
        }
    }

    /// Reads a port.
    pub fn read(&mut self, now: Tsc, port: u16) -> u8 {
        let tick = self.rate.ticks(now);
        let offset = self.offset(port);
        match self.channels.get_mut(offset) {
            Some(channel) => channel.read(tick),
            // The control register cannot be read; the data lines float.
            None => u8::MAX,
        }
    }

    /// Writes a port.
    pub fn write(&mut self, now: Tsc, port: u16, value: u8, fx: &mut impl IrqBus) {
        let tick = self.rate.ticks(now);
        let offset = self.offset(port);
        // What was due before the write happens before the write.
        self.expire(now, fx);
        if offset == usize::from(CONTROL_OFFSET) {
            self.control(tick, value);
        } else if let Some(channel) = self.channels.get_mut(offset) {
            channel.write(tick, value);
        }
        self.drive(tick, fx);
    }

    /// Sets the gate input of channel 2 (port 0x61, bit 0).
    pub fn set_speaker_gate(&mut self, now: Tsc, level: bool) {
        let tick = self.rate.ticks(now);
        if let Some(channel) = self.channels.get_mut(SPEAKER_CHANNEL) {
            channel.set_gate(tick, level);
        }
    }

    /// The output of channel 2 (port 0x61, bit 5).
    pub fn speaker_output(&mut self, now: Tsc) -> bool {
        let tick = self.rate.ticks(now);
        self.channels.get_mut(SPEAKER_CHANNEL).is_some_and(|channel| channel.output(tick))
    }

    /// When the output of channel 0 rises next.
    #[must_use]
    pub fn deadline(&self) -> Option<Tsc> {
        let channel = self.channels.get(TIMER_CHANNEL)?;
        channel.next_rise().map(|tick| self.rate.when(tick))
    }

    /// Raises the interrupt if it is due; periods missed meanwhile give one interrupt.
    pub fn expire(&mut self, now: Tsc, fx: &mut impl IrqBus) {
        let tick = self.rate.ticks(now);
        if let Some(channel) = self.channels.get_mut(TIMER_CHANNEL)
            && channel.take_rise(tick)
        {
            self.irq.rise(fx);
            self.drive(tick, fx);
        }
    }

    fn drive(&mut self, tick: u64, fx: &mut impl IrqBus) {
        if let Some(channel) = self.channels.get_mut(TIMER_CHANNEL) {
            let output = channel.output(tick);
            self.irq.set(output, fx);
        }
    }

    fn control(&mut self, tick: u64, value: u8) {
        let select = usize::from(value >> 6);
        if select == READ_BACK {
            for (index, channel) in self.channels.iter_mut().enumerate() {
                if value >> 1 & 1 << index != 0 {
                    // Status first: both latched together read status, then count.
                    if value & READ_BACK_NO_STATUS == 0 {
                        channel.latch_status(tick);
                    }
                    if value & READ_BACK_NO_COUNT == 0 {
                        channel.latch_count(tick);
                    }
                }
            }
        } else if let Some(channel) = self.channels.get_mut(select) {
            match Access::decode(value >> 4) {
                None => channel.latch_count(tick),
                Some(access) => {
                    channel.program(access, Mode::decode(value >> 1), value & CONTROL_BCD != 0);
                }
            }
        }
    }

    const fn offset(&self, port: u16) -> usize {
        port.wrapping_sub(self.io_base) as usize
    }
}

impl PortClaims for Pit {
    const LANES: Lanes = Lanes::Byte;

    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        [self.io_base..=self.io_base.saturating_add(PIT_PORTS - 1)]
    }
}

#[cfg(test)]
mod tests;
