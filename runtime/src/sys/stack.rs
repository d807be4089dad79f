//! Slots of the stack area: each is the stack and the UTCB of one execution context.

use abi::PAGE_SIZE;
use abi::session::initial::{STACK_BASE, STACK_SLOT_SIZE, STACK_SLOTS};
use core::sync::atomic::{AtomicU64, Ordering};

/// Slots in use, one bit each.
static USED: [AtomicU64; (STACK_SLOTS / 64) as usize] = [const { AtomicU64::new(0) }; (STACK_SLOTS / 64) as usize];

/// A slot that nobody else uses. Its owner attaches memory at [`Slot::stack`] before something runs on it.
#[derive(PartialEq, Eq, Debug)]
pub struct Slot {
    index: u64,
}

impl Slot {
    /// Takes a free slot.
    #[must_use]
    pub fn allocate() -> Option<Self> {
        for (index, word) in (0..).zip(&USED) {
            let mut used = word.load(Ordering::Relaxed);
            while used != u64::MAX {
                let bit = used.trailing_ones();
                // A slot carries no data from owner to owner, so the order of other accesses does not matter.
                match word.compare_exchange_weak(used, used | 1 << bit, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        return Some(Self { index: index * 64 + u64::from(bit) });
                    }
                    Err(now) => used = now,
                }
            }
        }
        None
    }

    /// Address of the UTCB, just above the stack.
    #[must_use]
    pub const fn utcb(&self) -> u64 {
        STACK_BASE + (self.index + 1) * STACK_SLOT_SIZE - PAGE_SIZE
    }

    /// First address of a stack of `size` bytes, a multiple of the page size that leaves a guard page.
    #[must_use]
    pub const fn stack(&self, size: u64) -> u64 {
        self.utcb() - size
    }

    /// Stack pointer with which a function starts: as if it had been called.
    #[must_use]
    pub const fn stack_pointer(&self) -> u64 {
        self.utcb() - size_of::<u64>() as u64
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(word) = USED.get((self.index / 64) as usize) {
            word.fetch_and(!(1 << (self.index % 64)), Ordering::Relaxed);
        }
    }
}

/// Largest stack of a slot: all but the UTCB and one guard page.
pub const MAX_STACK: u64 = STACK_SLOT_SIZE - 2 * PAGE_SIZE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_distinct_and_come_back() {
        let slots: Vec<_> = (0..100).map(|_| Slot::allocate().unwrap()).collect();
        for (index, slot) in slots.iter().enumerate() {
            assert!(slots.iter().skip(index + 1).all(|other| other.utcb() != slot.utcb()));
            assert_eq!((slot.stack_pointer() + 8) % 16, 0, "alignment at function entry");
        }
        let first = slots[0].utcb();
        drop(slots);
        let again: Vec<_> = (0..100).map(|_| Slot::allocate().unwrap()).collect();
        assert!(again.iter().any(|slot| slot.utcb() == first));
    }
}
