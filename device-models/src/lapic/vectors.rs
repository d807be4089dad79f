//! A set of interrupt vectors: IRR, ISR or TMR.

/// 256 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VectorSet([u64; 4]);

impl VectorSet {
    pub(super) const EMPTY: Self = Self([0; 4]);

    #[inline]
    const fn word(vector: u8) -> usize {
        (vector >> 6) as usize
    }

    #[inline]
    const fn bit(vector: u8) -> u64 {
        1 << (vector & 63)
    }

    // A vector's word is at most 3: the indices below cannot be out of range.

    #[inline]
    pub(super) const fn insert(&mut self, vector: u8) {
        self.0[Self::word(vector)] |= Self::bit(vector);
    }

    #[inline]
    pub(super) const fn remove(&mut self, vector: u8) {
        self.0[Self::word(vector)] &= !Self::bit(vector);
    }

    #[inline]
    pub(super) const fn contains(&self, vector: u8) -> bool {
        self.0[Self::word(vector)] & Self::bit(vector) != 0
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        let [w0, w1, w2, w3] = self.0;
        w0 | w1 | w2 | w3 == 0
    }

    /// The highest vector, which is the most urgent.
    #[inline]
    pub(super) fn highest(&self) -> Option<u8> {
        let [w0, w1, w2, w3] = self.0;
        let (base, word) = if w3 != 0 {
            (192, w3)
        } else if w2 != 0 {
            (128, w2)
        } else if w1 != 0 {
            (64, w1)
        } else {
            (0, w0)
        };
        word.checked_ilog2().map(|bit| base + bit as u8)
    }

    /// Register `index` (0..=7) of the eight 32-bit registers that show the set.
    pub(super) fn register(&self, index: u16) -> u32 {
        let word = self.0.get(usize::from(index / 2)).copied().unwrap_or(0);
        (word >> (u32::from(index % 2) * 32)) as u32
    }
}
