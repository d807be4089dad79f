//! Layout of guest RAM in the guest-physical address space.

use std::fmt;

use crate::paging::PAGE_SIZE;

/// End of conventional memory; from here to [`HIGH_MEMORY`] lie video memory and ROMs.
pub const LOW_MEMORY_END: u64 = 0xa_0000;
/// Start of extended memory.
pub const HIGH_MEMORY: u64 = 0x10_0000;
/// Start of the hole for devices below 4 GiB: PCI windows, ECAM, IOAPIC, LAPIC, firmware.
pub const DEVICE_HOLE: u64 = 0xc000_0000;
/// End of the hole for devices.
pub const DEVICE_HOLE_END: u64 = 1 << 32;

/// A range of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemoryRange {
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
}

impl MemoryRange {
    /// Number of bytes.
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether both ranges have a byte in common.
    pub fn overlaps(&self, other: &MemoryRange) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether all of `other` lies in this range.
    pub fn contains(&self, other: &MemoryRange) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

impl fmt::Display for MemoryRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// Where the guest's RAM is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// No RAM at all.
    #[error("no guest RAM configured")]
    Empty,
    /// Less than a guest can boot in.
    #[error("guest RAM of {0} bytes is less than the minimum of 2 MiB")]
    TooSmall(u64),
    /// End before or at start.
    #[error("memory range {0} is empty")]
    EmptyRange(MemoryRange),
    /// Start or end is not a multiple of the page size.
    #[error("memory range {0} is not aligned to 4 KiB")]
    Unaligned(MemoryRange),
    /// Beyond the largest guest-physical address.
    #[error("memory range {0} exceeds the guest-physical address space")]
    TooHigh(MemoryRange),
    /// In a region reserved for devices.
    #[error("memory range {0} overlaps the device region {1}")]
    InDeviceRegion(MemoryRange, MemoryRange),
    /// Two ranges share bytes.
    #[error("memory ranges {0} and {1} overlap")]
    Overlap(MemoryRange, MemoryRange),
}

/// The RAM ranges of a machine, ascending and disjoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLayout {
    ranges: Vec<MemoryRange>,
}

/// Regions where a PC has devices.
const DEVICE_REGIONS: [MemoryRange; 2] =
    [MemoryRange { start: LOW_MEMORY_END, end: HIGH_MEMORY }, MemoryRange { start: DEVICE_HOLE, end: DEVICE_HOLE_END }];

/// Least RAM of a machine given by size.
const MIN_SIZE: u64 = 2 << 20;
/// No RAM from here on: 46 address bits are what a four-level nested table maps with margin.
const MAX_ADDRESS: u64 = 1 << 46;

impl MemoryLayout {
    /// RAM of `size` bytes from address 0, rounded down to pages. The legacy device region hides
    /// its share; what does not fit below the device hole continues at 4 GiB.
    ///
    /// # Errors
    /// [`LayoutError::TooSmall`], [`LayoutError::TooHigh`].
    pub fn from_size(size: u64) -> Result<Self, LayoutError> {
        let size = size & !(PAGE_SIZE - 1);
        if size < MIN_SIZE {
            return Err(LayoutError::TooSmall(size));
        }
        let mut ranges = vec![
            MemoryRange { start: 0, end: LOW_MEMORY_END },
            MemoryRange { start: HIGH_MEMORY, end: size.min(DEVICE_HOLE) },
        ];
        if size > DEVICE_HOLE {
            let end = DEVICE_HOLE_END.saturating_add(size - DEVICE_HOLE);
            ranges.push(MemoryRange { start: DEVICE_HOLE_END, end });
        }
        Self::from_ranges(ranges)
    }

