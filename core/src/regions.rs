//! Regions: which part of which dataspace is where in an address space.

use crate::ranges::Range;
use abi::cap::MemRights;
use abi::{LARGE_PAGE_SIZE, PAGE_SIZE};
use alloc::collections::BTreeMap;

/// Sizes of the pages that the hardware translates, largest first (SDM vol. 3, table 4-1).
const PAGE_SIZES: [u64; 3] = [1 << 30, LARGE_PAGE_SIZE, PAGE_SIZE];

/// The alignment that lets `size` bytes be mapped with the largest pages: the largest page size not above it.
#[must_use]
pub fn natural_alignment(size: u64) -> u64 {
    PAGE_SIZES.into_iter().find(|&page| page <= size).unwrap_or(PAGE_SIZE)
}

/// What to attach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attachment<D> {
    /// The dataspace.
    pub dataspace: D,
    /// Its size in bytes.
    pub dataspace_size: u64,
    /// Its physical base, whose alignment limits that of the region.
    pub backing: u64,
    /// First byte of the dataspace to attach, page-aligned.
    pub offset: u64,
    /// Bytes, rounded up to pages; `None` for all from `offset` on.
    pub size: Option<u64>,
    /// Page-aligned address; `None` for any.
    pub at: Option<u64>,
    /// What the mapping permits, at most.
    pub rights: MemRights,
}

/// An attached part of a dataspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region<D> {
    /// Addresses.
    pub range: Range,
    /// The dataspace.
    pub dataspace: D,
    /// Offset in it of the first byte.
    pub offset: u64,
    /// What the mapping permits, at most.
    pub rights: MemRights,
}

/// Why nothing was attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachError {
    /// Address or offset is no multiple of the page size.
    Unaligned,
    /// The part is empty or reaches beyond the dataspace.
    OutOfDataspace,
    /// The wanted addresses are in use or outside the address space, or no gap is large enough.
    Conflict,
}

/// Regions of one address space.
#[derive(Clone, Debug)]
pub struct RegionMap<D> {
    bounds: Range,
    regions: BTreeMap<u64, Region<D>>,
}

impl<D: Copy> RegionMap<D> {
    /// An empty map of the addresses `bounds`.
    #[must_use]
    pub const fn new(bounds: Range) -> Self {
        Self { bounds, regions: BTreeMap::new() }
    }

    /// Attaches, and returns the region.
    ///
    /// # Errors
    /// See [`AttachError`]; nothing has changed then.
    pub fn attach(&mut self, attachment: &Attachment<D>) -> Result<Region<D>, AttachError> {
        let Attachment { dataspace, dataspace_size, backing, offset, size, at, rights } = *attachment;
        let aligned = |n: u64| n.is_multiple_of(PAGE_SIZE);
        if !aligned(offset) || !at.is_none_or(aligned) {
            return Err(AttachError::Unaligned);
        }
        let rest = dataspace_size.checked_sub(offset).ok_or(AttachError::OutOfDataspace)?;
        let rounded = size.unwrap_or(rest).checked_next_multiple_of(PAGE_SIZE);
        let size = rounded.filter(|size| (1..=rest).contains(size)).ok_or(AttachError::OutOfDataspace)?;
        let range = match at {
            Some(base) => {
                let range = Range::new(base, size).ok_or(AttachError::Conflict)?;
                let free = self.bounds.contains(range) && !self.is_used(range);
                free.then_some(range).ok_or(AttachError::Conflict)?
            }
            None => self.find_gap(size, backing.wrapping_add(offset)).ok_or(AttachError::Conflict)?,
        };
        let region = Region { range, dataspace, offset, rights };
        self.regions.insert(range.base(), region);
        Ok(region)
    }

    fn is_used(&self, range: Range) -> bool {
        let below = self.regions.range(..range.end()).next_back();
        below.is_some_and(|(_, region)| region.range.overlaps(range))
    }

