//! MADT: the CPUs and interrupt controllers (ACPI 6.5, 5.2.12).

use crate::word::{u8_at, u16_at, u32_at};

/// What tells it from other tables.
pub const SIGNATURE: &[u8] = b"APIC";
/// Offset of its first entry: behind header, local APIC address and flags.
const ENTRIES: usize = 44;
/// Flag of a CPU that can be used.
const ENABLED: u32 = 1;

/// Types of entries.
mod kind {
    pub const LAPIC: u8 = 0;
    pub const IOAPIC: u8 = 1;
    pub const OVERRIDE: u8 = 2;
    pub const X2APIC: u8 = 9;
}

/// An entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A CPU that can be used, by its APIC id.
    Cpu(u32),
    /// An I/O APIC.
    IoApic {
        /// Physical address.
        address: u32,
        /// Its first global system interrupt.
        first: u32,
    },
    /// An ISA interrupt that arrives elsewhere or otherwise (5.2.12.5).
    Override {
        /// Number of the ISA interrupt.
        source: u8,
        /// Global system interrupt.
        gsi: u32,
        /// MPS INTI flags: polarity in bits 1:0, trigger mode in bits 3:2.
        flags: u16,
    },
}

/// The entries of a MADT that are known and whole.
pub fn entries(table: &[u8]) -> impl Iterator<Item = Entry> {
    let mut rest = table.get(ENTRIES..).unwrap_or(&[]);
    let structures = core::iter::from_fn(move || {
        let length = usize::from(u8_at(rest, 1)?);
        let (entry, behind) = rest.split_at_checked(length).filter(|_| length >= 2)?;
        rest = behind;
        Some(entry)
    });
    structures.filter_map(decode)
}

fn decode(entry: &[u8]) -> Option<Entry> {
    let cpu = |id, flags| (flags & ENABLED != 0).then_some(Entry::Cpu(id));
    match *entry.first()? {
        kind::LAPIC => cpu(u32::from(u8_at(entry, 3)?), u32_at(entry, 4)?),
        kind::X2APIC => cpu(u32_at(entry, 4)?, u32_at(entry, 8)?),
        kind::IOAPIC => Some(Entry::IoApic { address: u32_at(entry, 4)?, first: u32_at(entry, 8)? }),
        kind::OVERRIDE => {
            Some(Entry::Override { source: u8_at(entry, 3)?, gsi: u32_at(entry, 4)?, flags: u16_at(entry, 8)? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    #[test]
    fn entries_of_a_small_machine() {
        let mut table = vec![0; ENTRIES];
        table.extend([0, 8, 0, 5, 1, 0, 0, 0]);
        table.extend([0, 8, 0, 6, 0, 0, 0, 0]); // not enabled
        table.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 24, 0, 0, 0]);
        table.extend([2, 10, 0, 9, 20, 0, 0, 0, 0xd, 0]);
        table.extend([4, 6, 0xff, 0, 0, 1]); // a local NMI
        table.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let expected = [
            Entry::Cpu(5),
            Entry::IoApic { address: 0xfec0_0000, first: 24 },
            Entry::Override { source: 9, gsi: 20, flags: 0xd },
            Entry::Cpu(256),
        ];
        assert_eq!(entries(&table).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_cut_off_ends_the_table() {
        let mut table = vec![0; ENTRIES];
        table.extend([1, 4, 0, 0]); // too short for an I/O APIC
        table.extend([0, 8, 0, 5, 1, 0, 0, 0]);
        table.extend([0, 8, 0, 6, 1]);
        assert_eq!(entries(&table).collect::<Vec<_>>(), [Entry::Cpu(5)]);
        table.truncate(ENTRIES);
        table.extend([0, 0, 0, 8, 0, 5, 1, 0, 0, 0]);
        assert_eq!(entries(&table).count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(entries(&bytes).count() <= bytes.len() / 8);
        }
    }
}
