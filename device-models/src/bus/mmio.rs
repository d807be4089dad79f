//! Memory-mapped I/O: guest-physical addresses and the bus that finds the model behind one.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

/// What a read of an address without a model returns.
pub const FLOATING: u64 = u64::MAX;

/// A guest-physical address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gpa(pub u64);

/// Operand size of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MmioSize {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Dword,
    /// Eight bytes.
    Qword,
}

impl MmioSize {
    /// The size in bytes.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
            Self::Qword => 8,
        }
    }

    /// The size that has `bytes` bytes, if models know it.
    #[must_use]
    pub const fn from_bytes(bytes: u8) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            8 => Some(Self::Qword),
            _ => None,
        }
    }

    /// The bits that an access of this size transfers.
    #[inline]
    #[must_use]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (u64::BITS - 8 * self.bytes() as u32)
    }
}

/// An access as a model sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MmioAccess {
    /// Bytes from the start of the model's range.
    pub offset: u64,
    /// Operand size. The whole operand lies inside the range.
    pub size: MmioSize,
}

/// A non-empty range of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpaRange {
    first: Gpa,
    last: Gpa,
}

impl GpaRange {
    /// `bytes` bytes from `start`; `None` when empty or beyond the address space.
    #[must_use]
    pub const fn new(start: Gpa, bytes: u64) -> Option<Self> {
        let Some(rest) = bytes.checked_sub(1) else {
            return None;
        };
        match start.0.checked_add(rest) {
            Some(last) => Some(Self { first: start, last: Gpa(last) }),
            None => None,
        }
    }

    /// The first address.
    #[must_use]
    pub const fn start(self) -> Gpa {
        self.first
    }

    /// The last address.
    #[must_use]
    pub const fn last(self) -> Gpa {
        self.last
    }

    #[inline]
    fn access(self, gpa: Gpa, size: MmioSize) -> Option<MmioAccess> {
        let offset = gpa.0.checked_sub(self.first.0)?;
        let end = gpa.0.checked_add(size.bytes() - 1)?;
        (end <= self.last.0).then_some(MmioAccess { offset, size })
    }
}

/// Two models want the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioOverlap<Id> {
    /// The first address in dispute.
    pub at: Gpa,
    /// Who holds it.
    pub owner: Id,
    /// Who asked for it.
    pub claimant: Id,
}

impl<Id: fmt::Display> fmt::Display for MmioOverlap<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, owner, claimant } = self;
        write!(f, "{claimant} claims address {:#x} of {owner}", at.0)
    }
}

impl<Id: fmt::Debug + fmt::Display> core::error::Error for MmioOverlap<Id> {}

/// Finds the model behind a guest-physical address: sorted ranges, the last hit tried first.
pub struct MmioBus<Id> {
    claims: Vec<(GpaRange, Id)>,
    last_hit: AtomicUsize,
}

impl<Id: Copy> Default for MmioBus<Id> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Id: Copy> MmioBus<Id> {
    /// A bus without models.
    #[must_use]
    pub const fn new() -> Self {
        Self { claims: Vec::new(), last_hit: AtomicUsize::new(0) }
    }

    /// Gives `range` to the model named `id`.
    ///
    /// # Errors
    /// [`MmioOverlap`] when a part of the range is taken; the bus is then unchanged.
    pub fn claim(&mut self, id: Id, range: GpaRange) -> Result<(), MmioOverlap<Id>> {
        let index = self.claims.partition_point(|(r, _)| r.last < range.first);
        match self.claims.get(index) {
            Some((taken, owner)) if taken.first <= range.last => {
                Err(MmioOverlap { at: taken.first.max(range.first), owner: *owner, claimant: id })
            }
            _ => {
                self.claims.insert(index, (range, id));
                Ok(())
            }
        }
    }

    /// Takes back every range of `id` (a PCI BAR that moves or is disabled).
    pub fn release(&mut self, id: Id)
    where
        Id: PartialEq,
    {
        self.claims.retain(|(_, owner)| *owner != id);
    }

    /// The model behind `gpa` and the access relative to its range; `None` where no model decodes
    /// the whole operand: such reads give [`FLOATING`], such writes are lost.
    #[inline]
    pub fn lookup(&self, gpa: Gpa, size: MmioSize) -> Option<(Id, MmioAccess)> {
        // Ordering: Relaxed, the hint orders nothing; a stale one costs a search.
        let hint = self.last_hit.load(Ordering::Relaxed);
        if let Some((range, id)) = self.claims.get(hint)
            && let Some(access) = range.access(gpa, size)
        {
            return Some((*id, access));
        }
        self.search(gpa, size)
    }

    fn search(&self, gpa: Gpa, size: MmioSize) -> Option<(Id, MmioAccess)> {
        let index = self.claims.partition_point(|(r, _)| r.last < gpa);
        let (range, id) = self.claims.get(index)?;
        let access = range.access(gpa, size)?;
        self.last_hit.store(index, Ordering::Relaxed);
        Some((*id, access))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, bytes: u64) -> GpaRange {
        GpaRange::new(Gpa(start), bytes).unwrap()
    }

    #[test]
    fn overlap_names_both() {
        let mut bus = MmioBus::new();
        bus.claim('a', range(0x1000, 0x1000)).unwrap();
        bus.claim('b', range(0x3000, 0x1000)).unwrap();
        let error = bus.claim('c', range(0x2000, 0x1001)).unwrap_err();
        assert_eq!(error, MmioOverlap { at: Gpa(0x3000), owner: 'b', claimant: 'c' });
        bus.claim('c', range(0x2000, 0x1000)).unwrap();
        bus.release('c');
        assert_eq!(bus.lookup(Gpa(0x2000), MmioSize::Byte), None);
    }

    #[test]
    fn operands_must_lie_inside() {
        let mut bus = MmioBus::new();
        bus.claim('a', range(u64::MAX - 7, 8)).unwrap();
        assert!(bus.lookup(Gpa(u64::MAX - 7), MmioSize::Qword).is_some());
        assert!(bus.lookup(Gpa(u64::MAX - 6), MmioSize::Qword).is_none());
        assert_eq!(GpaRange::new(Gpa(u64::MAX), 2), None);
        assert_eq!(GpaRange::new(Gpa(0), 0), None);
    }

    proptest! {
        #[test]
        fn lookup_agrees_with_a_linear_scan(claims in proptest::collection::vec((0u64..256, 1u64..32), 0..16), probes in proptest::collection::vec(0u64..300, 1..32)) {
            let mut bus = MmioBus::new();
            let mut accepted = Vec::new();
            for (id, (start, bytes)) in claims.into_iter().enumerate() {
                let free = accepted.iter().all(|(_, s, b)| start + bytes <= *s || s + b <= start);
                prop_assert_eq!(bus.claim(id, range(start, bytes)).is_ok(), free);
                if free {
                    accepted.push((id, start, bytes));
                }
            }
            for probe in probes {
                let expected = accepted.iter().find(|(_, s, b)| (*s..s + b).contains(&probe)).map(|(id, s, _)| (*id, probe - s));
                let found = bus.lookup(Gpa(probe), MmioSize::Byte).map(|(id, access)| (id, access.offset));
                prop_assert_eq!(found, expected);
            }
        }
    }
}
