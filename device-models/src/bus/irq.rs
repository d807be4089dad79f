//! Interrupt lines between devices and interrupt controllers.

/// An interrupt line of the board: 0..=15 are the ISA lines as the 8259 pair numbers them, higher
/// numbers are global system interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IrqLine(pub u8);

/// A global system interrupt: an input of the I/O APICs, counted over all of them (ACPI 6.5, 5.2.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gsi(pub u8);

/// The ISA line of the interval timer.
pub const TIMER_LINE: IrqLine = IrqLine(0);

/// The ISA line at which the slave 8259 is cascaded; no device can use it.
pub const CASCADE_LINE: IrqLine = IrqLine(2);

/// The I/O APIC input of the interval timer. The MADT needs an interrupt source override that says so.
pub const TIMER_GSI: Gsi = Gsi(2);

impl IrqLine {
    /// The I/O APIC input the line is soldered to; the cascade reaches none.
    #[inline]
    #[must_use]
    pub const fn gsi(self) -> Option<Gsi> {
        if self.0 == TIMER_LINE.0 {
            Some(TIMER_GSI)
        } else if self.0 == CASCADE_LINE.0 {
            None
        } else {
            Some(Gsi(self.0))
        }
    }
}

/// Carries interrupt levels from devices to the interrupt controllers.
pub trait IrqBus {
    /// Line `line` is now active (`true`) or inactive. Called on changes only.
    fn irq(&mut self, line: IrqLine, active: bool);

    /// The INT output of the master 8259 changed; it ends at the local APICs' LINT0 and, where
    /// those are switched off, at the INTR pin.
    fn intr(&mut self, active: bool);
}

/// Drives one line, telling the bus about changes only.
#[derive(Clone, Copy, Debug)]
pub struct IrqPin {
    line: IrqLine,
    active: bool,
}

impl IrqPin {
    /// An inactive driver of `line`.
    #[must_use]
    pub const fn new(line: IrqLine) -> Self {
        Self { line, active: false }
    }

    /// Whether the line is driven active.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// Drives the line to `active`.
    #[inline]
    pub fn set(&mut self, active: bool, fx: &mut impl IrqBus) {
        if self.active != active {
            self.active = active;
            fx.irq(self.line, active);
        }
    }

    /// Makes a rising edge: a low pulse first where the line is already active.
    pub fn rise(&mut self, fx: &mut impl IrqBus) {
        self.set(false, fx);
        self.set(true, fx);
    }
}
