//! Physical memory, for core: it alone holds the space of it. In any other component everything here fails, because the
//! selectors name other things there.
//!
//! Which memory is whose is known to core's allocator, so that is what the safety of these functions rests on: core passes
//! only memory that is free or that it has just taken.

use core::sync::atomic::{AtomicU64, Ordering::Acquire};

use abi::cap::{MemRights, root};
use abi::hip::{self, Hip};
use abi::hypercall::Delegate;
use abi::journal;
use abi::session::initial;
use abi::status::Status;
use abi::{LARGE_PAGE_SIZE, PAGE_SIZE};

use super::stack::Slot;
use super::syscall;
use crate::heap::FreshMemory;
use crate::sync::Mutex;

/// Bytes that are seen through a window at a time.
const VIEW: u64 = 64 << 20;
/// The windows: a view fits into each, and the alignment of what is seen, which lets the kernel use large pages.
const WINDOWS: [u64; 2] = [initial::ATTACH_BASE, initial::ATTACH_BASE + VIEW + LARGE_PAGE_SIZE];
/// Where core's heap is mapped.
const HEAP_BASE: u64 = initial::ATTACH_BASE + (1 << 32);

/// Held while a window is in use.
static IN_USE: Mutex<()> = Mutex::new(());
/// Where the next piece of heap is mapped.
static NEXT_HEAP: Mutex<u64> = Mutex::new(HEAP_BASE);

/// The hypervisor information page.
#[must_use]
pub fn information_page() -> &'static Hip {
    // SAFETY: the kernel has mapped the page there for the root task, read-only and for good. Any bit pattern is a
    // `Hip`. Elsewhere nothing is ever mapped there, so that a component which comes here faults.
    unsafe { &*(hip::ADDRESS as *const Hip) }
}

/// A word of the [journal], for its reader; 0 beyond its end.
#[must_use]
pub fn journal_word(index: usize) -> u64 {
    if index >= PAGE_SIZE as usize / 8 {
        return 0;
    }
    // SAFETY: as above; the kernel writes whole words. Ordering: Acquire, see `write` in the hypervisor's journal.
    unsafe { (*(journal::ADDRESS as *const AtomicU64).add(index)).load(Acquire) }
}

/// Maps page-aligned physical memory of core's at `at`.
fn map(base: u64, size: u64, at: u64, rights: MemRights) -> Result<(), Status> {
    let (mut src, mut dst, mut count) = (base / PAGE_SIZE, at / PAGE_SIZE, size / PAGE_SIZE);
    while count > 0 {
        let delegate = Delegate { from: root::PHYS, to: root::MEM, src, dst, count, rights: rights.bits() };
        let done = syscall::delegate(delegate)?.min(count);
        if done == 0 {
            return Err(Status::BadParameter);
        }
        (src, dst, count) = (src + done, dst + done, count - done);
    }
    Ok(())
}

/// A view of physical memory through a window, until dropped.
struct View {
    first: u64,
    size: u64,
    at: u64,
}

impl View {
    /// As much as can be seen at once of `size` bytes from `base` on.
    fn open(window: usize, base: u64, size: u64, rights: MemRights) -> Result<Self, Status> {
        // It ends at a large page, so that the next one begins there.
        let size = size.min(VIEW - base % LARGE_PAGE_SIZE);
        let first = base - base % PAGE_SIZE;
        let end = base.checked_add(size).and_then(|end| end.checked_next_multiple_of(PAGE_SIZE));
        let pages = end.ok_or(Status::BadParameter)? - first;
        let window = WINDOWS.get(window).copied().ok_or(Status::BadParameter)?;
        let at = window + first % LARGE_PAGE_SIZE;
        // On an error a part may be mapped, which the view's end removes.
        let view = Self { first: at, size: pages, at: at + base % PAGE_SIZE };
        map(first, pages, at, rights)?;
        Ok(view)
    }

    /// Bytes that can be used.
    fn usable(&self) -> u64 {
        self.size - (self.at - self.first)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // Removal needs no memory, so it succeeds.
        let _removed = map(0, self.size, self.first, MemRights::empty());
    }
}

