//! Facts about the machine at boot, whatever loader they came from.

use abi::hip::{MAX_RANGES, Range, RangeKind};
use arrayvec::ArrayVec;

/// Facts from the loader.
#[derive(Clone, Debug, Default)]
pub struct BootInfo {
    /// Memory map and modules.
    pub ranges: ArrayVec<Range, MAX_RANGES>,
    /// Physical address and length of the command line.
    pub command_line: (u64, u64),
    /// Physical address of a copy of the ACPI root pointer, if the loader gave one.
    pub rsdp: u64,
    /// Frame buffer: address; pitch, width, height, bits per pixel.
    pub framebuffer: [u64; 2],
}

impl BootInfo {
    /// Adds a range; beyond the capacity they are lost, which only means less memory.
    pub fn add(&mut self, base: u64, size: u64, kind: u32, aux: u64) {
        let _fits = self.ranges.try_push(Range { base, size, kind, reserved: 0, aux });
    }

    /// Finds `size` free bytes, aligned to `align`, below `limit`, as high as possible, clear of everything that is not free.
    pub fn find_free(&self, size: u64, align: u64, limit: u64) -> Option<u64> {
        let mut best = None;
        for range in self.ranges.iter().filter(|r| r.kind == RangeKind::Free as u32) {
            let mut end = range.base.saturating_add(range.size).min(limit);
            // Walk down past what is in the way.
            while let Some(base) = end.checked_sub(size).map(|b| b & !(align - 1)).filter(|&b| b >= range.base) {
                let blocked = self
                    .ranges
                    .iter()
                    .filter(|r| r.kind != RangeKind::Free as u32 && r.size > 0)
                    .find(|r| r.base < base + size && base < r.base.saturating_add(r.size));
                match blocked {
                    Some(obstacle) => end = obstacle.base,
                    None => {
                        best = best.max(Some(base));
                        break;
                    }
                }
            }
        }
        best
    }

    /// The module that is the root task: the first.
    pub fn root_task(&self) -> Option<Range> {
        self.ranges.iter().find(|r| r.kind == RangeKind::Module as u32).copied()
    }

    /// Free memory in bytes, as reported.
    pub fn free_bytes(&self) -> u64 {
        let free = |r: &&Range| r.kind == RangeKind::Free as u32;
        self.ranges.iter().filter(free).map(|r| r.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn found_memory_is_free_and_aligned(
            frees in proptest::collection::vec((0u64..1000, 1u64..400), 1..5),
            taken in proptest::collection::vec((0u64..1400, 0u64..100), 0..8),
            size in 1u64..100, align in 0u32..5, limit in 1u64..1500,
        ) {
            let mut info = BootInfo::default();
            for &(base, size) in &frees {
                info.add(base, size, RangeKind::Free as u32, 0);
            }
            for &(base, size) in &taken {
                info.add(base, size, RangeKind::Module as u32, 0);
            }
            let align = 1 << align;
            let fits = |base: u64| {
                base.is_multiple_of(align) && base + size <= limit
                    && frees.iter().any(|f| base >= f.0 && base + size <= f.0 + f.1)
                    && taken.iter().all(|t| t.1 == 0 || base + size <= t.0 || t.0 + t.1 <= base)
            };
            match info.find_free(size, align, limit) {
                Some(base) => {
                    prop_assert!(fits(base));
                    prop_assert!(!(base + 1..1500).any(fits));
                }
                None => prop_assert!(!(0..1500).any(fits)),
            }
        }
    }
}