    /// Lowest free addresses for `size` bytes backed by `physical`, aligned for pages as large as both permit.
    fn find_gap(&self, size: u64, physical: u64) -> Option<Range> {
        let usable = PAGE_SIZES.into_iter().filter(|&page| page <= size && physical.is_multiple_of(page));
        usable.into_iter().find_map(|align| self.find_aligned_gap(size, align))
    }

    fn find_aligned_gap(&self, size: u64, align: u64) -> Option<Range> {
        let mut candidate = self.bounds.base().checked_next_multiple_of(align)?;
        for region in self.regions.values() {
            if Range::new(candidate, size)?.end() <= region.range.base() {
                break;
            }
            candidate = candidate.max(region.range.end().checked_next_multiple_of(align)?);
        }
        Range::new(candidate, size).filter(|&range| self.bounds.contains(range))
    }

    /// Detaches the region that contains `address`.
    pub fn detach(&mut self, address: u64) -> Option<Region<D>> {
        let base = self.lookup(address)?.range.base();
        self.regions.remove(&base)
    }

    /// The region that contains `address`.
    #[must_use]
    pub fn lookup(&self, address: u64) -> Option<&Region<D>> {
        let (_, region) = self.regions.range(..=address).next_back()?;
        (address < region.range.end()).then_some(region)
    }

    /// All regions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Region<D>> + '_ {
        self.regions.values()
    }

    /// Number of regions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.regions.len()
    }

    /// Whether there is no region.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }
}

/// A part of a region to map at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// First address.
    pub address: u64,
    /// Offset in the dataspace.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl<D> Region<D> {
    /// The part to map for an access to `address`, with the dataspace at physical address `backing`: one page of the
    /// largest size that fits, or else what of the region lies in the same [`WINDOW`], because that costs one
    /// page table however many of its entries are used.
    #[must_use]
    pub fn chunk(&self, address: u64, backing: u64) -> Option<Chunk> {
        let whole_page = |page: u64| {
            let range = Range::new(address - address % page, page)?;
            let offset = self.offset.wrapping_add(range.base().wrapping_sub(self.range.base()));
            (self.range.contains(range) && backing.wrapping_add(offset).is_multiple_of(page)).then_some(range)
        };
        let window = || Range::new(address - address % WINDOW, WINDOW)?.intersection(self.range);
        let large = PAGE_SIZES.into_iter().filter(|&page| page > PAGE_SIZE).find_map(whole_page);
        let range = large.or_else(window).filter(|range| range.base() <= address && address < range.end())?;
        let offset = self.offset + (range.base() - self.range.base());
        Some(Chunk { address: range.base(), offset, size: range.size() })
    }
}

