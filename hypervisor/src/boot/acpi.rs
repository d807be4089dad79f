//! The few facts that ring 0 needs from ACPI: CPUs and I/O APICs from the MADT, PM timer, sleep and reset registers from the FADT.
//! Everything else is for user level.

use super::multiboot::Memory;
use crate::arch::ioapic;
use acpi_reader::fadt::{self, Fadt};
use acpi_reader::madt::{self, Entry};
use arrayvec::ArrayVec;

/// Facts from the tables.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Physical address of the root pointer.
    pub rsdp: u64,
    /// APIC ids of usable CPUs, in table order.
    pub cpus: ArrayVec<u32, 255>,
    /// I/O APICs: address, first interrupt.
    pub ioapics: ArrayVec<(u32, u32), { ioapic::MAX }>,
    /// Registers of the fixed hardware.
    pub fixed: Fadt,
}

/// Collects the facts. `rsdp` is the loader's copy of the root pointer, or 0. `None` if there are no tables. CPUs and I/O APICs beyond
/// the capacity are not used.
pub fn parse(memory: &impl Memory, rsdp: u64) -> Option<Facts> {
    let read = |at, len| memory.bytes(at, len as u64);
    let rsdp = if rsdp == 0 { acpi_reader::find_root(read)? } else { rsdp };
    let mut facts = Facts { rsdp, ..Facts::default() };
    for table in acpi_reader::tables(rsdp, read)? {
        if table.starts_with(fadt::SIGNATURE) {
            facts.fixed = Fadt::parse(table);
        } else if table.starts_with(madt::SIGNATURE) {
            madt::entries(table).for_each(|entry| facts.note(entry));
        }
    }
    Some(facts)
}

impl Facts {
    fn note(&mut self, entry: Entry) {
        let _fits = match entry {
            // A CPU may have an entry of each kind of APIC.
            Entry::Cpu(id) if !self.cpus.contains(&id) => self.cpus.try_push(id).is_ok(),
            Entry::IoApic { address, first } => self.ioapics.try_push((address, first)).is_ok(),
            Entry::Cpu(_) | Entry::Override { .. } => true,
        };
    }
}
