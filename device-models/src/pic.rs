//! Intel 8259A programmable interrupt controller, one chip, with the ELCR of PCI chipsets.
//!
//! Follows the 8259A data sheet (order 231468) and, for the edge/level control register, the PIIX
//! data sheet. Two chips are cascaded by wiring: the slave's `irq` is a line of the master.

mod ocw2;

use crate::bus::irq::{CASCADE_LINE, IrqBus, IrqLine, IrqPin, TIMER_LINE};
use crate::bus::port::{Lanes, PortClaims};
use core::ops::RangeInclusive;
use ocw2::Ocw2;

/// Number of its ports, that of the ELCR aside.
pub const PIC_PORTS: u16 = 2;

const ICW1_SELECT: u8 = 1 << 4;
const ICW1_LEVEL: u8 = 1 << 3;
const ICW1_SINGLE: u8 = 1 << 1;
const ICW1_IC4: u8 = 1 << 0;
const ICW2_BASE: u8 = 0xf8;
const ICW4_NESTED: u8 = 1 << 4;
const ICW4_AUTO_EOI: u8 = 1 << 1;
const OCW3_SELECT: u8 = 1 << 3;
const OCW3_SET_SPECIAL_MASK: u8 = 0b11 << 5;
const OCW3_ENABLE_SPECIAL_MASK: u8 = 1 << 6;
const OCW3_POLL: u8 = 1 << 2;
const OCW3_READ: u8 = 1 << 1;
const OCW3_READ_ISR: u8 = 1 << 0;
const LEVEL_FIELD: u8 = 0b111;
/// Poll word: an interrupt is pending, its level is in the low bits.
const POLL_PENDING: u8 = 1 << 7;
/// The level of the default interrupt, given when the request went away.
const SPURIOUS_LEVEL: u8 = 7;
const LOWEST_AFTER_INIT: u8 = 7;

/// Which word of the initialisation sequence the data port expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Icw2,
    Icw3,
    Icw4,
    Ocw1,
}

/// Where the INT output goes.
#[derive(Clone, Copy, Debug)]
enum Output {
    /// The master: to the processor.
    Processor { active: bool },
    /// A slave: to a line of the master.
    Line(IrqPin),
}

impl Output {
    #[inline]
    fn set(&mut self, level: bool, fx: &mut impl IrqBus) {
        match self {
            Self::Processor { active } if *active != level => {
                *active = level;
                fx.intr(level);
            }
            Self::Processor { .. } => {}
            Self::Line(pin) => pin.set(level, fx),
        }
    }
}

/// What an interrupt acknowledge cycle finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// The interrupt vector.
    Vector(u8),
    /// A slave hangs on this line: acknowledge that chip to get the vector.
    Cascade(IrqLine),
}

/// One 8259A.
#[derive(Debug)]
pub struct Pic {
    io_base: u16,
    elcr_base: u16,
    first_line: u8,
    output: Output,
    lines: u8,
    irr: u8,
    imr: u8,
    isr: u8,
    elcr: u8,
    icw1: u8,
    vector_base: u8,
    slaves: u8,
    icw4: u8,
    lowest: u8,
    expect: Expect,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    read_isr: bool,
    poll: bool,
}

impl Pic {
    /// A chip at `io_base` whose first input is line `first_line` (0 or 8). `irq` is the line its
    /// INT output drives; `None` for the master.
    #[must_use]
    pub const fn new(io_base: u16, elcr_base: u16, first_line: IrqLine, irq: Option<IrqLine>) -> Self {
        let output = match irq {
            Some(line) => Output::Line(IrqPin::new(line)),
            None => Output::Processor { active: false },
        };
        Self {
            io_base,
            elcr_base,
            first_line: first_line.0,
            output,
            lines: 0,
            irr: 0,
            imr: 0,
            isr: 0,
            elcr: 0,
            icw1: 0,
            vector_base: 0,
            slaves: 0,
            icw4: 0,
            lowest: LOWEST_AFTER_INIT,
            expect: Expect::Ocw1,
            rotate_on_auto_eoi: false,
            special_mask: false,
            read_isr: false,
            poll: false,
        }
    }

    /// Whether `line` is an input of this chip.
    #[inline]
    #[must_use]
    pub const fn has_line(&self, line: IrqLine) -> bool {
        line.0 & !LEVEL_FIELD == self.first_line
    }