/// What one page table translates.
pub const WINDOW: u64 = LARGE_PAGE_SIZE;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Range = match Range::new(PAGE_SIZE, 1 << 40) {
        Some(range) => range,
        None => unreachable!(),
    };

    fn attachment(size: u64, at: Option<u64>) -> Attachment<u32> {
        Attachment {
            dataspace: 7,
            dataspace_size: size,
            backing: 0,
            offset: 0,
            size: None,
            at,
            rights: MemRights::READ,
        }
    }

    #[test]
    fn overlap_is_a_conflict() {
        let mut map = RegionMap::new(BOUNDS);
        map.attach(&attachment(0x3000, Some(0x10000))).unwrap();
        for at in [0xe000, 0x10000, 0x11000, 0x12000] {
            assert_eq!(map.attach(&attachment(0x3000, Some(at))), Err(AttachError::Conflict), "{at:#x}");
        }
        map.attach(&attachment(0x3000, Some(0xd000))).unwrap();
        map.attach(&attachment(0x3000, Some(0x13000))).unwrap();
        assert_eq!(map.attach(&attachment(0x1000, Some(0))), Err(AttachError::Conflict));
        assert_eq!(map.detach(0x12fff).unwrap().range.base(), 0x10000);
        assert!(map.lookup(0x10000).is_none());
    }

    #[test]
    fn what_is_not_in_the_dataspace_is_refused() {
        let mut map = RegionMap::new(BOUNDS);
        let bad = [
            Attachment { offset: 0x3000, ..attachment(0x3000, None) },
            Attachment { offset: 0x4000, ..attachment(0x3000, None) },
            Attachment { offset: 0x800, ..attachment(0x3000, None) },
            Attachment { size: Some(0x3001), ..attachment(0x3000, None) },
            Attachment { size: Some(u64::MAX), ..attachment(0x3000, None) },
            Attachment { offset: 0x1000, size: Some(0x3000), ..attachment(0x3000, None) },
            Attachment { at: Some(0x10800), ..attachment(0x3000, None) },
            attachment(0, Some(0x10000)),
        ];
        for (n, bad) in bad.iter().enumerate() {
            assert!(map.attach(bad).is_err(), "{n}");
        }
        assert!(map.is_empty());
    }

    #[test]
    fn free_placement_permits_the_largest_pages() {
        let mut map = RegionMap::new(BOUNDS);
        map.attach(&attachment(0x1000, None)).unwrap();
        let region = map.attach(&attachment(3 << 21, None)).unwrap();
        assert_eq!(region.range.base() % (1 << 21), 0);
    }

    #[test]
    fn a_fault_maps_the_largest_page_that_fits() {
        let mut map = RegionMap::new(BOUNDS);
        let big = map.attach(&attachment(2 << 30, Some(1 << 30))).unwrap();
        let chunk = big.chunk((1 << 30) + 0x12345, 1 << 32).unwrap();
        assert_eq!(chunk, Chunk { address: 1 << 30, offset: 0, size: 1 << 30 });
        let chunk = big.chunk((1 << 30) + (1 << 21) + 5, 1 << 21).unwrap();
        assert_eq!(chunk, Chunk { address: (1 << 30) + (1 << 21), offset: 1 << 21, size: 1 << 21 });
        let small = map.attach(&attachment(0x5000, Some(0x1ff000))).unwrap();
        assert_eq!(small.chunk(0x1ff800, 0).unwrap(), Chunk { address: 0x1ff000, offset: 0, size: 0x1000 });
        assert_eq!(small.chunk(0x203fff, 0).unwrap(), Chunk { address: 0x200000, offset: 0x1000, size: 0x4000 });
        assert_eq!(small.chunk(0x204000, 0), None);
    }

    proptest! {
        #[test]
        fn regions_never_overlap(
            ops in prop::collection::vec((any::<bool>(), 1u64..2000, prop::option::of(0u64..5000), 0u64..5000), 0..80)
        ) {
            let bounds = Range::new(PAGE_SIZE, 5000 * PAGE_SIZE).unwrap();
            let mut map = RegionMap::new(bounds);
            for (detach, pages, at, victim) in ops {
                if detach {
                    map.detach(victim * PAGE_SIZE);
                } else {
                    let before = map.len();
                    let result = map.attach(&attachment(pages * PAGE_SIZE, at.map(|page| page * PAGE_SIZE)));
                    prop_assert_eq!(map.len(), before + usize::from(result.is_ok()));
                }
                let mut end = bounds.base();
                for region in map.iter() {
                    prop_assert!(region.range.base() >= end);
                    end = region.range.end();
                }
                prop_assert!(end <= bounds.end());
            }
        }

        #[test]
        fn a_chunk_stays_in_its_region(base in 1u64..0x1000, pages in 1u64..0x1000, at in 0u64..0x1000, backing in 0u64..0x1000) {
            let range = Range::new(base * PAGE_SIZE, pages * PAGE_SIZE).unwrap();
            let region = Region { range, dataspace: 0, offset: 0x3000, rights: MemRights::READ };
            let address = range.base() + at.min(pages - 1) * PAGE_SIZE + 17;
            let chunk = region.chunk(address, backing * PAGE_SIZE).unwrap();
            prop_assert!(range.contains(Range::new(chunk.address, chunk.size).unwrap()));
            prop_assert!(chunk.address <= address && address < chunk.address + chunk.size);
            prop_assert_eq!(chunk.offset - region.offset, chunk.address - range.base());
        }
    }
}
