//! ACPI fixed power management registers: PM1a event and control blocks (ACPI 6.5, 4.8.3).
//!
//! There is no general purpose event block: the FADT says its length is 0. The machine starts in
//! ACPI mode and the FADT names no SMI command port.

use crate::bus::irq::{IrqBus, IrqLine, IrqPin};
use crate::bus::port::{Lanes, PortAccess, PortClaims};
use crate::bus::power::{PowerBus, PowerEvent, PowerSource};
use crate::pmtimer::PM_TIMER_HZ;
use crate::time::{Clock, Rate, Tsc};
use core::ops::RangeInclusive;

/// Size of the PM1a event block in bytes: status and enable.
pub const PM1_EVENT_BYTES: u16 = 4;
/// Size of the PM1a control block in bytes.
pub const PM1_CONTROL_BYTES: u16 = 2;
/// The sleep type that switches the machine off, for the DSDT's `\_S5`.
pub const SLEEP_TYPE_S5: u16 = 5;

/// PM1 status and enable (ACPI 6.5, tables 4.13 and 4.14).
mod event {
    pub const TIMER: u16 = 1 << 0;
    pub const GLOBAL: u16 = 1 << 5;
    pub const POWER_BUTTON: u16 = 1 << 8;
    pub const SLEEP_BUTTON: u16 = 1 << 9;
    pub const RTC: u16 = 1 << 10;
    pub const ENABLES: u16 = TIMER | GLOBAL | POWER_BUTTON | SLEEP_BUTTON | RTC;
}

/// PM1 control (ACPI 6.5, table 4.15).
mod control {
    pub const SCI_ENABLE: u16 = 1 << 0;
    pub const SLEEP_TYPE_SHIFT: u32 = 10;
    pub const SLEEP_TYPE: u16 = 7 << SLEEP_TYPE_SHIFT;
    pub const SLEEP_ENABLE: u16 = 1 << 13;
    pub const BUS_MASTER_RELOAD: u16 = 1 << 1;
    pub const STORED: u16 = BUS_MASTER_RELOAD | SLEEP_TYPE;
}

/// TMR_STS is set whenever the most significant bit of the 24-bit PM timer changes.
const TIMER_STATUS_SHIFT: u32 = 23;

/// The registers and the power button.
#[derive(Debug)]
pub struct AcpiPm {
    event_base: u16,
    control_base: u16,
    sci: IrqPin,
    rate: Rate,
    status: u16,
    enable: u16,
    control: u16,
    /// How often the timer's top bit had changed when TMR_STS was last brought up to date.
    timer_changes: u64,
}

impl AcpiPm {
    /// Event block at `event_base`, control block at `control_base`; `sci` is the line of the system
    /// control interrupt, level triggered.
    #[must_use]
    pub const fn new(event_base: u16, control_base: u16, sci: IrqLine, clock: Clock) -> Self {
        Self {
            event_base,
            control_base,
            sci: IrqPin::new(sci),
            rate: clock.rate(PM_TIMER_HZ),
            status: 0,
            enable: 0,
            control: control::SCI_ENABLE,
            timer_changes: 0,
        }
    }

    /// Somebody pressed the power button.
    pub fn press_power_button(&mut self, fx: &mut impl IrqBus) {
        self.status |= event::POWER_BUTTON;
        self.update(fx);
    }

    /// Reads a register or a part of one.
    pub fn read(&mut self, now: Tsc, access: PortAccess, fx: &mut impl IrqBus) -> u32 {
        self.expire(now, fx);
        let control = access.port.wrapping_sub(self.control_base);
        let (registers, byte) = if control < PM1_CONTROL_BYTES {
            (u32::from(self.control), control)
        } else {
            let both = u32::from(self.enable) << 16 | u32::from(self.status);
            (both, access.port.wrapping_sub(self.event_base))
        };
        registers >> (u32::from(byte & 3) * u8::BITS)
    }

    /// Writes a register or a part of one.
    pub fn write(&mut self, now: Tsc, access: PortAccess, value: u32, fx: &mut (impl IrqBus + PowerBus)) {
        self.expire(now, fx);
        let control = access.port.wrapping_sub(self.control_base);
        if control < PM1_CONTROL_BYTES {
            let (value, mask) = position(access, control, value);
            self.write_control(value as u16, mask as u16, fx);
        } else {
            let offset = access.port.wrapping_sub(self.event_base);
            let (value, mask) = position(access, offset, value);
            // Status bits are cleared by writing ones.
            self.status &= !(value as u16);
            let (value, mask) = ((value >> 16) as u16, (mask >> 16) as u16);
            self.enable = (self.enable & !mask | value) & event::ENABLES;
            self.update(fx);
        }
    }

    fn write_control(&mut self, value: u16, mask: u16, fx: &mut impl PowerBus) {
        // SCI_EN belongs to the firmware; SLP_EN is write-only.
        let writable = mask & control::STORED;
        self.control = self.control & !writable | value & writable;
        let sleep_type = (self.control & control::SLEEP_TYPE) >> control::SLEEP_TYPE_SHIFT;
        if value & control::SLEEP_ENABLE != 0 && sleep_type == SLEEP_TYPE_S5 {
            fx.power(PowerEvent::Off, PowerSource::AcpiSleep);
        }
    }