    /// Drives input `line`; ignored where the chip does not have it.
    #[inline]
    pub fn set_line(&mut self, line: IrqLine, active: bool, fx: &mut impl IrqBus) {
        if !self.has_line(line) {
            return;
        }
        let bit = 1 << (line.0 & LEVEL_FIELD);
        if active {
            // A level input requests while it is high, an edge input from its rising edge on.
            if self.is_level(bit) || self.lines & bit == 0 {
                self.irr |= bit;
            }
            self.lines |= bit;
        } else {
            // The request must stay until it is acknowledged, in either mode.
            self.lines &= !bit;
            self.irr &= !bit;
        }
        self.update(fx);
    }

    /// An interrupt acknowledge cycle (INTA) of the processor.
    pub fn acknowledge(&mut self, fx: &mut impl IrqBus) -> Acknowledge {
        let Some(level) = self.pending() else {
            return Acknowledge::Vector(self.vector_base | SPURIOUS_LEVEL);
        };
        self.take(level, fx);
        if self.icw1 & ICW1_SINGLE == 0 && self.slaves & 1 << level != 0 && self.is_master() {
            Acknowledge::Cascade(IrqLine(self.first_line | level))
        } else {
            Acknowledge::Vector(self.vector_base | level)
        }
    }

    /// Reads a port of the chip.
    pub fn read(&mut self, port: u16, fx: &mut impl IrqBus) -> u8 {
        if port == self.elcr_base {
            return self.elcr;
        }
        if self.poll {
            self.poll = false;
            return match self.pending() {
                Some(level) => {
                    self.take(level, fx);
                    POLL_PENDING | level
                }
                None => 0,
            };
        }
        match (port == self.io_base, self.read_isr) {
            (true, false) => self.irr,
            (true, true) => self.isr,
            (false, _) => self.imr,
        }
    }

    /// Writes a port of the chip.
    pub fn write(&mut self, port: u16, value: u8, fx: &mut impl IrqBus) {
        if port == self.elcr_base {
            self.write_elcr(value);
        } else if port == self.io_base {
            self.write_command(value, fx);
        } else {
            self.write_data(value);
        }
        self.update(fx);
    }

    const fn is_master(&self) -> bool {
        matches!(self.output, Output::Processor { .. })
    }

    /// Lines that must stay edge triggered: timer, keyboard and cascade; RTC and FPU on the slave.
    const fn edge_only(&self) -> u8 {
        if self.is_master() {
            const KEYBOARD: u8 = 1;
            1 << TIMER_LINE.0 | 1 << KEYBOARD | 1 << CASCADE_LINE.0
        } else {
            const RTC: u8 = 8 & LEVEL_FIELD;
            const FPU: u8 = 13 & LEVEL_FIELD;
            1 << RTC | 1 << FPU
        }
    }

    const fn is_level(&self, bit: u8) -> bool {
        self.elcr & bit != 0 || self.icw1 & ICW1_LEVEL != 0
    }

    fn write_elcr(&mut self, value: u8) {
        self.elcr = value & !self.edge_only();
        self.irr |= self.lines & self.elcr;
    }

    fn write_command(&mut self, value: u8, fx: &mut impl IrqBus) {
        if value & ICW1_SELECT != 0 {
            self.initialise(value, fx);
        } else if value & OCW3_SELECT != 0 {
            self.poll = value & OCW3_POLL != 0;
            if value & OCW3_READ != 0 {
                self.read_isr = value & OCW3_READ_ISR != 0;
            }
            if value & OCW3_ENABLE_SPECIAL_MASK != 0 {
                self.special_mask = value & OCW3_SET_SPECIAL_MASK == OCW3_SET_SPECIAL_MASK;
            }
        } else {
            self.end_of_interrupt(Ocw2::decode(value), value & LEVEL_FIELD);
        }
    }

    fn initialise(&mut self, icw1: u8, fx: &mut impl IrqBus) {
        *self = Self {
            output: self.output,
            lines: self.lines,
            elcr: self.elcr,
            vector_base: self.vector_base,
            slaves: self.slaves,
            expect: Expect::Icw2,
            icw1,
            ..Self::new(self.io_base, self.elcr_base, IrqLine(self.first_line), None)
        };
        // ICW1 resets the edge sense circuit: a high edge input must fall before it can request.
        self.irr = if icw1 & ICW1_LEVEL != 0 { self.lines } else { self.lines & self.elcr };
        self.output.set(false, fx);
    }

