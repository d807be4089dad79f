//! Free ranges of a numbered resource: physical memory, device memory, I/O ports, interrupt lines.
//!
//! Whatever is in the set is free. Neighbours are merged, so that memory given back can serve large pages again.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A half-open range that is not empty and does not wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    base: u64,
    size: u64,
}

impl Range {
    /// The range of `size` units from `base`; `None` if it is empty or wraps around.
    #[must_use]
    pub const fn new(base: u64, size: u64) -> Option<Self> {
        if size == 0 || base.checked_add(size).is_none() {
            return None;
        }
        Some(Self { base, size })
    }

    /// First unit.
    #[must_use]
    pub const fn base(self) -> u64 {
        self.base
    }

    /// Units, at least one.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.size
    }

    /// One past the last unit.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.base + self.size
    }

    /// Whether `other` lies inside.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.base <= other.base && other.end() <= self.end()
    }

    /// Whether the two share a unit.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.base < other.end() && other.base < self.end()
    }

    /// What the two share.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let base = self.base.max(other.base);
        Self::new(base, self.end().min(other.end()).checked_sub(base)?)
    }

    /// The smallest range that contains both.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        let base = self.base.min(other.base);
        Self { base, size: self.end().max(other.end()) - base }
    }
}

/// Why a range could not be taken or returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeError {
    /// Part of it is not free.
    InUse,
    /// Part of it is free already.
    AlreadyFree,
}

/// A set of free ranges.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    /// Base to size; neither overlapping nor touching.
    free: BTreeMap<u64, u64>,
}

