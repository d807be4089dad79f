//! A set of interrupt vectors: IRR, ISR or TMR.

/// 256 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VectorSet {
    words: [u64; WORDS],
    /// A bit for each word that is not zero.
    used: u8,
}

const WORDS: usize = 4;
const WORD_SHIFT: u32 = u64::BITS.trailing_zeros();

impl VectorSet {
    pub(super) const EMPTY: Self = Self { words: [0; WORDS], used: 0 };

    #[inline]
    const fn word(vector: u8) -> usize {
        (vector >> WORD_SHIFT) as usize
    }

    #[inline]
    const fn bit(vector: u8) -> u64 {
        1 << (vector & 63)
    }

    // A vector's word is at most 3: the indices below cannot be out of range.

    #[inline]
    pub(super) const fn insert(&mut self, vector: u8) {
        self.words[Self::word(vector)] |= Self::bit(vector);
        self.used |= 1 << Self::word(vector);
    }

    #[inline]
    pub(super) const fn remove(&mut self, vector: u8) {
        let word = &mut self.words[Self::word(vector)];
        *word &= !Self::bit(vector);
        if *word == 0 {
            self.used &= !(1 << Self::word(vector));
        }
    }

    #[inline]
    pub(super) const fn contains(&self, vector: u8) -> bool {
        self.words[Self::word(vector)] & Self::bit(vector) != 0
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The highest vector, which is the most urgent.
    #[inline]
    pub(super) fn highest(&self) -> Option<u8> {
        let word = self.used.checked_ilog2()? as u8;
        let bit = self.words.get(usize::from(word))?.checked_ilog2()? as u8;
        Some(word << WORD_SHIFT | bit)
    }

    /// Register `index` (0..=7) of the eight 32-bit registers that show the set.
    pub(super) fn register(&self, index: u16) -> u32 {
        let word = self.words.get(usize::from(index / 2)).copied().unwrap_or(0);
        (word >> (u32::from(index % 2) * 32)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((any::<bool>(), prop_oneof![any::<u8>(), 60u8..68]), 0..100)) {
            let (mut set, mut model) = (VectorSet::EMPTY, BTreeSet::new());
            for (insert, vector) in steps {
                if insert {
                    set.insert(vector);
                    model.insert(vector);
                } else {
                    set.remove(vector);
                    model.remove(&vector);
                }
                prop_assert_eq!(set.highest(), model.last().copied());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert!((0..=u8::MAX).all(|vector| set.contains(vector) == model.contains(&vector)));
            }
        }
    }
}
