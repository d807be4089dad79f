//! I/O APIC with 24 inputs, version 0x20.
//!
//! Follows the 82093AA data sheet (order 290566) and, for the EOI register, the ICH9 data sheet,
//! 13.5. Input lines carry activity, not voltage, so the polarity bit is stored and has no effect.

use crate::bus::apic::{ApicBus, ApicMessage, Delivery, Destination, Trigger};
use crate::bus::irq::Gsi;
use crate::bus::mmio::{Gpa, GpaRange, MmioAccess};

/// Where the registers are.
pub const IOAPIC_GPA: Gpa = Gpa(0xfec0_0000);
/// Size of the register range in bytes.
pub const IOAPIC_BYTES: u64 = 0x1000;
/// Number of inputs.
pub const PINS: usize = 24;

const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;
const EOI: u64 = 0x40;

const REG_ID: u8 = 0;
const REG_VERSION: u8 = 1;
const REG_ARBITRATION: u8 = 2;
const REG_TABLE: u8 = 0x10;

const ID_FIELD: u32 = 0xf << 24;
/// Version 0x20, the last entry's number.
const VERSION: u32 = 0x20 | (PINS as u32 - 1) << 16;

const DELIVERY_SHIFT: u32 = 8;
const LOGICAL: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Vector, delivery and destination mode, polarity, trigger, mask; destination.
const WRITABLE: u64 = 0xff00_0000_0001_afff;
const DESTINATION_SHIFT: u32 = 56;

/// A redirection table entry.
#[derive(Clone, Copy, Debug)]
struct Entry(u64);

impl Entry {
    const RESET: Self = Self(MASKED);

    const fn is(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// Whether it waits for EOIs: only vectors are level triggered, the rest has none.
    fn has_remote_irr(self) -> bool {
        let delivery = Delivery::decode((self.0 >> DELIVERY_SHIFT) as u32);
        self.is(LEVEL) && matches!(delivery, Some(Delivery::Fixed | Delivery::LowestPriority))
    }

    const fn message(self) -> Option<ApicMessage> {
        let delivery = match Delivery::decode((self.0 >> DELIVERY_SHIFT) as u32) {
            Some(Delivery::StartUp) | None => return None,
            Some(delivery) => delivery,
        };
        Some(ApicMessage {
            destination: Destination::from_8bit((self.0 >> DESTINATION_SHIFT) as u8, self.is(LOGICAL)),
            delivery,
            vector: self.vector(),
            trigger: if self.is(LEVEL) { Trigger::Level } else { Trigger::Edge },
        })
    }
}

/// An I/O APIC.
#[derive(Debug)]
pub struct IoApic {
    select: u8,
    id: u32,
    lines: u32,
    table: [Entry; PINS],
}

impl IoApic {
    /// An I/O APIC after reset, its identifier `id` (0..=15) as firmware sets it.
    #[must_use]
    pub const fn new(id: u8) -> Self {
        Self { select: 0, id: (id as u32) << 24 & ID_FIELD, lines: 0, table: [Entry::RESET; PINS] }
    }

    /// The addresses of the registers.
    #[must_use]
    pub const fn range(&self) -> Option<GpaRange> {
        GpaRange::new(IOAPIC_GPA, IOAPIC_BYTES)
    }

    /// Drives input `gsi`; inputs the chip does not have are ignored.
    #[inline]
    pub fn set_line(&mut self, gsi: Gsi, active: bool, fx: &mut impl ApicBus) {
        let pin = usize::from(gsi.0);
        if pin >= PINS {
            return;
        }
        let bit = 1 << pin;
        let rises = active && self.lines & bit == 0;
        if active {
            self.lines |= bit;
        } else {
            self.lines &= !bit;
        }
        if rises {
            self.request(pin, fx);
        }
    }

    /// A local APIC completed the level-triggered `vector`.
    pub fn end_of_interrupt(&mut self, vector: u8, fx: &mut impl ApicBus) {
        for pin in 0..PINS {
            if let Some(entry) = self.table.get_mut(pin)
                && entry.is(REMOTE_IRR)
                && entry.vector() == vector
            {
                entry.0 &= !REMOTE_IRR;
                self.request_if_level(pin, fx);
            }
        }
    }

    /// Nobody has taken `message`: there will be no EOI to it. The input is requested again by [`IoApic::retry`], or by whatever
    /// changes its entry.
    pub fn refused(&mut self, message: &ApicMessage) {
        let sent = |entry: &&mut Entry| entry.is(REMOTE_IRR) && entry.message().as_ref() == Some(message);
        self.table.iter_mut().filter(sent).for_each(|entry| entry.0 &= !REMOTE_IRR);
    }

