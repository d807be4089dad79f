//! Which selectors of the object space are free.

use abi::cap::Sel;
use abi::session::initial;

use crate::sync::PausingMutex;

const WORD_BITS: usize = u64::BITS as usize;
const WORDS: usize = Sel::COUNT as usize / WORD_BITS;

/// The selectors of this component.
static SELECTORS: PausingMutex<Selectors<WORDS>> = PausingMutex::new(Selectors::new(initial::FREE.0 as usize));

/// Takes a free selector; `None` if the object space is full.
#[must_use]
pub fn allocate() -> Option<Sel> {
    allocate_block(1)
}

/// Takes `count` consecutive free selectors, aligned to the next power of two.
#[must_use]
pub fn allocate_block(count: usize) -> Option<Sel> {
    SELECTORS.lock().allocate(count)
}

/// Gives back a selector that holds no capability.
pub fn free(sel: Sel) {
    SELECTORS.lock().free(sel);
}

/// A bitmap of `64 * WORDS` selectors. Low ones are taken first: an object space takes kernel memory as far as it is used.
#[derive(Debug)]
pub struct Selectors<const WORDS: usize> {
    used: [u64; WORDS],
    /// Every selector in a word before this one is in use.
    first_with_room: usize,
}

impl<const WORDS: usize> Selectors<WORDS> {
    /// All from `first_free` on.
    #[must_use]
    pub const fn new(first_free: usize) -> Self {
        let mut used = [0; WORDS];
        let mut index = 0;
        while index < first_free && index < WORDS * WORD_BITS {
            used[index / WORD_BITS] |= 1 << (index % WORD_BITS);
            index += 1;
        }
        Self { used, first_with_room: 0 }
    }

    /// Takes `count` consecutive ones, aligned to the next power of two. `None` if there are none, and for 0.
    pub fn allocate(&mut self, count: usize) -> Option<Sel> {
        let align = count.checked_next_power_of_two().filter(|_| count > 0)?;
        while self.used.get(self.first_with_room).is_some_and(|word| *word == u64::MAX) {
            self.first_with_room += 1;
        }
        let first = (self.first_with_room * WORD_BITS).next_multiple_of(align);
        // A block with less alignment than a word may begin inside the first word with room.
        let first = if align < WORD_BITS { self.first_with_room * WORD_BITS } else { first };
        let mut candidate = first;
        while candidate + count <= WORDS * WORD_BITS {
            if (candidate..candidate + count).all(|sel| !self.is_used(sel)) {
                (candidate..candidate + count).for_each(|sel| self.set(sel, true));
                return Some(Sel(candidate as u64));
            }
            candidate += align;
        }
        None
    }

    /// Gives one back. Unknown ones are ignored.
    pub fn free(&mut self, sel: Sel) {
        let Some(index) = usize::try_from(sel.0).ok().filter(|index| *index < WORDS * WORD_BITS) else {
            return;
        };
        self.set(index, false);
        self.first_with_room = self.first_with_room.min(index / WORD_BITS);
    }

    fn is_used(&self, index: usize) -> bool {
        self.used.get(index / WORD_BITS).is_none_or(|word| word >> (index % WORD_BITS) & 1 != 0)
    }

    fn set(&mut self, index: usize, used: bool) {
        if let Some(word) = self.used.get_mut(index / WORD_BITS) {
            let bit = 1 << (index % WORD_BITS);
            *word = if used { *word | bit } else { *word & !bit };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn nothing_is_handed_out_twice(operations in prop::collection::vec((any::<bool>(), 1_usize..100, any::<usize>()), 0..200)) {
            const RESERVED: u64 = 70;
            let mut selectors = Selectors::<8>::new(RESERVED as usize);
            let mut used = BTreeSet::new();
            for (take, count, pick) in operations {
                if take {
                    if let Some(block) = selectors.allocate(count) {
                        prop_assert!(block.0.is_multiple_of(count.next_power_of_two() as u64));
                        prop_assert!(block.0 >= RESERVED && block.0 + count as u64 <= 8 * 64);
                        for sel in block.0..block.0 + count as u64 {
                            prop_assert!(used.insert(sel));
                        }
                    }
                } else if !used.is_empty() {
                    let victims: Vec<u64> = used.iter().copied().collect();
                    let victim = victims[pick % victims.len()];
                    used.remove(&victim);
                    selectors.free(Sel(victim));
                }
            }
        }
    }

    #[test]
    fn all_can_be_used_and_used_again() {
        let mut selectors = Selectors::<2>::new(0);
        for index in 0..128 {
            assert_eq!(selectors.allocate(1), Some(Sel(index)));
        }
        assert_eq!(selectors.allocate(1), None);
        assert_eq!(selectors.allocate(0), None);
        selectors.free(Sel(77));
        selectors.free(Sel::NONE);
        assert_eq!(selectors.allocate(1), Some(Sel(77)));
    }
}
