//! Multiple APIC Description Table (ACPI 5.2.12). The table crate has neither x2APIC entries nor
//! interrupt overrides, so that the structures are written field by field.

use acpi_tables::sdt::Sdt;

use super::{MachineDescription, OEM_ID, OEM_REVISION, OEM_TABLE_ID};

/// Structure types (ACPI 5.2.12, table 5.21).
mod kind {
    pub(super) const LOCAL_APIC: u8 = 0;
    pub(super) const IO_APIC: u8 = 1;
    pub(super) const INTERRUPT_OVERRIDE: u8 = 2;
    pub(super) const LOCAL_APIC_NMI: u8 = 4;
    pub(super) const LOCAL_X2APIC: u8 = 9;
    pub(super) const LOCAL_X2APIC_NMI: u8 = 10;
}

/// MPS INTI flags (ACPI 5.2.12.5).
mod inti {
    pub(super) const AS_BUS: u16 = 0;
    pub(super) const ACTIVE_HIGH_LEVEL: u16 = 0b1101;
}

/// Revision with x2APIC structures.
const REVISION: u8 = 4;
const HEADER_BYTES: u32 = 36;
/// Table flag: dual 8259.
const PCAT_COMPAT: u32 = 1;
/// Structure flag: the CPU can be used.
const ENABLED: u32 = 1;
/// Ids up to here have a local APIC structure; 255 means all.
const MAX_XAPIC_ID: u32 = 254;
const ISA_BUS: u8 = 0;
/// The 8254 is on input 2 where the 8259 cascade would be.
const TIMER_IRQ: u8 = 0;
const TIMER_GSI: u32 = 2;
/// NMI is wired to LINT1 of every CPU.
const NMI_LINT: u8 = 1;
const ALL_XAPIC: u8 = 0xff;
const ALL_X2APIC: u32 = u32::MAX;

/// The table.
pub(super) fn table(machine: &MachineDescription) -> Vec<u8> {
    let mut table = Sdt::new(*b"APIC", HEADER_BYTES, REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(&machine.local_apic_address.to_le_bytes());
    table.append_slice(&if machine.has_8259 { PCAT_COMPAT } else { 0 }.to_le_bytes());
    for (uid, id) in (0u32..).zip(&machine.apic_ids) {
        table.append_slice(&processor(uid, *id));
    }
    if let Some(io_apic) = &machine.io_apic {
        let mut fields = vec![io_apic.id, 0];
        fields.extend(io_apic.address.to_le_bytes());
        fields.extend(io_apic.gsi_base.to_le_bytes());
        table.append_slice(&structure(kind::IO_APIC, &fields));
        table.append_slice(&interrupt_override(TIMER_IRQ, TIMER_GSI, inti::AS_BUS));
        let sci = machine.fixed.sci;
        table.append_slice(&interrupt_override(sci, sci.into(), inti::ACTIVE_HIGH_LEVEL));
    }
    let [low, high] = inti::AS_BUS.to_le_bytes();
    table.append_slice(&structure(kind::LOCAL_APIC_NMI, &[ALL_XAPIC, low, high, NMI_LINT]));
    if machine.apic_ids.iter().any(|id| *id > MAX_XAPIC_ID) {
        let mut fields = vec![low, high];
        fields.extend(ALL_X2APIC.to_le_bytes());
        fields.extend([NMI_LINT, 0, 0, 0]);
        table.append_slice(&structure(kind::LOCAL_X2APIC_NMI, &fields));
    }
    table.as_slice().to_vec()
}

/// Type, length, fields.
fn structure(kind: u8, fields: &[u8]) -> Vec<u8> {
    const HEADER: u8 = 2;
    let mut bytes = vec![kind, HEADER + fields.len() as u8];
    bytes.extend_from_slice(fields);
    bytes
}

fn processor(uid: u32, id: u32) -> Vec<u8> {
    let mut fields = Vec::new();
    if id <= MAX_XAPIC_ID && uid <= MAX_XAPIC_ID {
        fields.extend([uid as u8, id as u8]);
        fields.extend(ENABLED.to_le_bytes());
        structure(kind::LOCAL_APIC, &fields)
    } else {
        fields.extend([0, 0]);
        fields.extend(id.to_le_bytes());
        fields.extend(ENABLED.to_le_bytes());
        fields.extend(uid.to_le_bytes());
        structure(kind::LOCAL_X2APIC, &fields)
    }
}

fn interrupt_override(irq: u8, gsi: u32, flags: u16) -> Vec<u8> {
    let mut fields = vec![ISA_BUS, irq];
    fields.extend(gsi.to_le_bytes());
    fields.extend(flags.to_le_bytes());
    structure(kind::INTERRUPT_OVERRIDE, &fields)
}
