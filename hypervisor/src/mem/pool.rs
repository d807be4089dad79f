//! The pool of kernel memory, reserved at boot and divided for good into object slots and data pages.
//!
//! Accounts ([`crate::pd`]) are given quota for as many data pages as there are, and for a quarter of that in object
//! slots; both parts are large enough for all accounts together. So whoever stays inside its account never
//! finds the pool empty, whatever others do.

use super::buddy::{Buddy, Record};
use super::lock::Lock;
use super::object::SLOT;
use super::{PAGE, Page, Phys, direct};
use core::cell::UnsafeCell;
use core::sync::atomic::Ordering::Relaxed;

/// Object slots per data page of quota: slots are a quarter as much memory as data pages.
pub const SLOTS_PER_PAGE: u64 = PAGE / SLOT / 4;

struct Pool {
    buddy: Buddy<'static>,
    data: Phys,
    /// Virtual addresses: of the first free slot, 0 if there is none, and of those that were never used.
    free_slot: u64,
    fresh_slot: u64,
    slots_end: u64,
}

struct Global {
    lock: Lock,
    pool: UnsafeCell<Option<Pool>>,
}

// SAFETY: `pool` is accessed in `with` only, under the lock.
unsafe impl Sync for Global {}

static GLOBAL: Global = Global { lock: Lock::new(), pool: UnsafeCell::new(None) };

#[inline(always)]
fn with<R>(f: impl FnOnce(&mut Pool) -> Option<R>) -> Option<R> {
    let _guard = GLOBAL.lock.lock();
    // SAFETY: the lock is held, and `f` cannot call back into this module.
    unsafe { (*GLOBAL.pool.get()).as_mut() }.and_then(f)
}

/// Sets the pool up in `[base, base + size)`, page aligned. Returns the number of data pages: the quota to give out.
///
/// # Safety
/// The range is RAM, used by nobody else from now on, and mapped in the direct map of all address spaces to come.
pub unsafe fn init(base: Phys, size: u64) -> u64 {
    let pages = size / PAGE;
    let slot_pages = pages / 5 + 1;
    let record_pages = ((pages - slot_pages) * size_of::<Record>() as u64).div_ceil(PAGE);
    let data_pages = pages - slot_pages - record_pages;
    let records_at = base.offset(slot_pages * PAGE);
    Page::at(base).fill((slot_pages + record_pages) as usize, 0);
    let first = direct::virt(records_at) as *mut Record;
    // SAFETY: inside the range given, large enough for `data_pages` records, aligned, and ours for good. Zero is a valid record.
    let records = unsafe { core::slice::from_raw_parts_mut(first, data_pages as usize) };
    let pool = Pool {
        buddy: Buddy::new(records),
        data: records_at.offset(record_pages * PAGE),
        free_slot: 0,
        fresh_slot: direct::virt(base),
        slots_end: direct::virt(base.offset(slot_pages * PAGE)),
    };
    let _guard = GLOBAL.lock.lock();
    // SAFETY: the lock is held.
    unsafe { *GLOBAL.pool.get() = Some(pool) };
    data_pages
}

/// Takes a contiguous block of `2^order` data pages, with all words set to `value`; only page alignment is promised.
#[inline]
pub fn alloc(order: usize, value: u64) -> Option<Page> {
    let first = with(|pool| pool.buddy.alloc(order).map(|index| pool.data.offset(index as u64 * PAGE)))?;
    let page = Page::at(first);
    page.fill(1 << order, value);
    Some(page)
}

/// Returns a block.
pub fn free(page: Page, order: usize) {
    with(|pool| {
        pool.buddy.free(((page.phys().0 - pool.data.0) / PAGE) as usize, order);
        Some(())
    });
}

/// Takes an object slot, by its virtual address. It is zero but for [`FREE_LINK`].
#[inline(always)]
pub fn alloc_slot() -> Option<u64> {
    with(|pool| {
        let slot = pool.free_slot;
        if slot != 0 {
            pool.free_slot = direct::word_at(slot + FREE_LINK).load(Relaxed);
            return Some(slot);
        }
        let slot = pool.fresh_slot;
        if slot == pool.slots_end {
            return None;
        }
        pool.fresh_slot = slot + SLOT;
        Some(slot)
    })
}

/// Offset of the link between free slots: the second word, so that the first, the identity, stays 0.
pub const FREE_LINK: u64 = 8;

/// Returns an object slot that has been zeroed.
pub fn free_slot(slot: u64) {
    with(|pool| {
        direct::word_at(slot + FREE_LINK).store(pool.free_slot, Relaxed);
        pool.free_slot = slot;
        Some(())
    });
}
