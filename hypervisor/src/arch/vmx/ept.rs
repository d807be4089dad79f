//! Extended page tables (SDM vol. 3, 29.3.2).

use crate::mem::Phys;
use crate::mem::ptab::{Format, LARGE, LEVELS};
use abi::cap::MemRights;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Format of their entries.
pub struct Ept;

/// Bits of an entry.
mod bit {
    pub const READ: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    pub const EXECUTE: u64 = 1 << 2;
    pub const ACCESSED: u64 = 1 << 8;
    pub const DIRTY: u64 = 1 << 9;
}

/// Memory types (SDM vol. 3, table 12-10); the guest's own is combined with them.
const TYPE_SHIFT: u32 = 3;
const TYPE_MASK: u64 = 7 << TYPE_SHIFT;
const UNCACHED: u64 = 0;
const WRITE_COMBINING: u64 = 1 << TYPE_SHIFT;
const WRITE_BACK: u64 = 6 << TYPE_SHIFT;

/// Capabilities (SDM vol. 3, appendix A.10).
pub mod capability {
    /// Walks of four levels.
    pub const FOUR_LEVELS: u64 = 1 << 6;
    /// Tables in write-back memory.
    pub const WRITE_BACK: u64 = 1 << 14;
    /// 2 MiB leaves.
    pub const LARGE: u64 = 1 << 16;
    /// 1 GiB leaves.
    pub const HUGE: u64 = 1 << 17;
    /// INVEPT, and its type for all contexts.
    pub const INVEPT: u64 = 1 << 20;
    /// Accessed and dirty flags.
    pub const ACCESSED_DIRTY: u64 = 1 << 21;
    /// INVEPT of one context.
    pub const INVEPT_SINGLE: u64 = 1 << 25;
    /// INVEPT of all contexts.
    pub const INVEPT_ALL: u64 = 1 << 26;
    /// INVVPID, and its type for all contexts.
    pub const INVVPID: u64 = 1 << 32;
    /// INVVPID of all contexts.
    pub const INVVPID_ALL: u64 = 1 << 42;
}

/// Fields of the EPT pointer (SDM vol. 3, table 25-9).
const POINTER_WRITE_BACK: u64 = 6;
const POINTER_LEVELS: u64 = (LEVELS as u64 - 1) << 3;
const POINTER_ACCESSED_DIRTY: u64 = 1 << 6;

static MAX_LEAF: AtomicU64 = AtomicU64::new(0);
static POINTER: AtomicU64 = AtomicU64::new(pointer_bits(0));

/// Uses what this CPU has; once at boot.
pub fn enable(capabilities: u64) {
    MAX_LEAF.store(max_leaf(capabilities), Relaxed);
    POINTER.store(pointer_bits(capabilities), Relaxed);
}

/// What an EPT pointer has besides its root. Entries have both flags set, so that nothing is ever written to them. With the flags in
/// use, accesses to the guest's page tables count as writes, as they do with SVM.
const fn pointer_bits(capabilities: u64) -> u64 {
    let flags = if capabilities & capability::ACCESSED_DIRTY != 0 { POINTER_ACCESSED_DIRTY } else { 0 };
    POINTER_WRITE_BACK | POINTER_LEVELS | flags
}

fn max_leaf(capabilities: u64) -> u64 {
    match (capabilities & capability::LARGE != 0, capabilities & capability::HUGE != 0) {
        (true, true) => 2,
        (true, false) => 1,
        (false, _) => 0,
    }
}

/// The EPT pointer for a root.
pub fn pointer(root: Phys) -> u64 {
    root.0 | POINTER.load(Relaxed)
}

impl Format for Ept {
    fn max_leaf() -> u32 {
        MAX_LEAF.load(Relaxed) as u32
    }

    fn table(table: Phys) -> u64 {
        table.0 | bit::READ | bit::WRITE | bit::EXECUTE | bit::ACCESSED
    }

