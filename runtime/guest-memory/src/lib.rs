//! Guest RAM in attached dataspaces, as [`vm_memory`] wants it.
//!
//! The guest changes this memory at any time, so nobody ever gets a reference into it: accesses are volatile, through
//! [`VolatileSlice`].
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, missing_docs, reason = "tests state their expectations tersely"))]

use std::sync::Arc;

use runtime::dataspace::Attached;
use vm_memory::bitmap::BS;
use vm_memory::guest_memory::Result;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestUsize,
    MemoryRegionAddress, VolatileSlice,
};

/// A range of guest RAM.
#[derive(Debug)]
pub struct Region {
    start: GuestAddress,
    memory: Block,
}

/// A part of an attached dataspace.
#[derive(Debug)]
struct Block {
    address: usize,
    size: usize,
    /// Keeps it attached.
    _attached: Option<Arc<Attached>>,
}

impl Block {
    /// `count` bytes from `offset` on, if they are in the block.
    #[inline]
    fn slice(&self, offset: u64, count: usize) -> Option<VolatileSlice<'_>> {
        let last = self.size.checked_sub(count)?;
        let offset = usize::try_from(offset).ok().filter(|offset| *offset <= last)?;
        let address = (self.address + offset) as *mut u8;
        #[allow(unsafe_code, reason = "this is what the crate is for")]
        // SAFETY: `count` bytes from there are in the block, which `new` has checked to be in the attached
        // dataspace, and which stays attached, readable and writeable, as long as `self`. Nobody makes
        // references into it: it is reached through this crate and by the guest only.
        Some(unsafe { VolatileSlice::new(address, count) })
    }
}

/// Why ranges do not make a guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegionError {
    /// The range leaves the dataspace, or is empty.
    #[error("guest RAM at {0:#x} is not in its dataspace")]
    OutOfDataspace(u64),
    /// The range leaves the guest's address space.
    #[error("guest RAM at {0:#x} exceeds the address space")]
    TooHigh(u64),
    /// Two ranges have addresses in common.
    #[error("guest RAM at {0:#x} is there twice")]
    Overlap(u64),
    /// There is none.
    #[error("no guest RAM")]
    Empty,
}

impl Region {
    /// Guest RAM of `size` bytes at guest-physical address `start`: the attached dataspace from `offset` on. It has to be
    /// attached readable and writeable.
    ///
    /// # Errors
    /// See [`RegionError`].
    pub fn new(
        start: u64,
        attached: &Arc<Attached>,
        offset: u64,
        size: u64,
    ) -> core::result::Result<Self, RegionError> {
        let memory = attached.memory();
        let out_of_dataspace = RegionError::OutOfDataspace(start);
        let end = offset.checked_add(size).ok_or(out_of_dataspace)?;
        if size == 0 || end > memory.size() as u64 {
            return Err(out_of_dataspace);
        }
        start.checked_add(size - 1).ok_or(RegionError::TooHigh(start))?;
        // 64-bit addresses and sizes are as wide as pointers.
        let block = Block {
            address: (memory.address() + offset) as usize,
            size: size as usize,
            _attached: Some(Arc::clone(attached)),
        };
        Ok(Self { start: GuestAddress(start), memory: block })
    }
}

impl GuestMemoryRegion for Region {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.memory.size as GuestUsize
    }

    fn start_addr(&self) -> GuestAddress {
        self.start
    }

    fn bitmap(&self) -> BS<'_, Self::B> {}

    fn get_slice(&self, offset: MemoryRegionAddress, count: usize) -> Result<VolatileSlice<'_>> {
        self.memory.slice(offset.0, count).ok_or(GuestMemoryError::InvalidBackendAddress)
    }
}

impl GuestMemoryRegionBytes for Region {}

/// All RAM of a guest.
#[derive(Debug)]
pub struct GuestRam {
    /// The largest first: it has the page tables and the code.
    regions: Vec<Region>,
}

impl GuestRam {
    /// Guest RAM of these regions.
    ///
    /// # Errors
    /// There are none, or they overlap.
    pub fn new(mut regions: Vec<Region>) -> core::result::Result<Self, RegionError> {
        regions.sort_by_key(|region| region.start);
        for pair in regions.windows(2) {
            if let [low, high] = pair
                && high.start <= low.last_addr()
            {
                return Err(RegionError::Overlap(high.start.0));
            }
        }
        regions.sort_by_key(|region| core::cmp::Reverse(region.memory.size));
        if regions.is_empty() {
            return Err(RegionError::Empty);
        }
        Ok(Self { regions })
    }
}

impl GuestMemoryBackend for GuestRam {
    type R = Region;

    fn iter(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter()
    }

    /// The hot path of page-table walks and instruction fetches: one comparison if it is in the first region.
    #[inline]
    fn get_slice(&self, address: GuestAddress, count: usize) -> Result<VolatileSlice<'_>> {
        self.regions
            .iter()
            .find_map(|region| {
                // An address below the start becomes an offset beyond the end.
                let offset = address.0.wrapping_sub(region.start.0);
                region.memory.slice(offset, count)
            })
            .ok_or(GuestMemoryError::InvalidGuestAddress(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    /// A region over memory of the test.
    fn region(start: u64, backing: &mut [u8]) -> Region {
        let block = Block { address: backing.as_mut_ptr() as usize, size: backing.len(), _attached: None };
        Region { start: GuestAddress(start), memory: block }
    }

    #[test]
    fn regions_are_found_by_address() {
        let (mut low, mut high) = (vec![1; 0x1000], vec![2; 0x3000]);
        let ram = GuestRam::new(vec![region(0, &mut low), region(0x10_0000, &mut high)]).unwrap();
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0xfff)).unwrap(), 1);
        assert_eq!(ram.read_obj::<u16>(GuestAddress(0x10_2ffe)).unwrap(), 0x0202);
        ram.write_obj(7_u8, GuestAddress(0x10_0000)).unwrap();
        assert_eq!(high[0], 7);
    }

    #[test]
    fn nothing_leaves_a_region() {
        let mut backing = vec![0; 0x1000];
        let ram = GuestRam::new(vec![region(0x1000, &mut backing)]).unwrap();
        for (address, count) in [(0xfff, 1), (0x2000, 1), (0x1fff, 2), (0x1000, 0x1001), (u64::MAX, 1)] {
            assert!(ram.get_slice(GuestAddress(address), count).is_err(), "{address:#x}");
        }
        assert!(ram.get_slice(GuestAddress(0x1000), usize::MAX).is_err());
        assert_eq!(ram.get_slice(GuestAddress(0x1000), 0x1000).unwrap().len(), 0x1000);
    }

    #[test]
    fn overlaps_are_refused() {
        let (mut a, mut b) = (vec![0; 0x2000], vec![0; 0x1000]);
        let result = GuestRam::new(vec![region(0x1000, &mut a), region(0x2000, &mut b)]);
        assert_eq!(result.unwrap_err(), RegionError::Overlap(0x2000));
        assert_eq!(GuestRam::new(Vec::new()).unwrap_err(), RegionError::Empty);
    }
}
