//! The direct map: pool memory at a fixed distance from its physical address.

use super::Phys;
use core::sync::atomic::AtomicU64;
#[cfg(not(target_os = "none"))]
use core::sync::atomic::Ordering;

/// First virtual address of the direct map: the start of the upper canonical half.
pub const BASE: u64 = 0xffff_8000_0000_0000;

/// A 64-bit word of pool memory, by virtual address (8-byte aligned).
#[inline(always)]
pub fn word_at(at: u64) -> &'static AtomicU64 {
    debug_assert!(at.is_multiple_of(8));
    // SAFETY: the address is that of a page or slot, got from `virt`, or of the empty capability table, or lies inside one. Every Phys handled by this crate's data
    // structures lies in the pool (it comes from the pool's allocator or from a table that only holds such), which is mapped at this
    // address for good (module `mem`, fact 1). Any bit pattern is a valid AtomicU64.
    unsafe { &*(at as *const AtomicU64) }
}

/// Virtual address of a pool address. Host tests have no direct map; there the "physical" address of test memory is its virtual one.
#[inline(always)]
pub const fn virt(at: Phys) -> u64 {
    if cfg!(target_os = "none") { at.0 + BASE } else { at.0 }
}

/// Physical address of a virtual one inside the direct map.
#[inline(always)]
pub const fn phys(at: u64) -> Phys {
    if cfg!(target_os = "none") { Phys(at - BASE) } else { Phys(at) }
}

/// Sets `words` words from the virtual address `at`.
#[inline(always)]
pub fn fill(at: u64, words: usize, value: u64) {
    #[cfg(target_os = "none")]
    // SAFETY: as for `word_at`; the block was just allocated, so nobody else accesses it.
    unsafe {
        core::arch::asm!("rep stosq", inout("rcx") words => _, inout("rdi") at => _, in("rax") value,
            options(nostack, preserves_flags));
    }
    #[cfg(not(target_os = "none"))]
    for i in 0..words as u64 {
        word_at(at + i * 8).store(value, Ordering::Relaxed);
    }
}

/// Copies `words` words between virtual addresses in the pool that do not overlap.
#[inline(always)]
pub fn copy(from: u64, to: u64, words: usize) {
    #[cfg(target_os = "none")]
    // SAFETY: as for `word_at`; both are pages of message buffers, whose concurrent modification by user mode can
    // change what is copied but nothing else.
    unsafe {
        core::arch::asm!("rep movsq", inout("rcx") words => _, inout("rdi") to => _,
            inout("rsi") from => _, options(nostack, preserves_flags));
    }
    #[cfg(not(target_os = "none"))]
    for i in 0..words as u64 {
        let value = word_at(from + i * 8).load(Ordering::Relaxed);
        word_at(to + i * 8).store(value, Ordering::Relaxed);
    }
}