impl Ranges {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { free: BTreeMap::new() }
    }

    /// The free ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        self.free.iter().map(|(&base, &size)| Range { base, size })
    }

    /// Number of free units.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.free.values().sum()
    }

    /// The free range with the highest base below `end`.
    fn last_below(&self, end: u64) -> Option<Range> {
        let (&base, &size) = self.free.range(..end).next_back()?;
        Some(Range { base, size })
    }

    /// Gives a range back.
    ///
    /// # Errors
    /// [`RangeError::AlreadyFree`] if part of it is in the set; nothing has changed then.
    pub fn free(&mut self, range: Range) -> Result<(), RangeError> {
        if self.last_below(range.end()).is_some_and(|below| below.end() > range.base) {
            return Err(RangeError::AlreadyFree);
        }
        let mut merged = range;
        if let Some(below) = self.last_below(range.base)
            && below.end() == range.base
        {
            self.free.remove(&below.base);
            merged = Range { base: below.base, size: below.size + merged.size };
        }
        if let Some(size) = self.free.remove(&range.end()) {
            merged.size += size;
        }
        self.free.insert(merged.base, merged.size);
        Ok(())
    }

    /// Removes whatever part of `range` is free.
    pub fn remove(&mut self, range: Range) {
        let hit: Vec<Range> = self
            .free
            .range(..range.end())
            .rev()
            .map(|(&base, &size)| Range { base, size })
            .take_while(|candidate| candidate.end() > range.base)
            .collect();
        for candidate in hit {
            if let Some(taken) = candidate.intersection(range) {
                self.carve(candidate, taken);
            }
        }
    }

    /// Takes exactly `range`.
    ///
    /// # Errors
    /// [`RangeError::InUse`] if part of it is not free; nothing has changed then.
    pub fn take(&mut self, range: Range) -> Result<(), RangeError> {
        let holder = self.last_below(range.end()).filter(|holder| holder.contains(range));
        let holder = holder.ok_or(RangeError::InUse)?;
        self.carve(holder, range);
        Ok(())
    }

    /// Takes `size` units aligned to the power of two `align`, out of the smallest free range that can serve them,
    /// so that large ranges stay whole.
    pub fn alloc(&mut self, size: u64, align: u64) -> Option<Range> {
        let fit = |holder: Range| {
            let base = holder.base.checked_next_multiple_of(align)?;
            let taken = Range::new(base, size)?;
            holder.contains(taken).then_some((holder, taken))
        };
        let best = self.iter().filter_map(fit).min_by_key(|(holder, _)| holder.size);
        let (holder, taken) = best?;
        self.carve(holder, taken);
        Some(taken)
    }

    /// Takes `taken` out of the free range `holder` that contains it.
    fn carve(&mut self, holder: Range, taken: Range) {
        self.free.remove(&holder.base);
        if let Some(below) = Range::new(holder.base, taken.base - holder.base) {
            self.free.insert(below.base, below.size);
        }
        if let Some(above) = Range::new(taken.end(), holder.end() - taken.end()) {
            self.free.insert(above.base, above.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(base: u64, size: u64) -> Range {
        Range::new(base, size).unwrap()
    }

    #[test]
    fn neighbours_merge_and_a_double_free_is_refused() {
        let mut ranges = Ranges::new();
        for base in [0, 20, 10] {
            ranges.free(range(base, 10)).unwrap();
        }
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [range(0, 30)]);
        assert_eq!(ranges.free(range(29, 5)), Err(RangeError::AlreadyFree));
        assert_eq!(ranges.total(), 30);
    }

    #[test]
    fn the_smallest_range_that_fits_is_used() {
        let mut ranges = Ranges::new();
        ranges.free(range(0, 0x1000)).unwrap();
        ranges.free(range(0x2000, 0x40)).unwrap();
        assert_eq!(ranges.alloc(0x20, 0x20), Some(range(0x2000, 0x20)));
        assert_eq!(ranges.alloc(0x40, 0x20), Some(range(0, 0x40)));
    }

    #[test]
    fn a_range_in_use_cannot_be_taken_again() {
        let mut ranges = Ranges::new();
        ranges.free(range(0, 0x10000)).unwrap();
        ranges.take(range(0x3f8, 8)).unwrap();
        assert_eq!(ranges.take(range(0x3ff, 2)), Err(RangeError::InUse));
        assert_eq!(ranges.take(range(0xffff, 2)), Err(RangeError::InUse));
        ranges.take(range(0x400, 1)).unwrap();
    }

    /// The set as one bit per unit.
    fn bits(ranges: &Ranges) -> u64 {
        ranges.iter().flat_map(|r| r.base()..r.end()).fold(0, |bits, unit| bits | 1 << unit)
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_set_of_bits(ops in prop::collection::vec((0..4, 0u64..64, 1u64..20, 0u32..4), 0..60)) {
            let mut ranges = Ranges::new();
            let mut model = 0u64;
            for (op, base, size, order) in ops {
                let size = size.min(64 - base);
                let wanted = range(base, size);
                let mask = (u64::MAX >> (64 - size)) << base;
                match op {
                    0 => {
                        prop_assert_eq!(ranges.free(wanted).is_ok(), model & mask == 0);
                        if model & mask == 0 { model |= mask; }
                    }
                    1 => {
                        prop_assert_eq!(ranges.take(wanted).is_ok(), model & mask == mask);
                        if model & mask == mask { model &= !mask; }
                    }
                    2 => { ranges.remove(wanted); model &= !mask; }
                    _ => {
                        let align = 1u64 << order;
                        let possible = (0..64 / align).map(|n| n * align)
                            .filter(|at| at + size <= 64)
                            .any(|at| { let m = (u64::MAX >> (64 - size)) << at; model & m == m });
                        let got = ranges.alloc(size, align);
                        prop_assert_eq!(got.is_some(), possible);
                        if let Some(got) = got {
                            let m = (u64::MAX >> (64 - got.size())) << got.base();
                            prop_assert!(got.base() % align == 0 && got.size() == size && model & m == m);
                            model &= !m;
                        }
                    }
                }
                prop_assert_eq!(bits(&ranges), model);
                prop_assert_eq!(ranges.total(), u64::from(model.count_ones()));
            }
        }
    }
}
