//! What firmware and boot loader leave in guest memory.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::acpi::{AcpiError, AcpiTables, MachineDescription, PciDescription};
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

/// Loads a Linux kernel and the tables that describe `machine`, whose TSC ticks at `tsc_khz`. Returns the state
/// of the boot CPU.
///
/// # Errors
/// See [`LoadError`].
pub fn load_linux<M: GuestMemoryBackend>(
    memory: &M,
    machine: &MachineConfig,
    image: &LinuxImage,
    tsc_khz: u32,
) -> Result<VcpuState, LoadError> {
    let description = MachineDescription::of(machine);
    let root_pointer = load_tables(memory, &description)?;
    let reserved = reserved(&description);
    let cmdline = command_line(image.cmdline, tsc_khz);
    let image = LinuxImage { cmdline: &cmdline, ..*image };
    let state = linux_boot::load(memory, machine.memory(), &reserved, Some(root_pointer), &image)?;
    Ok(state)
}

/// The BIOS data area, as far as operating systems read it (IBM PS/2 and PC BIOS Interface Technical Reference, section 3).
mod bios_data {
    /// Segment of the extended BIOS data area.
    pub(super) const EXTENDED_AREA: u64 = 0x40e;
    /// Conventional memory in KiB, without the extended BIOS data area.
    pub(super) const MEMORY_SIZE: u64 = 0x413;
}

/// Writes the ACPI tables and what leads to them, and returns where the root pointer is. They are in the extended BIOS data area,
/// where kernels look to which the boot parameters cannot say it (those of boot protocols before 2.14): at a multiple of 16
/// within its first KiB (ACPI 6.5, 5.2.5.1).
fn load_tables<M: GuestMemoryBackend>(memory: &M, description: &MachineDescription) -> Result<u64, LoadError> {
    const PARAGRAPH: u64 = 16;
    const KIB: u64 = 1 << 10;
    let room = ACPI_REGION.size() as usize;
    let tables = AcpiTables::generate(description, ACPI_REGION.start, room)?;
    let no_room = |_| LoadError::NoRoomForTables(ACPI_REGION);
    memory.write_slice(&tables.bytes, GuestAddress(tables.base)).map_err(no_room)?;
    for (field, value) in
        [(bios_data::EXTENDED_AREA, ACPI_REGION.start / PARAGRAPH), (bios_data::MEMORY_SIZE, ACPI_REGION.start / KIB)]
    {
        memory.write_slice(&(value as u16).to_le_bytes(), GuestAddress(field)).map_err(no_room)?;
    }
    Ok(tables.base)
}

/// The command line with the TSC frequency. Linux looks for it in CPUID only on Intel CPUs, and elsewhere measures it
/// against other timers, which fails where exits take longer than it expects of port accesses.
fn command_line(text: &str, tsc_khz: u32) -> String {
    const PARAMETER: &str = "tsc_early_khz=";
    if text.contains(PARAMETER) {
        return text.to_owned();
    }
    let parameter = format!("{PARAMETER}{tsc_khz}");
    // What follows "--" is for the first process.
    match text.split_once(" -- ") {
        Some((kernel, process)) => format!("{kernel} {parameter} -- {process}"),
        None if text.is_empty() => parameter,
        None => format!("{text} {parameter}"),
    }
}

/// What the memory map says beside RAM. Operating systems use memory-mapped configuration space only where it is
/// reserved.
fn reserved(description: &MachineDescription) -> Vec<Reserved> {
    let mut reserved = vec![Reserved { range: ACPI_REGION, kind: E820Kind::AcpiReclaimable }];
    let ecam = description.pci.as_ref().and_then(PciDescription::ecam_range);
    reserved.extend(ecam.map(|range| Reserved { range, kind: E820Kind::Reserved }));
    reserved
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestMemoryMmap;

    use super::*;
    use crate::config::VmmConfig;

    #[test]
    fn the_tsc_frequency_is_told_unless_somebody_else_has() {
        let told = |text| command_line(text, 2600);
        assert_eq!(told(""), "tsc_early_khz=2600");
        assert_eq!(told("quiet"), "quiet tsc_early_khz=2600");
        assert_eq!(told("quiet -- -s"), "quiet tsc_early_khz=2600 -- -s");
        assert_eq!(told("tsc_early_khz=1 quiet"), "tsc_early_khz=1 quiet");
    }

    /// What kernels do that know only of the BIOS (ACPI 6.5, 5.2.5.1).
    #[test]
    fn the_root_pointer_is_found_in_the_extended_bios_data_area() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0xa_0000)]).unwrap();
        let base = load_tables(&memory, &MachineDescription::bare()).unwrap();
        let segment: u16 = memory.read_obj(GuestAddress(0x40e)).unwrap();
        let kib: u16 = memory.read_obj(GuestAddress(0x413)).unwrap();
        let area = u64::from(segment) << 4;
        assert!(area >= 0x8_0000 && u64::from(kib) << 10 == area);
        let root_pointer = (area..area + 1024).step_by(16).find(|address| {
            let pointer: [u8; 20] = memory.read_obj(GuestAddress(*address)).unwrap();
            let sum = pointer.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            pointer.starts_with(b"RSD PTR ") && sum == 0
        });
        assert_eq!(root_pointer, Some(base));
    }

    #[test]
    fn configuration_space_is_reserved() {
        assert_eq!(reserved(&MachineDescription::bare()).len(), 1);
        for bus_num in [0, 0x20] {
            let bridge = format!("<pcihostbridge bus_num=\"{bus_num}\" bus_count=\"16\" mem_base=\"0xe0000000\"/>");
            let xml = format!("<config><machine><mem size=\"64M\"/>{bridge}</machine></config>");
            let description = MachineDescription::of(&VmmConfig::parse(&xml).unwrap().machine);
            let range = MemoryRange { start: 0xe000_0000, end: 0xe100_0000 };
            assert_eq!(reserved(&description)[1], Reserved { range, kind: E820Kind::Reserved });
        }
    }
}
