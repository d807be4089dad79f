//! Affinity: which CPUs a session may use.

use abi::hypercall::CpuId;
use abi::session::affinity::Affinity;

/// Consecutive CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuSet {
    first: u16,
    /// At least 1.
    count: u16,
}

impl CpuSet {
    /// The first `count` CPUs, at least one.
    #[must_use]
    pub const fn all(count: u32) -> Self {
        let count = if count > u16::MAX as u32 { u16::MAX } else { count as u16 };
        Self { first: 0, count: if count == 0 { 1 } else { count } }
    }

    /// Number of CPUs.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.count)
    }

    /// The `n`-th CPU.
    #[must_use]
    pub fn get(self, n: u32) -> Option<CpuId> {
        let n = u16::try_from(n).ok().filter(|&n| n < self.count)?;
        Some(CpuId(self.first + n))
    }

    /// The part of these CPUs that `affinity` means, seen as a grid of one row: columns scale, and a location narrower
    /// than a CPU is that CPU. All of them if it says nothing.
    #[must_use]
    pub fn select(self, affinity: &Affinity) -> Self {
        if !affinity.is_valid() {
            return self;
        }
        let scale = |column: u16| u32::from(column) * self.count() / u32::from(affinity.space_width);
        let first = scale(affinity.x);
        let end = scale(affinity.x + affinity.width).max(first + 1);
        // Both are below the old count, which is 16 bits wide.
        Self { first: self.first + first as u16, count: (end - first) as u16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn location(space_width: u16, x: u16, width: u16) -> Affinity {
        Affinity { space_width, space_height: 1, x, y: 0, width, height: 1 }
    }

    #[test]
    fn columns_scale() {
        let cpus = CpuSet::all(4);
        assert_eq!(cpus.select(&Affinity::default()), cpus);
        assert_eq!(cpus.select(&location(2, 1, 1)), CpuSet { first: 2, count: 2 });
        assert_eq!(cpus.select(&location(4, 3, 1)), CpuSet { first: 3, count: 1 });
        assert_eq!(cpus.select(&location(8, 7, 1)), CpuSet { first: 3, count: 1 });
        assert_eq!(cpus.select(&location(4, 3, 2)), cpus);
        assert_eq!(CpuSet { first: 3, count: 1 }.get(1), None);
        assert_eq!(CpuSet { first: 3, count: 1 }.get(0), Some(CpuId(3)));
    }

    proptest! {
        #[test]
        fn a_selection_is_a_part(count in 1u32..256, space in 1u16..300, x in 0u16..300, width in 0u16..300) {
            let cpus = CpuSet::all(count);
            let part = cpus.select(&location(space, x, width));
            prop_assert!(part.count >= 1 && u32::from(part.first) + part.count() <= count);
        }
    }
}
