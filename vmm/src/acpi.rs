//! ACPI tables of a virtual machine (ACPI specification 6.5, chapter 5), generated from one
//! description.

mod description;
mod dsdt;
mod fadt;
mod madt;

use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;

pub use description::{
    FixedHardware, IO_APIC_ID, IoApicDescription, MachineDescription, PciDescription, Ps2Description, RtcDescription,
    SCI, SerialDescription,
};

const OEM_ID: [u8; 6] = *b"KILONV";
const OEM_TABLE_ID: [u8; 8] = *b"KILONOVA";
const OEM_REVISION: u32 = 1;

/// Alignment of the FACS, the largest of any table (ACPI 5.2.10).
const TABLE_ALIGNMENT: usize = 64;

/// Tables, ready to be copied to where their addresses say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpiTables {
    /// Guest-physical address of the first byte, and of the root pointer (RSDP).
    pub base: u64,
    /// All tables.
    pub bytes: Vec<u8>,
}

/// The tables do not fit where they should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcpiError {
    /// The FADT of every operating system in use has a 32-bit pointer.
    #[error("ACPI tables at {0:#x} are not aligned to 64 bytes below 4 GiB")]
    BadBase(u64),
    /// Too many devices or CPUs.
    #[error("ACPI tables need {need} bytes of {room}")]
    TooLarge {
        /// Bytes of all tables.
        need: usize,
        /// Bytes available.
        room: usize,
    },
}

impl AcpiTables {
    /// Generates the tables of `machine` for the guest-physical address `base` (64-byte aligned,
    /// below 4 GiB) in at most `room` bytes.
    ///
    /// # Errors
    /// See [`AcpiError`].
    pub fn generate(machine: &MachineDescription, base: u64, room: usize) -> Result<Self, AcpiError> {
        let last = base.saturating_add(room as u64);
        if !base.is_multiple_of(TABLE_ALIGNMENT as u64) || last > u64::from(u32::MAX) {
            return Err(AcpiError::BadBase(base));
        }
        let mut image = Image { base, bytes: vec![0; Rsdp::len()] };
        let facs = image.append(&encode(&FACS::new()));
        let dsdt = image.append(&dsdt::table(machine));
        let fadt = image.append(&encode(&fadt::table(machine, facs, dsdt)));
        let madt = image.append(&madt::table(machine));
        let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        xsdt.add_entry(fadt);
        xsdt.add_entry(madt);
        if let Some(mcfg) = mcfg(machine) {
            xsdt.add_entry(image.append(&encode(&mcfg)));
        }
        let xsdt = image.append(&encode(&xsdt));
        let rsdp = encode(&Rsdp::new(OEM_ID, xsdt));
        image.bytes[..rsdp.len()].copy_from_slice(&rsdp);
        if image.bytes.len() > room {
            return Err(AcpiError::TooLarge { need: image.bytes.len(), room });
        }
        Ok(AcpiTables { base, bytes: image.bytes })
    }
}

/// Tables placed so far.
struct Image {
    base: u64,
    bytes: Vec<u8>,
}

impl Image {
    /// Adds a table and returns its guest-physical address.
    fn append(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(TABLE_ALIGNMENT), 0);
        let address = self.base + self.bytes.len() as u64;
        self.bytes.extend_from_slice(table);
        address
    }
}

fn encode(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn mcfg(machine: &MachineDescription) -> Option<MCFG> {
    let pci = machine.pci.as_ref()?;
    let ecam = pci.ecam?;
    let mut table = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    const SEGMENT: u16 = 0;
    table.add_ecam(ecam, SEGMENT, pci.first_bus, pci.last_bus);
    Some(table)
}

#[cfg(test)]
mod tests;
