//! Pages of the data part of the pool.

use super::{PAGE, Phys, direct};
use core::sync::atomic::Ordering::Relaxed;

/// Words of a page.
pub const WORDS: usize = (PAGE / 8) as usize;

/// A data page, or the first of a block of them: UTCB, register frame, table, control block, bitmap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Page(Phys);

impl Page {
    /// The page at `phys`, which the caller got from the pool.
    #[must_use]
    pub const fn at(phys: Phys) -> Self {
        Self(phys)
    }

    /// Physical address.
    #[must_use]
    pub const fn phys(self) -> Phys {
        self.0
    }

    /// Virtual address in the direct map.
    #[must_use]
    pub const fn virt(self) -> u64 {
        direct::virt(self.0)
    }

    /// Word `index` of the page.
    #[inline(always)]
    #[must_use]
    pub fn read(self, index: usize) -> u64 {
        debug_assert!(index < WORDS);
        direct::word(Phys(self.0.0 + index as u64 * 8)).load(Relaxed)
    }

    /// Sets word `index` of the page.
    #[inline(always)]
    pub fn write(self, index: usize, value: u64) {
        debug_assert!(index < WORDS);
        direct::word(Phys(self.0.0 + index as u64 * 8)).store(value, Relaxed);
    }

    /// Copies the first `words` words of `from` here.
    #[inline(always)]
    pub fn copy_from(self, from: Self, words: usize) {
        direct::copy(from.0, self.0, words);
    }

    /// Zeroes `pages` pages from here.
    pub fn zero(self, pages: usize) {
        direct::zero(self.0, pages * WORDS);
    }
}
