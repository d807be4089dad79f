//! Page tables, generic over their format. Tables are data pages; nothing here knows what a table translates.
//!
//! Entries are changed by single aligned stores, so that hardware walking concurrently sees the old or the new
//! translation. Tables are never freed while the space lives: an emptied one is used again.

use super::{PAGE, Page, Phys};
use abi::cap::MemRights;
use abi::status::Status;

/// Bits of an index.
const INDEX_BITS: u32 = 9;
/// Entries of a table.
pub const ENTRIES: usize = 1 << INDEX_BITS;
/// Levels: 0 holds 4 KiB pages, 3 is the root.
pub const LEVELS: u32 = 4;

/// Format of entries.
pub trait Format {
    /// Highest level with leaf entries: 1 for 2 MiB, 2 for 1 GiB.
    fn max_leaf() -> u32;
    /// Entry that refers to a table.
    fn table(table: Phys) -> u64;
    /// Leaf entry at `level`.
    fn leaf(phys: Phys, rights: MemRights, level: u32) -> u64;
    /// Whether an entry translates at all.
    fn is_present(entry: u64) -> bool;
    /// Rights of a leaf entry.
    fn rights(entry: u64) -> MemRights;
}

/// Bit that tells a leaf from a table above level 0, in all formats (SDM vol. 3, 4.5.4 and 29.3.2).
pub const LARGE: u64 = 1 << 7;
/// Bits that are the physical address, in all formats.
const ADDR: u64 = 0x000f_ffff_ffff_f000;

/// Whether a present entry at `level` is a leaf.
#[inline(always)]
fn is_leaf(entry: u64, level: u32) -> bool {
    level == 0 || entry & LARGE != 0
}

/// Physical address in a present entry.
#[inline(always)]
fn phys(entry: u64) -> Phys {
    Phys(entry & ADDR)
}

/// Bytes translated by one entry at `level`.
#[must_use]
pub const fn span(level: u32) -> u64 {
    PAGE << (INDEX_BITS * level)
}

/// Entry for `addr` of a table at `level`. Bits 63:48, all alike in an address of host memory, do not count.
#[inline(always)]
fn index(addr: u64, level: u32) -> usize {
    (addr / span(level)) as usize % ENTRIES
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// Physical address that the walked address translates to.
    pub phys: Phys,
    /// Bytes from there to the end of the leaf.
    pub len: u64,
    /// Rights.
    pub rights: MemRights,
}

/// Translates `addr`.
///
/// # Errors
/// The bytes from `addr` that certainly translate to nothing: to the end of the hole that the walk ran into. Lets a removal
/// skip what is not there.
pub fn walk<F: Format>(root: Page, addr: u64) -> Result<Mapping, u64> {
    let mut table = root;
    let mut level = LEVELS - 1;
    loop {
        let entry = table.read(index(addr, level));
        let offset = addr % span(level);
        if !F::is_present(entry) {
            return Err(span(level) - offset);
        }
        if is_leaf(entry, level) {
            return Ok(Mapping {
                phys: phys(entry).offset(offset),
                len: span(level) - offset,
                rights: F::rights(entry),
            });
        }
        table = Page::at(phys(entry));
        level -= 1;
    }
}

/// Level of the largest leaf for a mapping of `len` bytes.
#[must_use]
#[inline(always)]
pub fn leaf_level<F: Format>(addr: u64, phys: u64, len: u64) -> u32 {
    if len < span(1) {
        return 0;
    }
    let fits = |level: u32| (addr | phys).is_multiple_of(span(level)) && len >= span(level);
    if !fits(1) {
        0
    } else if F::max_leaf() > 1 && fits(2) {
        2
    } else {
        1
    }
}

/// What [`set`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// Bytes covered.
    pub len: u64,
    /// A present entry was replaced: stale translations must be flushed.
    pub flush: bool,
}

/// Where tables come from.
pub trait Supply {
    /// A zeroed page.
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn alloc(&self) -> Result<Page, Status>;
    /// Takes one back.
    fn free(&self, page: Page);
}

/// Takes `count` pages, or none.
fn reserve(supply: &impl Supply, count: usize) -> Result<[Option<Page>; LEVELS as usize], Status> {
    let mut pages = [None; LEVELS as usize];
    for i in 0..count {
        match supply.alloc() {
            Ok(page) => pages[i] = Some(page),
            Err(status) => {
                pages.into_iter().flatten().for_each(|page| supply.free(page));
                return Err(status);
            }
        }
    }
    Ok(pages)
}

/// Maps (or with `to` = `None` unmaps) a leaf at `addr`, of at most `level`; smaller where a table is in the way. Needs up to
/// one page per level from `supply`.
///
/// # Errors
/// Those of `supply`; nothing has changed then.
#[inline(always)]
pub fn set<F: Format>(
    root: Page,
    addr: u64,
    level: u32,
    to: Option<(Phys, MemRights)>,
    supply: &impl Supply,
) -> Result<Done, Status> {
    let mut table = root;
    for at in (0..LEVELS).rev() {
        let slot = index(addr, at);
        let entry = table.read(slot);
        let present = F::is_present(entry);
        let leaf = present && is_leaf(entry, at);
        if at <= level && (at == 0 || leaf || !present) {
            write::<F>(table, slot, at, to);
            return Ok(Done { len: span(at), flush: present });
        }
        if !present && to.is_none() {
            return Ok(Done { len: span(at) - addr % span(at), flush: false });
        }
        if !present || leaf {
            return deepen::<F>(table, at, addr, level, to, supply);
        }
        table = Page::at(phys(entry));
    }
    Err(Status::BadParameter)
}

