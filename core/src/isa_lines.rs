//! Where interrupts arrive and how they signal: the 16 of ISA as the MADT's overrides say (ACPI 6.5, 5.2.12), others as PCI's do.

use acpi_reader::madt::Entry;

/// How a line signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// Global system interrupt.
    pub gsi: u32,
    /// Level-triggered.
    pub level: bool,
    /// Active low.
    pub low: bool,
}

/// Number of ISA interrupts.
const ISA_LINES: usize = 16;
/// Values of the MPS INTI flags: polarity in bits 1:0, trigger mode in bits 3:2; 0 conforms to the bus.
const POLARITY: u16 = 0b11;
const POLARITY_LOW: u16 = 0b11;
const TRIGGER: u16 = 0b1100;
const TRIGGER_LEVEL: u16 = 0b1100;

/// Lines by interrupt number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IsaLines([Line; ISA_LINES]);

impl Default for IsaLines {
    fn default() -> Self {
        let mut gsi = 0..;
        Self([(); ISA_LINES].map(|()| Line { gsi: gsi.next().unwrap_or(0), level: false, low: false }))
    }
}

impl IsaLines {
    /// Takes the overrides among the entries of a MADT. Lines without override are edge-triggered, active high, and have their
    /// own number.
    #[must_use]
    pub fn new(entries: impl Iterator<Item = Entry>) -> Self {
        let mut lines = Self::default();
        for entry in entries {
            if let Entry::Override { source, gsi, flags } = entry
                && let Some(line) = lines.0.get_mut(usize::from(source))
            {
                let (level, low) = (flags & TRIGGER == TRIGGER_LEVEL, flags & POLARITY == POLARITY_LOW);
                *line = Line { gsi, level, low };
            }
        }
        lines
    }

    /// The line of interrupt number `irq`: ISA below 16; above, a PCI interrupt with its own number, level-triggered
    /// and active low (PCI Local Bus 3.0, 2.2.6).
    #[must_use]
    pub fn line(&self, irq: u32) -> Line {
        let isa = usize::try_from(irq).ok().and_then(|irq| self.0.get(irq));
        isa.copied().unwrap_or(Line { gsi: irq, level: true, low: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_as_found_on_a_pc() {
        let entries = [(0, 2, 0), (9, 9, 0xd), (10, 30, 0xf), (200, 7, 0)];
        let overrides = entries.map(|(source, gsi, flags)| Entry::Override { source, gsi, flags });
        let lines = IsaLines::new([Entry::Cpu(0)].into_iter().chain(overrides));
        assert_eq!(lines.line(0), Line { gsi: 2, level: false, low: false });
        assert_eq!(lines.line(4), Line { gsi: 4, level: false, low: false });
        assert_eq!(lines.line(9), Line { gsi: 9, level: true, low: false });
        assert_eq!(lines.line(10), Line { gsi: 30, level: true, low: true });
        assert_eq!(lines.line(20), Line { gsi: 20, level: true, low: true });
    }
}