    fn write_data(&mut self, value: u8) {
        self.expect = match self.expect {
            Expect::Icw2 => {
                self.vector_base = value & ICW2_BASE;
                if self.icw1 & ICW1_SINGLE == 0 { Expect::Icw3 } else { self.after_icw3() }
            }
            Expect::Icw3 => {
                self.slaves = value;
                self.after_icw3()
            }
            Expect::Icw4 => {
                self.icw4 = value;
                Expect::Ocw1
            }
            Expect::Ocw1 => {
                self.imr = value;
                Expect::Ocw1
            }
        };
    }

    const fn after_icw3(&self) -> Expect {
        if self.icw1 & ICW1_IC4 != 0 { Expect::Icw4 } else { Expect::Ocw1 }
    }

    fn end_of_interrupt(&mut self, command: Ocw2, level: u8) {
        match command {
            Ocw2::ClearRotateOnAutoEoi => self.rotate_on_auto_eoi = false,
            Ocw2::SetRotateOnAutoEoi => self.rotate_on_auto_eoi = true,
            Ocw2::Nop => {}
            Ocw2::SetPriority => self.lowest = level,
            Ocw2::SpecificEoi => self.isr &= !(1 << level),
            Ocw2::RotateOnSpecificEoi => {
                self.isr &= !(1 << level);
                self.lowest = level;
            }
            Ocw2::Eoi | Ocw2::RotateOnEoi => {
                // The special mask mode hides masked levels from the non-specific EOI.
                let candidates = if self.special_mask { self.isr & !self.imr } else { self.isr };
                if let Some(rank) = self.rank(candidates) {
                    let level = self.level(rank);
                    self.isr &= !(1 << level);
                    if matches!(command, Ocw2::RotateOnEoi) {
                        self.lowest = level;
                    }
                }
            }
        }
    }

    /// The rank (0 = highest priority) of the most urgent level in `set`.
    #[inline]
    const fn rank(&self, set: u8) -> Option<u32> {
        if set == 0 {
            return None;
        }
        Some(set.rotate_right(self.lowest as u32 + 1).trailing_zeros())
    }

    #[inline]
    const fn level(&self, rank: u32) -> u8 {
        (rank as u8 + self.lowest + 1) & LEVEL_FIELD
    }

    /// The level that would be acknowledged now.
    #[inline]
    fn pending(&self) -> Option<u8> {
        let rank = self.rank(self.irr & !self.imr)?;
        let mut blocking = self.isr;
        if self.special_mask {
            blocking &= !self.imr;
        }
        let level = self.level(rank);
        match self.rank(blocking) {
            Some(in_service) if in_service < rank => None,
            Some(in_service) if in_service == rank && !self.may_nest(level) => None,
            _ => Some(level),
        }
    }

    /// Special fully nested mode: a slave may interrupt its own service.
    #[inline]
    const fn may_nest(&self, level: u8) -> bool {
        self.icw4 & ICW4_NESTED != 0 && self.slaves & 1 << level != 0 && self.is_master()
    }

    /// Puts `level` in service.
    fn take(&mut self, level: u8, fx: &mut impl IrqBus) {
        let bit = 1 << level;
        if !self.is_level(bit) {
            self.irr &= !bit;
        }
        if self.icw4 & ICW4_AUTO_EOI == 0 {
            self.isr |= bit;
        } else if self.rotate_on_auto_eoi {
            self.lowest = level;
        }
        // INT falls with the acknowledge, so that a cascaded master sees an edge per request.
        self.output.set(false, fx);
        self.update(fx);
    }

    #[inline]
    fn update(&mut self, fx: &mut impl IrqBus) {
        let pending = self.pending().is_some();
        self.output.set(pending, fx);
    }
}

impl PortClaims for Pic {
    const LANES: Lanes = Lanes::Byte;

    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        [self.io_base..=self.io_base.saturating_add(PIC_PORTS - 1), self.elcr_base..=self.elcr_base]
    }
}

#[cfg(test)]
mod tests;
