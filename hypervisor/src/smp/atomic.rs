//! The operations on shared words that the protocols between CPUs need, so that a model checker's words can stand in for
//! the processor's.

use core::sync::atomic::{AtomicU64, Ordering};

/// A word that CPUs share.
#[allow(missing_docs, reason = "the names are those of the standard library's atomics")]
pub trait Atomic {
    fn load(&self, ordering: Ordering) -> u64;
    fn swap(&self, value: u64, ordering: Ordering) -> u64;
    fn store(&self, value: u64, ordering: Ordering);
    fn fetch_or(&self, bits: u64, ordering: Ordering) -> u64;
    fn fetch_sub(&self, value: u64, ordering: Ordering) -> u64;
    /// Whether the word was `old` and is now `new`; with Relaxed if not.
    fn replace(&self, old: u64, new: u64, ordering: Ordering) -> bool;
}

macro_rules! atomic {
    ($word:ty) => {
        impl Atomic for $word {
            #[inline(always)]
            fn load(&self, ordering: Ordering) -> u64 {
                self.load(ordering)
            }

            #[inline(always)]
            fn swap(&self, value: u64, ordering: Ordering) -> u64 {
                self.swap(value, ordering)
            }

            #[inline(always)]
            fn store(&self, value: u64, ordering: Ordering) {
                self.store(value, ordering);
            }

            #[inline(always)]
            fn fetch_or(&self, bits: u64, ordering: Ordering) -> u64 {
                self.fetch_or(bits, ordering)
            }

            #[inline(always)]
            fn fetch_sub(&self, value: u64, ordering: Ordering) -> u64 {
                self.fetch_sub(value, ordering)
            }

            #[inline(always)]
            fn replace(&self, old: u64, new: u64, ordering: Ordering) -> bool {
                self.compare_exchange(old, new, ordering, Ordering::Relaxed).is_ok()
            }
        }
    };
}

atomic!(AtomicU64);
#[cfg(test)]
atomic!(loom::sync::atomic::AtomicU64);