    /// A local APIC may take what was refused: requests all active level inputs that wait for no EOI.
    pub fn retry(&mut self, fx: &mut impl ApicBus) {
        for pin in 0..PINS {
            if self.table.get(pin).is_some_and(|entry| entry.has_remote_irr()) {
                self.request_if_level(pin, fx);
            }
        }
    }

    /// Reads a register.
    pub fn read(&mut self, access: MmioAccess) -> u64 {
        let value = match access.offset {
            IOREGSEL => u64::from(self.select),
            IOWIN => u64::from(self.read_indirect()),
            _ => 0,
        };
        value & access.size.mask()
    }

    /// Writes a register.
    pub fn write(&mut self, access: MmioAccess, value: u64, fx: &mut impl ApicBus) {
        match access.offset {
            IOREGSEL => self.select = value as u8,
            IOWIN => self.write_indirect(value as u32, fx),
            EOI => self.end_of_interrupt(value as u8, fx),
            _ => {}
        }
    }

    fn read_indirect(&self) -> u32 {
        match self.select {
            REG_ID | REG_ARBITRATION => self.id,
            REG_VERSION => VERSION,
            _ => match self.selected_entry() {
                Some((pin, half)) => self.table.get(pin).map_or(0, |e| (e.0 >> half) as u32),
                None => 0,
            },
        }
    }

    fn write_indirect(&mut self, value: u32, fx: &mut impl ApicBus) {
        if self.select == REG_ID {
            self.id = value & ID_FIELD;
        } else if let Some((pin, half)) = self.selected_entry()
            && let Some(entry) = self.table.get_mut(pin)
        {
            let written = u64::from(value) << half;
            let field = (WRITABLE >> half & u64::from(u32::MAX)) << half;
            entry.0 = entry.0 & !field | written & field;
            // Software switches to edge and back to clear a stuck remote IRR.
            if !entry.is(LEVEL) {
                entry.0 &= !REMOTE_IRR;
            }
            self.request_if_level(pin, fx);
        }
    }

    /// The pin and the shift of the half that the selected table register shows.
    fn selected_entry(&self) -> Option<(usize, u32)> {
        let index = self.select.checked_sub(REG_TABLE)?;
        let pin = usize::from(index / 2);
        (pin < PINS).then_some((pin, u32::from(index % 2) * u32::BITS))
    }

    fn request_if_level(&mut self, pin: usize, fx: &mut impl ApicBus) {
        let is_level = self.table.get(pin).is_some_and(|entry| entry.is(LEVEL));
        if is_level && self.lines & 1 << pin != 0 {
            self.request(pin, fx);
        }
    }

