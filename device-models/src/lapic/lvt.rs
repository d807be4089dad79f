//! The local vector table (SDM 11.5.1).

use super::timer::TimerMode;
use crate::bus::apic::Delivery;

const VECTOR: u32 = 0xff;
const DELIVERY_SHIFT: u32 = 8;
const DELIVERY: u32 = 7 << DELIVERY_SHIFT;
const POLARITY: u32 = 1 << 13;
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const TIMER_MODE_SHIFT: u32 = 17;
const TIMER_MODE: u32 = 3 << TIMER_MODE_SHIFT;
const DELIVERY_NMI: u32 = 4 << DELIVERY_SHIFT;
const DELIVERY_EXTINT: u32 = 7 << DELIVERY_SHIFT;

/// The entries, in register order from offset 0x320.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

impl Entry {
    pub(super) const COUNT: usize = 6;

    const fn writable(self) -> u32 {
        let common = VECTOR | MASKED;
        match self {
            Self::Timer => common | TIMER_MODE,
            Self::Thermal | Self::Performance => common | DELIVERY,
            Self::Lint0 | Self::Lint1 => common | DELIVERY | POLARITY | LEVEL,
            Self::Error => common,
        }
    }
}

/// The table.
#[derive(Debug)]
pub(super) struct Lvt([u32; Entry::COUNT]);

impl Lvt {
    pub(super) const fn reset() -> Self {
        Self([MASKED; Entry::COUNT])
    }

    pub(super) const fn set_virtual_wire(&mut self) {
        self.0[Entry::Lint0 as usize] = DELIVERY_EXTINT;
        self.0[Entry::Lint1 as usize] = DELIVERY_NMI;
    }

    // An entry's discriminant is below COUNT: the indices cannot be out of range.

    pub(super) const fn read(&self, entry: Entry) -> u32 {
        self.0[entry as usize]
    }

    /// Bits of `value` that the entry does not have.
    pub(super) const fn reserved(entry: Entry, value: u32) -> u32 {
        // The read-only bits (delivery status, remote IRR) are ignored, not reserved.
        const DELIVERY_STATUS: u32 = 1 << 12;
        value & !(entry.writable() | REMOTE_IRR | DELIVERY_STATUS)
    }

    /// Stores `value`; `force_mask` while the local APIC is software-disabled.
    pub(super) const fn write(&mut self, entry: Entry, value: u32, force_mask: bool) {
        let kept = self.0[entry as usize] & REMOTE_IRR;
        let mask = if force_mask { MASKED } else { 0 };
        let value = (value & entry.writable()) | mask;
        // Remote IRR has a meaning for level-triggered pins only.
        self.0[entry as usize] = value | if value & LEVEL != 0 { kept } else { 0 };
    }

    pub(super) fn mask_all(&mut self) {
        for entry in &mut self.0 {
            *entry |= MASKED;
        }
    }

    #[inline]
    pub(super) const fn is_masked(&self, entry: Entry) -> bool {
        self.read(entry) & MASKED != 0
    }

    #[inline]
    pub(super) const fn vector(&self, entry: Entry) -> u8 {
        (self.read(entry) & VECTOR) as u8
    }

    #[inline]
    pub(super) const fn delivery(&self, entry: Entry) -> Option<Delivery> {
        Delivery::decode(self.read(entry) >> DELIVERY_SHIFT)
    }

    pub(super) const fn is_level(&self, entry: Entry) -> bool {
        self.read(entry) & LEVEL != 0
    }

    /// Marks a level-triggered pin as accepted; `false` where it was already.
    pub(super) const fn set_remote_irr(&mut self, entry: Entry) -> bool {
        let new = self.0[entry as usize] & REMOTE_IRR == 0;
        self.0[entry as usize] |= REMOTE_IRR;
        new
    }

    /// Ends the service of `vector`; yields the pins to look at again.
    pub(super) fn clear_remote_irr(&mut self, vector: u8) -> impl Iterator<Item = Entry> + use<> {
        let [lint0, lint1] = [Entry::Lint0, Entry::Lint1].map(|entry| {
            let hit = self.vector(entry) == vector && self.read(entry) & REMOTE_IRR != 0;
            if hit {
                self.0[entry as usize] &= !REMOTE_IRR;
            }
            hit.then_some(entry)
        });
        lint0.into_iter().chain(lint1)
    }

    pub(super) const fn timer_mode(&self) -> TimerMode {
        match (self.read(Entry::Timer) & TIMER_MODE) >> TIMER_MODE_SHIFT {
            1 => TimerMode::Periodic,
            2 => TimerMode::TscDeadline,
            // 3 is reserved.
            _ => TimerMode::OneShot,
        }
    }
}
