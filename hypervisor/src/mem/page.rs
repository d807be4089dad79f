//! Pages of the data part of the pool.

use super::{PAGE, Phys, direct};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words of a page.
pub const WORDS: usize = (PAGE / 8) as usize;

/// A data page, or the first of a block of them: UTCB, register frame, table, control block, bitmap. Known by its virtual
/// address, because it is accessed more often than it is told to hardware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Page(u64);

impl Page {
    /// The page at `phys`, which the caller got from the pool.
    #[must_use]
    pub const fn at(phys: Phys) -> Self {
        Self(direct::virt(phys))
    }

    /// The page whose [virtual address](Self::virt) was kept.
    #[must_use]
    pub const fn at_virt(addr: u64) -> Self {
        Self(addr)
    }

    /// Physical address.
    #[must_use]
    pub const fn phys(self) -> Phys {
        direct::phys(self.0)
    }

    /// Virtual address in the direct map.
    #[must_use]
    pub const fn virt(self) -> u64 {
        self.0
    }

    /// Word `index` of the page.
    #[inline(always)]
    #[must_use]
    pub fn read(self, index: usize) -> u64 {
        debug_assert!(index < WORDS);
        direct::word_at(self.0 + index as u64 * 8).load(Relaxed)
    }

    /// Sets word `index` of the page.
    #[inline(always)]
    pub fn write(self, index: usize, value: u64) {
        debug_assert!(index < WORDS);
        direct::word_at(self.0 + index as u64 * 8).store(value, Relaxed);
    }

    /// Word `index` of the page, for read-modify-write operations.
    #[inline(always)]
    pub fn atomic(self, index: usize) -> &'static AtomicU64 {
        debug_assert!(index < WORDS);
        direct::word_at(self.0 + index as u64 * 8)
    }

    /// Copies the first `words` words of `from` here.
    #[inline(always)]
    pub fn copy_from(self, from: Self, words: usize) {
        direct::copy(from.0, self.0, words);
    }

    /// Sets all words of `pages` pages from here.
    pub fn fill(self, pages: usize, value: u64) {
        direct::fill(self.0, pages * WORDS, value);
    }
}
