//! The memory map in the boot parameters.

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};

use super::BootError;
use crate::memory::{MemoryLayout, MemoryRange};

/// Kind of a range in the memory map (ACPI specification 15.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum E820Kind {
    /// Usable RAM.
    Ram = 1,
    /// Not usable.
    Reserved = 2,
    /// ACPI tables, usable once they are read.
    AcpiReclaimable = 3,
    /// ACPI tables that must stay.
    AcpiNvs = 4,
}

/// A range that is not plain RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The range.
    pub range: MemoryRange,
    /// What it is.
    pub kind: E820Kind,
}

pub(super) fn fill(params: &mut boot_params, layout: &MemoryLayout, reserved: &[Reserved]) -> Result<(), BootError> {
    let map = memory_map(layout, reserved);
    let mut table = params.e820_table;
    if map.len() > table.len() {
        return Err(BootError::MemoryMapTooLong(table.len()));
    }
    for (entry, Reserved { range, kind }) in table.iter_mut().zip(&map) {
        *entry = boot_e820_entry { addr: range.start, size: range.size(), r#type: *kind as u32 };
    }
    params.e820_table = table;
    // At most 128 fit.
    params.e820_entries = map.len() as u8;
    Ok(())
}

/// RAM without the reserved ranges, and these, by address.
fn memory_map(layout: &MemoryLayout, reserved: &[Reserved]) -> Vec<Reserved> {
    let mut ram: Vec<MemoryRange> = layout.ranges().to_vec();
    for Reserved { range: hole, .. } in reserved {
        let cut = |range: MemoryRange| {
            if !range.overlaps(hole) {
                return [range, MemoryRange { start: 0, end: 0 }];
            }
            [MemoryRange { start: range.start, end: hole.start }, MemoryRange { start: hole.end, end: range.end }]
        };
        ram = ram.into_iter().flat_map(cut).filter(|range| range.start < range.end).collect();
    }
    let ram = ram.into_iter().map(|range| Reserved { range, kind: E820Kind::Ram });
    let mut map: Vec<Reserved> = ram.chain(reserved.iter().copied()).collect();
    map.sort_unstable_by_key(|entry| entry.range);
    map
}
