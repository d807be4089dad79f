//! The entries that a walk has read, kept so that the walk can be remembered.
//!
//! A remembered walk is no TLB: each use reads every entry of its path again and compares it with what the walk left there. Equal
//! entries under an equal [regime](FetchRegime) give the equal result, so that no flush by the guest has to be noticed, and a change
//! of the tables never goes unseen.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vm_memory::bitmap::{BitmapSlice, MS};
use vm_memory::{AtomicAccess, AtomicInteger, Bytes, GuestAddress, GuestMemoryBackend, VolatileMemory, VolatileSlice};

use super::{Entry, TranslationError};
use crate::state::{Cr0, Cr4, Efer, VcpuState};

/// Where something lies in guest RAM. It is found once: RAM stays where it is.
pub type Place<'m, M> = VolatileSlice<'m, MS<'m, M>>;

/// All that a walk for an instruction fetch depends on beside the linear address and the tables. RFLAGS.AC is not among it: it
/// is about accesses to data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchRegime {
    cr3: u64,
    cr0: Cr0,
    cr4: Cr4,
    efer: Efer,
    physical_address_bits: u8,
    user: bool,
}

impl FetchRegime {
    /// That of code with these registers, at CPL 3 if `user`.
    #[inline]
    pub fn of(state: &VcpuState, user: bool) -> Self {
        let VcpuState { cr0, cr3, cr4, efer, physical_address_bits, .. } = *state;
        FetchRegime { cr3, cr0, cr4, efer, physical_address_bits, user }
    }
}

/// Size of an entry of two-level tables, in bytes.
pub(super) const SHORT_ENTRY: usize = size_of::<u32>();
/// Size of any other entry, in bytes.
pub(super) const LONG_ENTRY: usize = size_of::<u64>();

/// One visited entry, with the value that the walk left there.
pub(super) struct Visited<'m, M: GuestMemoryBackend> {
    /// As long as the entry.
    place: Place<'m, M>,
    value: u64,
}

impl<'m, M: GuestMemoryBackend> Visited<'m, M> {
    /// Reads the entry of `size` bytes at `address`; `None` outside RAM.
    pub(super) fn read(memory: &'m M, address: u64, size: usize) -> Option<Self> {
        let place = memory.get_slice(GuestAddress(address), size).ok()?;
        let value = load(&place)?;
        Some(Visited { place, value })
    }

    pub(super) fn value(&self) -> u64 {
        self.value
    }

    #[inline]
    fn is_unchanged(&self) -> bool {
        load(&self.place) == Some(self.value)
    }

    /// Ordering: compare-exchange with `AcqRel`, as a locked instruction of the hardware walker; it
    /// pairs with the guest's own locked updates and never resurrects an entry cleared meanwhile.
    fn set(&mut self, bits: Entry) -> Result<(), TranslationError> {
        let new = self.value | bits.bits();
        let swapped = if self.place.len() == SHORT_ENTRY {
            self.exchange(|cell: &AtomicU32| {
                cell.compare_exchange(self.value as u32, new as u32, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            })
        } else {
            self.exchange(|cell: &AtomicU64| {
                cell.compare_exchange(self.value, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            })
        };
        if !swapped {
            return Err(TranslationError::Raced);
        }
        self.value = new;
        Ok(())
    }

    /// An entry that was read is aligned, so that there is a cell.
    fn exchange<A: AtomicInteger>(&self, exchange: impl FnOnce(&A) -> bool) -> bool {
        self.place.get_atomic_ref(0).is_ok_and(exchange)
    }
}

/// Reads a table entry.
///
/// Ordering: Relaxed; the guest's own stores to its tables are ordered by the exit, and an entry
/// changed by another vCPU meanwhile is caught by the compare-exchange in [`Visited::set`].
#[inline]
fn load<B: BitmapSlice>(place: &VolatileSlice<'_, B>) -> Option<u64> {
    fn read<T: AtomicAccess>(place: &impl Bytes<usize>) -> Option<T> {
        place.load(0, Ordering::Relaxed).ok()
    }
    if place.len() == LONG_ENTRY { read::<u64>(place) } else { read::<u32>(place).map(u64::from) }
}

/// Most levels any format has.
const MAX_LEVELS: usize = 5;

/// The entries of a walk, the leaf last; none without paging.
pub struct Path<'m, M: GuestMemoryBackend> {
    entries: [Option<Visited<'m, M>>; MAX_LEVELS],
}

impl<M: GuestMemoryBackend> Default for Path<'_, M> {
    fn default() -> Self {
        Path { entries: [const { None }; MAX_LEVELS] }
    }
}

impl<'m, M: GuestMemoryBackend> Path<'m, M> {
    /// Adds the entry behind `depth` others.
    pub(super) fn put(&mut self, depth: usize, entry: Visited<'m, M>) {
        if let Some(slot) = self.entries.get_mut(depth) {
            *slot = Some(entry);
        }
    }

    /// Sets the accessed bits of the entries but the first `without`, and the dirty bit of the leaf if it is `written` to.
    pub(super) fn mark(&mut self, without: usize, written: bool) -> Result<(), TranslationError> {
        let mut entries = self.entries.iter_mut().flatten().skip(without).peekable();
        while let Some(entry) = entries.next() {
            let is_leaf = entries.peek().is_none();
            let bits = if is_leaf && written { Entry::ACCESSED | Entry::DIRTY } else { Entry::ACCESSED };
            if !Entry::from_bits_retain(entry.value).contains(bits) {
                entry.set(bits)?;
            }
        }
        Ok(())
    }

    /// Whether all entries still have the values that the walk left there.
    #[inline]
    pub fn is_unchanged(&self) -> bool {
        self.entries.iter().map_while(Option::as_ref).all(Visited::is_unchanged)
    }
}
