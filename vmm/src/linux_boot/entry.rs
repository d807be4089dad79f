//! State at a kernel's entry point: flat segments, interrupts off, RSI at the boot parameters; for a 64-bit kernel long
//! mode with 4 GiB mapped one to one, for a 32-bit kernel protected mode without paging ("The Linux/x86 Boot Protocol",
//! "64-bit Boot Protocol" and "32-bit Boot Protocol").

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::{BootError, place};
use crate::state::{
    Cr0, Cr4, DescriptorTable, Efer, Gpr, Rflags, Segment, SegmentAttributes, SegmentRegister, VcpuState,
};
use abi::{LARGE_PAGE_SIZE, PAGE_SIZE};

/// How a kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// In long mode, [`LONG_ENTRY_OFFSET`] bytes after its first.
    Long,
    /// In protected mode, at its first byte.
    Protected,
}

/// The 64-bit entry point lies here in the protected-mode kernel.
const LONG_ENTRY_OFFSET: u64 = 0x200;
/// Selector of the flat code segment that the protocol prescribes (`__BOOT_CS`).
const BOOT_CS: u16 = 0x10;
/// Selector of the flat data segment (`__BOOT_DS`).
const BOOT_DS: u16 = 0x18;
/// A task register is needed by VM entry; the kernel loads its own.
const BOOT_TSS: u16 = 0x20;
const DESCRIPTOR_SIZE: u16 = 8;
/// Present, writable.
const TABLE_FLAGS: u64 = 0x3;
/// Present, writable, 2 MiB.
const LARGE_PAGE_FLAGS: u64 = 0x83;
const ENTRIES_PER_TABLE: u64 = 512;
/// GiB that are mapped.
const DIRECTORIES: u64 = 4;

/// Writes GDT and, where needed, page tables, and returns the registers.
pub(super) fn prepare<M: GuestMemoryBackend>(
    memory: &M,
    load_address: u64,
    entry: Entry,
) -> Result<VcpuState, BootError> {
    let (code, data, task) = (code_segment(entry), data_segment(), task_segment());
    let gdt = [0, 0, descriptor(&code), descriptor(&data), descriptor(&task), 0];
    for (address, entry) in (place::GDT..).step_by(DESCRIPTOR_SIZE.into()).zip(gdt) {
        write(memory, address, entry)?;
    }
    let mut state = VcpuState {
        rip: load_address,
        rflags: Rflags::FIXED_1,
        cr0: Cr0::PE | Cr0::ET | Cr0::NE,
        segments: [data; 6],
        tr: task,
        gdtr: DescriptorTable { base: place::GDT, limit: gdt.len() as u16 * DESCRIPTOR_SIZE - 1 },
        ..VcpuState::default()
    };
    if entry == Entry::Long {
        write_page_tables(memory)?;
        state.rip += LONG_ENTRY_OFFSET;
        state.cr0 |= Cr0::WP | Cr0::PG;
        state.cr3 = place::PML4;
        state.cr4 = Cr4::PAE;
        state.efer = Efer::LME | Efer::LMA;
    }
    state.segments[SegmentRegister::Cs as usize] = code;
    state.set_gpr(Gpr::Rsi, place::BOOT_PARAMS);
    state.set_gpr(Gpr::Rsp, place::STACK_TOP);
    Ok(state)
}

fn write<M: GuestMemoryBackend>(memory: &M, address: u64, value: u64) -> Result<(), BootError> {
    memory.write_obj(value, GuestAddress(address)).map_err(|_| BootError::Memory(address))
}

fn write_page_tables<M: GuestMemoryBackend>(memory: &M) -> Result<(), BootError> {
    const ENTRY: u64 = size_of::<u64>() as u64;
    write(memory, place::PML4, place::PDPT | TABLE_FLAGS)?;
    for index in 0..DIRECTORIES {
        let directory = place::PAGE_DIRECTORIES + index * PAGE_SIZE;
        write(memory, place::PDPT + index * ENTRY, directory | TABLE_FLAGS)?;
    }
    for index in 0..DIRECTORIES * ENTRIES_PER_TABLE {
        let entry = (index * LARGE_PAGE_SIZE) | LARGE_PAGE_FLAGS;
        write(memory, place::PAGE_DIRECTORIES + index * ENTRY, entry)?;
    }
    Ok(())
}

const FLAT: SegmentAttributes = SegmentAttributes::PRESENT
    .union(SegmentAttributes::NOT_SYSTEM)
    .union(SegmentAttributes::WRITABLE_OR_READABLE)
    .union(SegmentAttributes::ACCESSED)
    .union(SegmentAttributes::GRANULARITY);

fn code_segment(entry: Entry) -> Segment {
    let size = match entry {
        Entry::Long => SegmentAttributes::LONG,
        Entry::Protected => SegmentAttributes::DEFAULT_32,
    };
    Segment { selector: BOOT_CS, attributes: FLAT | SegmentAttributes::CODE | size, limit: u32::MAX, base: 0 }
}

fn data_segment() -> Segment {
    Segment { selector: BOOT_DS, attributes: FLAT | SegmentAttributes::DEFAULT_32, limit: u32::MAX, base: 0 }
}

/// A busy TSS (type 11), of 64 bits in long mode and of 32 bits elsewhere.
fn task_segment() -> Segment {
    const TSS_LIMIT: u32 = 0x67;
    Segment {
        selector: BOOT_TSS,
        attributes: SegmentAttributes::PRESENT
            | SegmentAttributes::CODE
            | SegmentAttributes::WRITABLE_OR_READABLE
            | SegmentAttributes::ACCESSED,
        limit: TSS_LIMIT,
        base: 0,
    }
}

/// Low 8 bytes of the descriptor of a segment with base 0 (APM2 4.7.1).
fn descriptor(segment: &Segment) -> u64 {
    let attributes = u64::from(segment.attributes.bits());
    let pages = segment.attributes.contains(SegmentAttributes::GRANULARITY);
    let limit = u64::from(if pages { segment.limit >> 12 } else { segment.limit });
    (limit & 0xffff) | (attributes & 0xff) << 40 | (limit >> 16 & 0xf) << 48 | (attributes >> 8 & 0xf) << 52
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_have_the_documented_form() {
        assert_eq!(descriptor(&code_segment(Entry::Long)), 0x00af_9b00_0000_ffff);
        assert_eq!(descriptor(&code_segment(Entry::Protected)), 0x00cf_9b00_0000_ffff);
        assert_eq!(descriptor(&data_segment()), 0x00cf_9300_0000_ffff);
        assert_eq!(descriptor(&task_segment()), 0x0000_8b00_0000_0067);
    }
}