    /// Delivers input `pin`. An edge on a masked pin is lost (data sheet, 3.2.4, bit 16).
    fn request(&mut self, pin: usize, fx: &mut impl ApicBus) {
        let Some(entry) = self.table.get_mut(pin) else {
            return;
        };
        if entry.is(MASKED) || entry.is(REMOTE_IRR) {
            return;
        }
        let Some(mut message) = entry.message() else {
            return;
        };
        if entry.has_remote_irr() {
            entry.0 |= REMOTE_IRR;
        } else {
            message.trigger = Trigger::Edge;
        }
        fx.send(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::apic::LapicId;
    use crate::bus::mmio::MmioSize;
    use crate::recorder::Recorder;
    use proptest::prelude::*;

    const fn dword(offset: u64) -> MmioAccess {
        MmioAccess { offset, size: MmioSize::Dword }
    }

    fn set(apic: &mut IoApic, fx: &mut Recorder, register: u8, value: u32) {
        apic.write(dword(IOREGSEL), register.into(), fx);
        apic.write(dword(IOWIN), value.into(), fx);
    }

    fn get(apic: &mut IoApic, fx: &mut Recorder, register: u8) -> u32 {
        apic.write(dword(IOREGSEL), register.into(), fx);
        apic.read(dword(IOWIN)) as u32
    }

    #[test]
    fn identification_and_reset() {
        let (mut apic, mut fx) = (IoApic::new(1), Recorder::default());
        assert_eq!(get(&mut apic, &mut fx, 0), 0x0100_0000);
        assert_eq!(get(&mut apic, &mut fx, 1), 0x0017_0020);
        for pin in 0..24 {
            assert_eq!(get(&mut apic, &mut fx, 0x10 + 2 * pin), 0x1_0000);
        }
        set(&mut apic, &mut fx, 0x10, u32::MAX);
        assert_eq!(get(&mut apic, &mut fx, 0x10), 0x1_afff, "status bits are read-only");
    }

    #[test]
    fn edges_are_delivered_once_and_lost_while_masked() {
        let (mut apic, mut fx) = (IoApic::new(0), Recorder::default());
        apic.set_line(Gsi(4), true, &mut fx);
        set(&mut apic, &mut fx, 0x18, 0x0031);
        assert!(fx.messages.is_empty());
        apic.set_line(Gsi(4), true, &mut fx);
        assert!(fx.messages.is_empty(), "no edge");
        apic.set_line(Gsi(4), false, &mut fx);
        apic.set_line(Gsi(4), true, &mut fx);
        assert_eq!(fx.messages.len(), 1);
        let message = fx.messages.remove(0);
        assert_eq!((message.vector, message.trigger), (0x31, Trigger::Edge));
        assert_eq!(message.destination, Destination::Physical(LapicId(0)));
    }

    #[test]
    fn level_waits_for_eoi_and_repeats_while_active() {
        let (mut apic, mut fx) = (IoApic::new(0), Recorder::default());
        apic.set_line(Gsi(9), true, &mut fx);
        set(&mut apic, &mut fx, 0x23, 0x0100_0000);
        set(&mut apic, &mut fx, 0x22, 0x0000_a841);
        assert_eq!(fx.messages.len(), 1, "unmasking sees the level");
        assert_eq!(fx.messages[0].destination, Destination::Logical(1));
        assert_eq!(get(&mut apic, &mut fx, 0x22), 0x0000_e841);
        apic.set_line(Gsi(9), false, &mut fx);
        apic.set_line(Gsi(9), true, &mut fx);
        assert_eq!(fx.messages.len(), 1, "one at a time");
        apic.end_of_interrupt(0x42, &mut fx);
        assert_eq!(fx.messages.len(), 1);
        apic.end_of_interrupt(0x41, &mut fx);
        assert_eq!(fx.messages.len(), 2);
        apic.set_line(Gsi(9), false, &mut fx);
        apic.write(dword(EOI), 0x41, &mut fx);
        assert_eq!(fx.messages.len(), 2);
        assert_eq!(get(&mut apic, &mut fx, 0x22), 0x0000_a841);
    }

    #[test]
    fn a_message_that_nobody_takes_is_repeated() {
        let (mut apic, mut fx) = (IoApic::new(0), Recorder::default());
        for (register, value) in [(0x22, 0x8041), (0x24, 0x8441)] {
            set(&mut apic, &mut fx, register, value);
        }
        apic.set_line(Gsi(9), true, &mut fx);
        // That of an NMI has no EOI to wait for.
        apic.set_line(Gsi(10), true, &mut fx);
        let message = fx.messages[0];
        fx.messages.clear();
        apic.retry(&mut fx);
        assert!(fx.messages.is_empty(), "it was taken");
        apic.refused(&message);
        assert_eq!(get(&mut apic, &mut fx, 0x22), 0x8041);
        apic.retry(&mut fx);
        assert_eq!(fx.messages, [message]);
        apic.refused(&message);
        apic.set_line(Gsi(9), false, &mut fx);
        apic.retry(&mut fx);
        assert_eq!(fx.messages, [message], "there is nothing to repeat");
    }

    #[test]
    fn switching_to_edge_clears_remote_irr() {
        let (mut apic, mut fx) = (IoApic::new(0), Recorder::default());
        set(&mut apic, &mut fx, 0x22, 0x8041);
        apic.set_line(Gsi(9), true, &mut fx);
        set(&mut apic, &mut fx, 0x22, 0x1_0041);
        assert_eq!(get(&mut apic, &mut fx, 0x22), 0x1_0041);
    }

    proptest! {
        #[test]
        fn remote_irr_only_on_level_entries(ops in proptest::collection::vec((0u8..4, any::<u8>(), any::<u32>()), 0..200)) {
            let (mut apic, mut fx) = (IoApic::new(0), Recorder::default());
            for (op, small, value) in ops {
                match op {
                    0 => apic.set_line(Gsi(small), value & 1 != 0, &mut fx),
                    1 => set(&mut apic, &mut fx, small, value),
                    2 => apic.end_of_interrupt(small, &mut fx),
                    _ => { apic.read(MmioAccess { offset: u64::from(value), size: MmioSize::Qword }); }
                }
                prop_assert!(apic.table.iter().all(|e| !e.is(REMOTE_IRR) || e.is(LEVEL)));
            }
        }
    }
}