#[inline(always)]
fn write<F: Format>(table: Page, slot: usize, level: u32, to: Option<(Phys, MemRights)>) {
    table.write(slot, to.map_or(0, |(phys, rights)| F::leaf(phys, rights, level)));
}

/// The rest of [`set`] from an entry of `table` at level `from` on that refers to no table: adds tables down to `level`.
#[inline(never)]
fn deepen<F: Format>(
    mut table: Page,
    from: u32,
    addr: u64,
    level: u32,
    to: Option<(Phys, MemRights)>,
    supply: &impl Supply,
) -> Result<Done, Status> {
    let spare = reserve(supply, (from - level) as usize)?;
    let replaced = F::is_present(table.read(index(addr, from)));
    for (at, next) in (level + 1..=from).rev().zip(spare.into_iter().flatten()) {
        let slot = index(addr, at);
        let entry = table.read(slot);
        if F::is_present(entry) {
            // Translations stay the same, so the stale large one is flushed with the entry that changes below.
            split::<F>(next, entry, at);
        }
        table.write(slot, F::table(next.phys()));
        table = next;
    }
    write::<F>(table, index(addr, level), level, to);
    Ok(Done { len: span(level), flush: replaced })
}

/// Fills `table` with what the leaf `entry` at `level` translates.
fn split<F: Format>(table: Page, entry: u64, level: u32) {
    let (base, rights) = (phys(entry), F::rights(entry));
    for i in 0..ENTRIES {
        table.write(i, F::leaf(base.offset(i as u64 * span(level - 1)), rights, level - 1));
    }
}

/// Returns all tables below `root`, whose indices below `entries` are walked, and `root` itself.
pub fn destroy<F: Format>(root: Page, entries: usize, supply: &impl Supply) {
    destroy_level::<F>(root, LEVELS - 1, entries, supply);
}

fn destroy_level<F: Format>(table: Page, level: u32, entries: usize, supply: &impl Supply) {
    for i in 0..entries {
        let entry = table.read(i);
        if F::is_present(entry) && !is_leaf(entry, level) {
            destroy_level::<F>(Page::at(phys(entry)), level - 1, ENTRIES, supply);
        }
    }
    supply.free(table);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::mem::Host;
    use crate::testing;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A mapping or removal of `count` pages at page `at`.
    fn op() -> impl Strategy<Value = (u64, u64, Option<u64>, bool)> {
        // Around a 2 MiB boundary, so that large leaves, splits and partial overwrites happen.
        let page = prop_oneof![0u64..8, 508u64..520, 1020u64..1030];
        let count = prop_oneof![1u64..8, Just(512u64), Just(513u64), Just(1024u64)];
        (page, count, proptest::option::of(prop_oneof![0u64..4, Just(512u64), Just(1024u64)]), any::<bool>())
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_pages(ops in proptest::collection::vec(op(), 1..20)) {
            let pd = testing::pd(4096);
            let root = pd.alloc(0).unwrap();
            let mut model: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
            for (at, count, source, write) in ops {
                let rights = if write { MemRights::READ | MemRights::WRITE } else { MemRights::READ };
                let mut done = 0;
                while done < count * PAGE {
                    let (addr, left) = (at * PAGE + done, count * PAGE - done);
                    let to = source.map(|page| (Phys(page * PAGE + done), rights));
                    let level = leaf_level::<Host>(addr, to.map_or(0, |to| to.0.0), left);
                    let result = set::<Host>(root, addr, level, to, pd).unwrap();
                    done += result.len.min(left);
                }
                for i in 0..count {
                    match source {
                        Some(page) => model.insert(at + i, (page + i, write)),
                        None => model.remove(&(at + i)),
                    };
                }
            }
            for page in 0..2100 {
                let found = walk::<Host>(root, page * PAGE);
                let target = found.ok().map(|m| (m.phys.0 / PAGE, m.rights.contains(MemRights::WRITE)));
                prop_assert_eq!(target, model.get(&page).copied(), "page {}", page);
                if let Err(hole) = found {
                    prop_assert!(model.range(page..page + hole / PAGE).next().is_none());
                }
            }
            destroy::<Host>(root, ENTRIES, pd);
            prop_assert_eq!(pd.figures().1, 0, "every table came back");
        }
    }

    #[test]
    fn large_leaves_are_used_where_they_fit() {
        let large = span(1);
        assert_eq!(leaf_level::<Host>(large, 3 * large, large), 1);
        assert_eq!(leaf_level::<Host>(large, 3 * large, large - PAGE), 0);
        assert_eq!(leaf_level::<Host>(large, 3 * large + PAGE, 2 * large), 0);
    }

    #[test]
    fn an_exhausted_account_is_an_error_and_maps_nothing() {
        let pd = testing::pd(2);
        let root = pd.alloc(0).unwrap();
        let to = Some((Phys(PAGE), MemRights::READ));
        assert_eq!(set::<Host>(root, 0, 0, to, pd), Err(Status::OutOfMemory));
        assert_eq!(walk::<Host>(root, 0), Err(span(3)));
    }
}