    /// When the timer status changes next, if that raises an interrupt.
    #[must_use]
    pub const fn deadline(&self) -> Option<Tsc> {
        if self.enable & !self.status & event::TIMER == 0 {
            return None;
        }
        let next = self.timer_changes.saturating_add(1);
        Some(self.rate.when(next.saturating_mul(1 << TIMER_STATUS_SHIFT)))
    }

    /// Brings the timer status up to date.
    pub fn expire(&mut self, now: Tsc, fx: &mut impl IrqBus) {
        let changes = self.rate.ticks(now) >> TIMER_STATUS_SHIFT;
        if changes > self.timer_changes {
            self.timer_changes = changes;
            self.status |= event::TIMER;
            self.update(fx);
        }
    }

    fn update(&mut self, fx: &mut impl IrqBus) {
        let active = self.status & self.enable != 0;
        self.sci.set(active, fx);
    }
}

/// Moves `value` to where `offset` puts it in a 32-bit register pair; with the mask of the bits that
/// the access covers.
const fn position(access: PortAccess, offset: u16, value: u32) -> (u32, u32) {
    let shift = (offset as u32 & 3) * u8::BITS;
    let mask = access.size.mask() << shift;
    ((value & access.size.mask()) << shift, mask)
}

impl PortClaims for AcpiPm {
    const LANES: Lanes = Lanes::Wide;

    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        let last = |base: u16, bytes: u16| base.saturating_add(bytes - 1);
        [
            self.event_base..=last(self.event_base, PM1_EVENT_BYTES),
            self.control_base..=last(self.control_base, PM1_CONTROL_BYTES),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::port::PortSize;
    use crate::recorder::{Recorder, at_us, clock};
    use proptest::prelude::*;

    const STATUS: u16 = 0x600;
    const ENABLE: u16 = 0x602;
    const CONTROL: u16 = 0x604;
    const SCI: IrqLine = IrqLine(9);
    const T0: Tsc = Tsc(0);

    const fn word(port: u16) -> PortAccess {
        PortAccess { port, size: PortSize::Word }
    }

    fn pm() -> (AcpiPm, Recorder) {
        let pm = AcpiPm::new(STATUS, CONTROL, SCI, clock());
        (pm, Recorder::default())
    }

    #[test]
    fn starts_in_acpi_mode_and_stays() {
        let (mut pm, mut fx) = pm();
        pm.write(T0, word(CONTROL), 0, &mut fx);
        assert_eq!(pm.read(T0, word(CONTROL), &mut fx) & 1, 1);
    }

    #[test]
    fn sleep_type_5_with_enable_switches_off() {
        let (mut pm, mut fx) = pm();
        // As ACPICA does it: the type first, then type and enable.
        pm.write(T0, word(CONTROL), 5 << 10 | 1, &mut fx);
        assert!(fx.power.is_empty());
        pm.write(T0, word(CONTROL), 5 << 10 | 1 << 13 | 1, &mut fx);
        assert_eq!(fx.power, [(PowerEvent::Off, PowerSource::AcpiSleep)]);
        assert_eq!(pm.read(T0, word(CONTROL), &mut fx) & 1 << 13, 0);
        pm.write(T0, word(CONTROL), 3 << 10 | 1 << 13, &mut fx);
        assert_eq!(fx.power.len(), 1);
    }

    #[test]
    fn power_button_raises_sci_until_cleared() {
        let (mut pm, mut fx) = pm();
        pm.press_power_button(&mut fx);
        assert!(fx.irqs.is_empty());
        pm.write(T0, word(ENABLE), 0x100, &mut fx);
        assert_eq!(fx.irqs, [(SCI, true)]);
        assert_eq!(pm.read(T0, word(STATUS), &mut fx) & 0xffff, 0x100);
        pm.write(T0, PortAccess::byte(STATUS + 1), 0x01, &mut fx);
        assert_eq!(fx.irqs, [(SCI, true), (SCI, false)]);
        assert_eq!(pm.read(T0, word(ENABLE), &mut fx), 0x100);
    }

    #[test]
    fn timer_status_follows_the_top_bit() {
        let (mut pm, mut fx) = pm();
        assert_eq!(pm.deadline(), None);
        pm.write(T0, word(ENABLE), 1, &mut fx);
        let due = pm.deadline().unwrap();
        assert!(due > at_us(2_343_000) && due < at_us(2_344_000));
        pm.expire(due, &mut fx);
        assert_eq!(fx.irqs, [(SCI, true)]);
        pm.write(due, word(STATUS), 1, &mut fx);
        assert_eq!(fx.irqs.len(), 2);
        assert!(pm.deadline().unwrap() > due);
    }

    proptest! {
        #[test]
        fn sci_shows_enabled_status(ops in proptest::collection::vec((0u8..4, 0u16..8, any::<u32>(), 0u8..3, 0u64..1 << 40), 0..100)) {
            let (mut pm, mut fx) = pm();
            let mut now = T0;
            for (op, port, value, size, delta) in ops {
                now = now.after(delta);
                let size = [PortSize::Byte, PortSize::Word, PortSize::Dword][usize::from(size)];
                let access = PortAccess { port: STATUS + port, size };
                match op {
                    0 => { pm.read(now, access, &mut fx); }
                    1 => pm.write(now, access, value, &mut fx),
                    2 => pm.press_power_button(&mut fx),
                    _ => pm.expire(now, &mut fx),
                }
                prop_assert_eq!(pm.status & pm.enable != 0, fx.irqs.last().is_some_and(|(_, a)| *a));
                prop_assert_eq!(pm.control & 1, 1);
            }
        }
    }
}
