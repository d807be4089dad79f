//! Finding an ACPI table (ACPI 6.5, 5.2.5 to 5.2.8).
//!
//! Tables come from the firmware, so sums and lengths are checked and nothing is assumed about what pointers point to.

use alloc::vec;
use alloc::vec::Vec;

/// Longest table that is read.
const TABLE_MAX: usize = 64 << 10;
/// Length of the header that all tables begin with.
const HEADER: usize = 36;
/// Length of the root pointer, revision 2; the first part alone for revision 0.
const RSDP: usize = 36;
const RSDP_FIRST: usize = 20;

fn sum_is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads the table at `address`.
fn table(address: u64, read: &impl Fn(u64, &mut [u8])) -> Option<Vec<u8>> {
    let mut header = [0; HEADER];
    read(address, &mut header);
    let length = usize::try_from(u32_at(&header, 4)?).ok()?;
    if !(HEADER..=TABLE_MAX).contains(&length) {
        return None;
    }
    let mut table = vec![0; length];
    read(address, &mut table);
    sum_is_zero(&table).then_some(table)
}

/// The table with `signature`, reached from the root pointer at `rsdp`, with physical memory read by `read`.
pub fn find(rsdp: u64, signature: [u8; 4], read: impl Fn(u64, &mut [u8])) -> Option<Vec<u8>> {
    let mut root = [0; RSDP];
    read(rsdp, &mut root);
    if !root.starts_with(b"RSD PTR ") || !root.get(..RSDP_FIRST).is_some_and(sum_is_zero) {
        return None;
    }
    let revision = *root.get(15)?;
    let (index, width) = match u64_at(&root, 24)? {
        xsdt if revision >= 2 && xsdt != 0 && sum_is_zero(&root) => (table(xsdt, &read)?, 8),
        _ => (table(u64::from(u32_at(&root, 16)?), &read)?, 4),
    };
    let entries = index.get(HEADER..)?.chunks_exact(width).filter_map(|entry| match width {
        8 => u64_at(entry, 0),
        _ => u32_at(entry, 0).map(u64::from),
    });
    entries.filter_map(|address| table(address, &read)).find(|table| table.starts_with(&signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Memory at address 0 with a root pointer at 0, an index at 0x40, and a MADT at 0x80.
    fn memory(revision: u8) -> Vec<u8> {
        let mut memory = vec![0; 0x100];
        let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"RSD PTR ");
        put(15, &[revision]);
        put(16, &0x40u32.to_le_bytes());
        put(24, &(if revision == 2 { 0x40u64 } else { 0 }).to_le_bytes());
        let width = if revision == 2 { 8 } else { 4 };
        put(0x40, b"XSDT");
        put(0x44, &(HEADER as u32 + width).to_le_bytes());
        put(0x40 + HEADER, &0x80u32.to_le_bytes());
        put(0x80, b"APIC");
        put(0x84, &44u32.to_le_bytes());
        for (from, to, sum) in
            [(0, RSDP_FIRST, 8), (0, RSDP, 32), (0x40, 0x40 + HEADER + width as usize, 0x49), (0x80, 0x80 + 44, 0x89)]
        {
            let total = memory[from..to].iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
            memory[sum] = memory[sum].wrapping_sub(total);
        }
        memory
    }

    fn find_in(memory: &[u8]) -> Option<Vec<u8>> {
        find(0, *b"APIC", |address, into| {
            for (at, byte) in (address..).zip(into) {
                *byte = usize::try_from(at).ok().and_then(|at| memory.get(at)).copied().unwrap_or(0xff);
            }
        })
    }

    #[test]
    fn both_revisions_lead_to_the_table() {
        for revision in [0, 2] {
            assert_eq!(find_in(&memory(revision)).unwrap().len(), 44, "revision {revision}");
        }
    }

    #[test]
    fn a_wrong_sum_is_noticed() {
        for at in [3, 0x50, 0x90] {
            let mut memory = memory(2);
            memory[at] ^= 1;
            assert_eq!(find_in(&memory), None, "byte {at:#x}");
        }
    }

    proptest! {
        #[test]
        fn no_memory_is_too_malformed(noise in prop::collection::vec((0usize..0x100, any::<u8>()), 0..4)) {
            let mut memory = memory(2);
            for (at, byte) in noise {
                memory[at] = byte;
            }
            prop_assert!(find_in(&memory).is_none_or(|table| table.len() >= HEADER));
        }
    }
}
