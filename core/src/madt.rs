//! Interrupt source overrides of the ACPI MADT: where the 16 ISA interrupts arrive (ACPI 6.5, 5.2.12).

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
/// Length of the table up to its first entry: header, local APIC address, flags.
const ENTRIES: usize = 44;
/// Type and length of an interrupt source override (ACPI 6.5, 5.2.12.5).
const OVERRIDE: u8 = 2;
const OVERRIDE_LENGTH: usize = 10;
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
    /// Reads the overrides of a MADT. What is malformed is not read; lines without override are edge-triggered,
    /// active high, and have their own number.
    #[must_use]
    pub fn from_madt(table: &[u8]) -> Self {
        let mut lines = Self::default();
        let mut rest = table.get(ENTRIES..).unwrap_or(&[]);
        while let [kind, length, ..] = *rest {
            let length = usize::from(length);
            let Some(entry) = rest.get(..length).filter(|entry| entry.len() >= 2) else {
                break;
            };
            if kind == OVERRIDE
                && let Some(&[_, _, _, source, g0, g1, g2, g3, f0, f1]) = entry.first_chunk::<OVERRIDE_LENGTH>()
                && let Some(line) = lines.0.get_mut(usize::from(source))
            {
                let flags = u16::from_le_bytes([f0, f1]);
                *line = Line {
                    gsi: u32::from_le_bytes([g0, g1, g2, g3]),
                    level: flags & TRIGGER == TRIGGER_LEVEL,
                    low: flags & POLARITY == POLARITY_LOW,
                };
            }
            rest = rest.get(length..).unwrap_or(&[]);
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
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn overrides_as_found_on_a_pc() {
        let mut table = vec![0; ENTRIES];
        table.extend([0, 8, 0, 0, 1, 0, 0, 0]);
        table.extend([OVERRIDE, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
        table.extend([OVERRIDE, 10, 0, 9, 9, 0, 0, 0, 0xd, 0]);
        table.extend([OVERRIDE, 10, 0, 10, 30, 0, 0, 0, 0xf, 0]);
        let lines = IsaLines::from_madt(&table);
        assert_eq!(lines.line(0), Line { gsi: 2, level: false, low: false });
        assert_eq!(lines.line(4), Line { gsi: 4, level: false, low: false });
        assert_eq!(lines.line(9), Line { gsi: 9, level: true, low: false });
        assert_eq!(lines.line(10), Line { gsi: 30, level: true, low: true });
        assert_eq!(lines.line(20), Line { gsi: 20, level: true, low: true });
    }

    #[test]
    fn a_truncated_override_is_not_read() {
        let mut table = vec![0; ENTRIES];
        table.extend([OVERRIDE, 10, 0, 0, 2, 0]);
        assert_eq!(IsaLines::from_madt(&table), IsaLines::default());
    }

    proptest! {
        #[test]
        fn no_table_is_too_malformed(table in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(IsaLines::from_madt(&table).line(16).level);
        }
    }
}