    fn leaf(phys: Phys, rights: MemRights, level: u32) -> u64 {
        let mut entry = phys.0 | bit::READ | bit::ACCESSED;
        if rights.contains(MemRights::WRITE) {
            entry |= bit::WRITE | bit::DIRTY;
        }
        if rights.contains(MemRights::EXEC) {
            entry |= bit::EXECUTE;
        }
        entry |= if rights.contains(MemRights::UNCACHED) {
            UNCACHED
        } else if rights.contains(MemRights::WRITE_COMBINED) {
            WRITE_COMBINING
        } else {
            WRITE_BACK
        };
        if level > 0 { entry | LARGE } else { entry }
    }

    fn is_present(entry: u64) -> bool {
        entry & (bit::READ | bit::WRITE | bit::EXECUTE) != 0
    }

    fn rights(entry: u64) -> MemRights {
        let mut rights = MemRights::READ;
        rights.set(MemRights::WRITE, entry & bit::WRITE != 0);
        rights.set(MemRights::EXEC, entry & bit::EXECUTE != 0);
        rights.set(MemRights::UNCACHED, entry & TYPE_MASK == UNCACHED);
        rights.set(MemRights::WRITE_COMBINED, entry & TYPE_MASK == WRITE_COMBINING);
        rights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{PAGE, ptab};
    use crate::testing;

    #[test]
    fn entries_are_as_in_the_manual() {
        let all = MemRights::READ | MemRights::WRITE | MemRights::EXEC;
        // SDM vol. 3, table 29-6: read, write, execute, write-back, accessed, dirty.
        assert_eq!(Ept::leaf(Phys(0x5000), all, 0), 0x5000 | 0x337);
        assert_eq!(Ept::leaf(Phys(0x20_0000), all, 1), 0x20_0000 | 0x3b7);
        assert_eq!(Ept::leaf(Phys(0x5000), MemRights::READ | MemRights::UNCACHED, 0), 0x5000 | 0x101);
        assert_eq!(Ept::table(Phys(0x5000)), 0x5000 | 0x107);
        assert!(!Ept::is_present(0));
    }

    #[test]
    fn flags_are_used_where_they_are() {
        // SDM vol. 3, table 25-9: write-back, four levels; bit 6: accessed and dirty flags.
        assert_eq!([0, capability::ACCESSED_DIRTY].map(pointer_bits), [0x1e, 0x5e]);
    }

    #[test]
    fn rights_survive_the_round_trip() {
        for bits in 0..=MemRights::all().bits() {
            let rights = MemRights::from_bits_truncate(bits) | MemRights::READ;
            if !rights.contains(MemRights::UNCACHED | MemRights::WRITE_COMBINED) {
                assert_eq!(Ept::rights(Ept::leaf(Phys(0), rights, 0)), rights);
            }
        }
    }

    #[test]
    fn leaves_are_as_large_as_the_processor_allows() {
        let (large, huge) = (capability::LARGE, capability::HUGE);
        assert_eq!([0, large, large | huge, huge].map(max_leaf), [0, 1, 2, 0]);
    }

    #[test]
    fn a_large_leaf_is_split_into_small_ones_with_its_rights() {
        let pd = testing::pd(64);
        let root = pd.alloc(0).unwrap();
        let rights = MemRights::READ | MemRights::EXEC;
        let large = ptab::span(1);
        ptab::set::<Ept>(root, 0, 1, Some((Phys(4 * large), rights)), pd).unwrap();
        ptab::set::<Ept>(root, PAGE, 0, None, pd).unwrap();
        assert_eq!(ptab::walk::<Ept>(root, PAGE), Err(PAGE));
        let found = ptab::walk::<Ept>(root, 2 * PAGE).unwrap();
        assert_eq!((found.phys, found.rights, found.len), (Phys(4 * large + 2 * PAGE), rights, PAGE));
    }
}
