//! From the root pointer to the tables (ACPI 6.5, 5.2.5 to 5.2.8).

use crate::word::{u8_at, u16_at, u32_at, u64_at};
use crate::{HEADER, sum_is_zero};

const SIGNATURE: &[u8] = b"RSD PTR ";
/// Length of the root pointer, revision 2; the first part alone for revision 0.
const ROOT: usize = 36;
const ROOT_FIRST: usize = 20;
/// Byte offsets in it (5.2.5.3).
const REVISION: usize = 15;
const RSDT: usize = 16;
const XSDT: usize = 24;
/// Byte offset of the length in the header of a table (5.2.6).
const LENGTH: usize = 4;
/// Longest table that is read.
const TABLE_MAX: usize = 64 << 10;

/// Where a BIOS keeps the segment of its extended data area, in whose first KiB the root pointer may be (5.2.5.1).
const EBDA_SEGMENT: u64 = 0x40e;
const EBDA_SEARCHED: u64 = 1 << 10;
/// The BIOS area of read-only memory, where it may be otherwise.
const BIOS_AREA: core::ops::Range<u64> = 0xe_0000..0x10_0000;
/// Alignment of the root pointer.
const ALIGNMENT: usize = 16;

/// Looks for the root pointer where a BIOS puts it (5.2.5.1). With UEFI it is the loader that knows.
pub fn find_root<B: AsRef<[u8]>>(read: impl Fn(u64, usize) -> Option<B>) -> Option<u64> {
    let segment = read(EBDA_SEGMENT, 2).and_then(|bytes| u16_at(bytes.as_ref(), 0));
    let ebda = segment.map(|segment| u64::from(segment) << 4).map(|start| start..start + EBDA_SEARCHED);
    ebda.into_iter()
        .chain([BIOS_AREA])
        .find_map(|area| area.step_by(ALIGNMENT).find(|&at| first_part(at, &read).is_some()))
}

/// The part of the root pointer that each revision has, if there is one.
fn first_part<B: AsRef<[u8]>>(at: u64, read: &impl Fn(u64, usize) -> Option<B>) -> Option<B> {
    read(at, ROOT_FIRST).filter(|root| root.as_ref().starts_with(SIGNATURE) && sum_is_zero(root.as_ref()))
}

/// The tables that the root pointer at `root` leads to, but for those whose length or sum is wrong. `None` if it is no root pointer.
pub fn tables<B: AsRef<[u8]>>(root: u64, read: impl Fn(u64, usize) -> Option<B>) -> Option<impl Iterator<Item = B>> {
    let first = first_part(root, &read)?;
    // Before revision 2 it has only one part.
    let extended =
        read(root, ROOT).filter(|whole| u8_at(whole.as_ref(), REVISION) >= Some(2) && sum_is_zero(whole.as_ref()));
    let xsdt = extended.and_then(|whole| u64_at(whole.as_ref(), XSDT)).filter(|&xsdt| xsdt != 0);
    let (index, width) = match xsdt {
        Some(xsdt) => (table(xsdt, &read)?, size_of::<u64>()),
        None => (table(u64::from(u32_at(first.as_ref(), RSDT)?), &read)?, size_of::<u32>()),
    };
    let entry = move |number: usize| {
        let at = HEADER + number * width;
        if width == size_of::<u64>() { u64_at(index.as_ref(), at) } else { u32_at(index.as_ref(), at).map(u64::from) }
    };
    Some((0..).map_while(entry).filter_map(move |address| table(address, &read)))
}

/// The table at `address`.
fn table<B: AsRef<[u8]>>(address: u64, read: &impl Fn(u64, usize) -> Option<B>) -> Option<B> {
    let header = read(address, HEADER)?;
    let length = usize::try_from(u32_at(header.as_ref(), LENGTH)?).ok()?;
    if !(HEADER..=TABLE_MAX).contains(&length) {
        return None;
    }
    read(address, length).filter(|table| sum_is_zero(table.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    const AT: usize = 0xe_0010;

    fn fix_sum(bytes: &mut [u8], at: usize) {
        let total = bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
        bytes[at] = bytes[at].wrapping_sub(total);
    }

    /// A machine whose BIOS has a root pointer, an index at 0x1000, and a table at 0x2000.
    fn memory(revision: u8) -> Vec<u8> {
        let mut memory = vec![0; 0x10_0000];
        let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
        let width = if revision == 2 { 8 } else { 4 };
        put(AT, SIGNATURE);
        put(AT + REVISION, &[revision]);
        put(AT + RSDT, &0x1000u32.to_le_bytes());
        put(AT + XSDT, &(if revision == 2 { 0x1000u64 } else { 0 }).to_le_bytes());
        put(0x1004, &(HEADER as u32 + width).to_le_bytes());
        put(0x1000 + HEADER, &0x2000u32.to_le_bytes());
        put(0x2000, b"APIC");
        put(0x2004, &44u32.to_le_bytes());
        fix_sum(&mut memory[AT..AT + ROOT_FIRST], 8);
        fix_sum(&mut memory[AT..AT + ROOT], 32);
        fix_sum(&mut memory[0x1000..0x1000 + HEADER + width as usize], 9);
        fix_sum(&mut memory[0x2000..0x202c], 9);
        memory
    }

    fn reader<'m>(memory: &'m [u8]) -> impl Fn(u64, usize) -> Option<&'m [u8]> {
        move |at, length| memory.get(usize::try_from(at).ok()?..)?.get(..length)
    }

    fn found(memory: &[u8]) -> Option<&[u8]> {
        tables(find_root(reader(memory))?, reader(memory))?.next()
    }

    #[test]
    fn both_revisions_lead_to_the_table() {
        for revision in [0, 2] {
            let memory = memory(revision);
            assert_eq!(find_root(reader(&memory)), Some(AT as u64));
            assert_eq!(found(&memory).map(<[u8]>::len), Some(44), "revision {revision}");
        }
    }

    #[test]
    fn the_extended_data_area_is_searched_first() {
        let mut memory = memory(0);
        memory.copy_within(AT..AT + ROOT, 0x9_fc20);
        memory[0x40e..0x410].copy_from_slice(&0x9fc0u16.to_le_bytes());
        assert_eq!(find_root(reader(&memory)), Some(0x9_fc20));
    }

    #[test]
    fn a_wrong_sum_is_noticed() {
        for at in [AT + 9, 0x1010, 0x2010] {
            let mut memory = memory(2);
            memory[at] ^= 1;
            assert_eq!(found(&memory), None, "byte {at:#x}");
        }
        // Without its second part, the first one counts.
        let mut memory = memory(2);
        memory[AT + XSDT] ^= 1;
        assert_eq!(found(&memory).map(<[u8]>::len), Some(44));
    }

    proptest! {
        #[test]
        fn no_memory_is_too_malformed(
            noise in prop::collection::vec((prop_oneof![AT..AT + 36, 0x1000usize..0x1030, 0x2000usize..0x2030], any::<u8>()), 0..6),
        ) {
            let mut memory = memory(2);
            for (at, byte) in noise {
                memory[at] = byte;
            }
            prop_assert!(found(&memory).is_none_or(|table| table.len() >= HEADER));
        }
    }
}
