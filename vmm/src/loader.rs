//! What firmware and boot loader leave in guest memory.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::acpi::{AcpiError, AcpiTables, MachineDescription};
use crate::linux_boot::{self, ACPI_REGION, BootError, E820Kind, LinuxImage, Reserved};
use crate::machine::MachineConfig;
use crate::memory::MemoryRange;
use crate::state::VcpuState;

/// Why a machine cannot be booted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The ACPI tables cannot be made.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// There is no RAM for the ACPI tables.
    #[error("machine has no RAM at {0} for ACPI tables")]
    NoRoomForTables(MemoryRange),
    /// The kernel cannot be started.
    #[error(transparent)]
    Linux(#[from] BootError),
}

/// Bytes of the memory-mapped configuration space of one PCI bus (PCI Express 3.0, 7.2.2).
const ECAM_PER_BUS: u64 = 1 << 20;

/// Loads a Linux kernel and the tables that describe `machine`. Returns the state of the boot CPU.
///
/// # Errors
/// See [`LoadError`].
pub fn load_linux<M: GuestMemoryBackend>(
    memory: &M,
    machine: &MachineConfig,
    image: &LinuxImage,
) -> Result<VcpuState, LoadError> {
    let description = MachineDescription::of(machine);
    let room = ACPI_REGION.size() as usize;
    let tables = AcpiTables::generate(&description, ACPI_REGION.start, room)?;
    memory
        .write_slice(&tables.bytes, GuestAddress(tables.base))
        .map_err(|_| LoadError::NoRoomForTables(ACPI_REGION))?;
    let reserved = reserved(&description);
    let state = linux_boot::load(memory, machine.memory(), &reserved, Some(tables.base), image)?;
    Ok(state)
}

/// What the memory map says beside RAM. Operating systems use memory-mapped configuration space only where it is
/// reserved.
fn reserved(description: &MachineDescription) -> Vec<Reserved> {
    let mut reserved = vec![Reserved { range: ACPI_REGION, kind: E820Kind::AcpiReclaimable }];
    if let Some(pci) = &description.pci
        && let Some(start) = pci.ecam
    {
        let end = start.saturating_add((u64::from(pci.last_bus) + 1) * ECAM_PER_BUS);
        reserved.push(Reserved { range: MemoryRange { start, end }, kind: E820Kind::Reserved });
    }
    reserved
}