/// Calls `step` with the offset and size of each part of `size` bytes that fits into a view.
fn in_views(size: u64, mut step: impl FnMut(u64, u64) -> Result<u64, Status>) -> Result<(), Status> {
    let mut offset = 0;
    while offset < size {
        offset += step(offset, size - offset)?.max(1);
    }
    Ok(())
}

/// Fills physical memory with zeros.
///
/// # Errors
/// It is not core's, or core's account cannot pay for page tables.
pub fn zero(base: u64, size: u64) -> Result<(), Status> {
    let _in_use = IN_USE.lock();
    in_views(size, |offset, rest| {
        let view = View::open(0, base + offset, rest, MemRights::READ | MemRights::WRITE)?;
        let step = view.usable().min(rest);
        // SAFETY: the view is mapped writeable and nobody else uses the window; the memory is core's to overwrite.
        unsafe { core::ptr::write_bytes(view.at as *mut u8, 0, step as usize) };
        Ok(step)
    })
}

/// Copies physical memory. The two pieces do not overlap.
///
/// # Errors
/// As [`zero`].
pub fn copy(from: u64, to: u64, size: u64) -> Result<(), Status> {
    let _in_use = IN_USE.lock();
    in_views(size, |offset, rest| {
        let source = View::open(0, from + offset, rest, MemRights::READ)?;
        let target = View::open(1, to + offset, rest, MemRights::READ | MemRights::WRITE)?;
        let step = source.usable().min(target.usable()).min(rest);
        // SAFETY: both views are mapped and distinct, nobody else uses the windows, the source is not written by
        // anybody and the target is core's to overwrite.
        unsafe { core::ptr::copy_nonoverlapping(source.at as *const u8, target.at as *mut u8, step as usize) };
        Ok(step)
    })
}

/// Reads physical memory, byte by byte, which others may be writing.
///
/// # Errors
/// As [`zero`].
pub fn read(base: u64, into: &mut [u8]) -> Result<(), Status> {
    let _in_use = IN_USE.lock();
    let size = into.len() as u64;
    in_views(size, |offset, rest| {
        let view = View::open(0, base.checked_add(offset).ok_or(Status::BadParameter)?, rest, MemRights::READ)?;
        let step = view.usable().min(rest);
        let part = into.iter_mut().skip(offset as usize).take(step as usize);
        for (address, byte) in (view.at..).zip(part) {
            // SAFETY: inside the view, which is mapped. Volatile: firmware tables and device memory are nobody's.
            *byte = unsafe { (address as *const u8).read_volatile() };
        }
        Ok(step)
    })
}

/// Maps memory that nobody else will use for the heap.
pub fn heap_memory(base: u64, size: u64) -> Option<FreshMemory> {
    let mut next = NEXT_HEAP.lock();
    let at = *next + base % LARGE_PAGE_SIZE;
    map(base, size, at, MemRights::READ | MemRights::WRITE).ok()?;
    *next = (at + size).next_multiple_of(LARGE_PAGE_SIZE);
    // SAFETY: just mapped, writeable, and nobody's.
    unsafe { core::ptr::write_bytes(at as *mut u8, 0, size as usize) };
    Some(FreshMemory::mapped(at, size as usize))
}

/// Gives a slot memory that nobody else will use for its stack.
///
/// # Errors
/// It is not core's, or core's account cannot pay for page tables.
pub fn stack_memory(slot: &Slot, base: u64, size: u64) -> Result<(), Status> {
    map(base, size, slot.stack(size), MemRights::READ | MemRights::WRITE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn without_the_space_of_physical_memory_everything_fails() {
        assert!(zero(0x1000, 0x1000).is_err());
        assert!(copy(0x1000, 0x2000, 0x1000).is_err());
        assert!(read(u64::MAX, &mut [0; 8]).is_err());
        assert!(heap_memory(0x20_0000, 0x1000).is_none());
    }

    #[test]
    fn parts_cover_everything_once() {
        let mut parts = Vec::new();
        let all = in_views(10, |offset, rest| {
            parts.push((offset, rest));
            Ok(4)
        });
        assert_eq!((all, parts), (Ok(()), std::vec![(0, 10), (4, 6), (8, 2)]));
    }
}