    /// RAM of exactly these ranges, in any order.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn from_ranges(ranges: impl IntoIterator<Item = MemoryRange>) -> Result<Self, LayoutError> {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        if ranges.is_empty() {
            return Err(LayoutError::Empty);
        }
        ranges.iter().try_for_each(check_range)?;
        for pair in ranges.windows(2) {
            if let [low, high] = pair
                && low.overlaps(high)
            {
                return Err(LayoutError::Overlap(*low, *high));
            }
        }
        Ok(MemoryLayout { ranges })
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[MemoryRange] {
        &self.ranges
    }

    /// Those below the hole for devices, and those above.
    pub fn parts(&self) -> (&[MemoryRange], &[MemoryRange]) {
        self.ranges.split_at(self.ranges.partition_point(|range| range.start < DEVICE_HOLE_END))
    }

    /// Bytes of RAM.
    pub fn size(&self) -> u64 {
        self.ranges.iter().map(MemoryRange::size).sum()
    }

    /// Whether `range` is RAM in one piece.
    pub fn contains(&self, range: &MemoryRange) -> bool {
        self.ranges.iter().any(|ram| ram.contains(range))
    }
}

fn check_range(range: &MemoryRange) -> Result<(), LayoutError> {
    if range.start >= range.end {
        return Err(LayoutError::EmptyRange(*range));
    }
    if !range.start.is_multiple_of(PAGE_SIZE) || !range.end.is_multiple_of(PAGE_SIZE) {
        return Err(LayoutError::Unaligned(*range));
    }
    if range.end > MAX_ADDRESS {
        return Err(LayoutError::TooHigh(*range));
    }
    match DEVICE_REGIONS.iter().find(|region| region.overlaps(range)) {
        Some(region) => Err(LayoutError::InDeviceRegion(*range, *region)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: u64) -> MemoryRange {
        MemoryRange { start, end }
    }

    #[test]
    fn sizes_leave_the_device_regions_free() {
        let small = MemoryLayout::from_size(64 << 20).unwrap();
        assert_eq!(small.ranges(), [range(0, 0xa_0000), range(0x10_0000, 64 << 20)]);
        let large = MemoryLayout::from_size(6 << 30).unwrap();
        let expected = [range(0, 0xa_0000), range(0x10_0000, 0xc000_0000), range(4 << 30, 7 << 30)];
        assert_eq!(large.ranges(), expected);
        assert_eq!((large.parts(), small.parts().1.len()), ((&expected[..2], &expected[2..]), 0));
        assert_eq!(MemoryLayout::from_size(0x1000), Err(LayoutError::TooSmall(0x1000)));
    }

    #[test]
    fn bad_ranges_are_named() {
        let cases = [
            (vec![], LayoutError::Empty),
            (vec![range(0x2000, 0x2000)], LayoutError::EmptyRange(range(0x2000, 0x2000))),
            (vec![range(0, 0x800)], LayoutError::Unaligned(range(0, 0x800))),
            (vec![range(0, 1 << 47)], LayoutError::TooHigh(range(0, 1 << 47))),
            (vec![range(0, 0x20_0000)], LayoutError::InDeviceRegion(range(0, 0x20_0000), range(0xa_0000, 0x10_0000))),
            (
                vec![range(0x10_0000, 0x30_0000), range(0x20_0000, 0x40_0000)],
                LayoutError::Overlap(range(0x10_0000, 0x30_0000), range(0x20_0000, 0x40_0000)),
            ),
        ];
        for (ranges, error) in cases {
            assert_eq!(MemoryLayout::from_ranges(ranges), Err(error));
        }
    }

    proptest! {
        #[test]
        fn every_size_gives_valid_disjoint_ranges(size: u64) {
            if let Ok(layout) = MemoryLayout::from_size(size) {
                let again = MemoryLayout::from_ranges(layout.ranges().to_vec());
                prop_assert_eq!(again.as_ref(), Ok(&layout));
                let hidden = HIGH_MEMORY - LOW_MEMORY_END;
                prop_assert_eq!(layout.size(), (size & !(PAGE_SIZE - 1)) - hidden);
            }
        }
    }
}
