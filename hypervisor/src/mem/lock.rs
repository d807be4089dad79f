//! Spin lock, inside an object or on its own. Locks are held for a bounded number of instructions with interrupts off; lock
//! order: PD, space, pool; semaphore, its receiver; choice of vectors, I/O APICs. No other is taken with the journal's or the log's.

use core::sync::atomic::{AtomicU64, Ordering};

/// A lock word; zero is free, so a zeroed object has a free lock.
#[repr(transparent)]
#[derive(Default)]
pub struct Lock(AtomicU64);

/// Holding it is holding the lock.
pub struct Guard<'a>(&'a Lock);

impl Lock {
    /// A free lock.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Spins until the lock is ours.
    #[inline(always)]
    pub fn lock(&self) -> Guard<'_> {
        // Ordering: Acquire pairs with the Release in `Guard::drop` of the last holder.
        while self.0.swap(1, Ordering::Acquire) != 0 {
            while self.0.load(Ordering::Relaxed) != 0 {
                core::hint::spin_loop();
            }
        }
        Guard(self)
    }
}

impl Drop for Guard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Ordering: Release pairs with the Acquire in `lock` of the next holder.
        self.0.0.store(0, Ordering::Release);
    }
}
