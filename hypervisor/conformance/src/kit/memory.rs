//! Physical memory for the checks, and where they map it.

use crate::kit::object::must;
use crate::sys::hypercall::invoke;
use crate::sys::memory;
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Sel, root};
use abi::hip::{Range, RangeKind};
use abi::hypercall::Delegate;
use abi::status::Status;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use runtime::sys::physical::information_page;

/// Bytes of a large page.
pub const LARGE: u64 = abi::LARGE_PAGE_SIZE;
/// Bytes reserved for the checks.
const RESERVE: u64 = 96 << 20;
/// Where pieces of the reserve are mapped in the root task: at their offset.
const WINDOW: u64 = 0x1_0000_0000;
/// Where checks may map what they like.
const TEST_AREA: u64 = 0x40_0000_0000;

/// Readable and writeable.
pub const RW: MemRights = MemRights::READ.union(MemRights::WRITE);
/// Readable and executable.
pub const RX: MemRights = MemRights::READ.union(MemRights::EXEC);

static BASE: AtomicU64 = AtomicU64::new(0);
static NEXT: AtomicU64 = AtomicU64::new(0);
static NEXT_AREA: AtomicU64 = AtomicU64::new(TEST_AREA);
static NEXT_CELL: AtomicU64 = AtomicU64::new(0);

fn ranges() -> &'static [Range] {
    let hip = information_page();
    hip.ranges.get(..hip.range_count as usize).unwrap_or(&[])
}

/// Ranges of a kind.
pub fn of_kind(kind: RangeKind) -> impl Iterator<Item = &'static Range> {
    ranges().iter().filter(move |range| range.kind == kind as u32)
}

fn is_free(base: u64, size: u64) -> bool {
    let inside = |r: &Range| base >= r.base && base + size <= r.base + r.size;
    let apart = |r: &Range| base + size <= r.base || base >= r.base + r.size;
    of_kind(RangeKind::Free).any(inside) && ranges().iter().filter(|r| r.kind != RangeKind::Free as u32).all(apart)
}

/// Reserves memory and maps the cells. False if there is not enough.
pub fn init() -> bool {
    let end = of_kind(RangeKind::Free).map(|r| r.base + r.size).max();
    let candidates = (0..end.unwrap_or(0) / LARGE).map(|i| i * LARGE);
    let Some(base) = candidates.filter(|&at| at >= LARGE).find(|&at| is_free(at, RESERVE)) else {
        return false;
    };
    BASE.store(base, Relaxed);
    NEXT.store(base, Relaxed);
    map(root::MEM, cells(), memory::CELLS_AT, memory::CELL_PAGES, RW);
    true
}

/// Physical address of the cells: they are the first thing in the reserve.
pub fn cells() -> u64 {
    if NEXT.load(Relaxed) == BASE.load(Relaxed) { pages(memory::CELL_PAGES) } else { BASE.load(Relaxed) }
}

/// Cells that were never used, zero: the index of the first.
pub fn fresh_cells(count: u64) -> u64 {
    let first = NEXT_CELL.fetch_add(count, Relaxed);
    (first..first + count).for_each(|i| memory::cell(i).store(0, Relaxed));
    first
}

/// So many pages of physical memory, for good.
pub fn pages(count: u64) -> u64 {
    NEXT.fetch_add(count * PAGE_SIZE, Relaxed)
}

/// A large page of physical memory, for good.
pub fn large_page() -> u64 {
    let at = NEXT.load(Relaxed).next_multiple_of(LARGE);
    NEXT.store(at + LARGE, Relaxed);
    at
}

/// Shows so many pages of physical memory in the root task; writeable, zeroed.
pub fn window(phys: u64, count: u64) -> u64 {
    let at = WINDOW + (phys - BASE.load(Relaxed));
    map(root::MEM, phys, at, count, RW);
    (0..count * PAGE_SIZE / 8).for_each(|i| memory::store(at + i * 8, 0));
    at
}

/// An address in each table that windows need.
pub fn windows() -> impl Iterator<Item = u64> {
    (WINDOW..WINDOW + RESERVE).step_by(LARGE as usize)
}

/// Shows memory that is not the checks' own: read-only, at an area of its own.
pub fn view(phys: u64, count: u64) -> u64 {
    let at = area() + phys % LARGE;
    map(root::MEM, phys, at, count, MemRights::READ);
    at
}

/// A gigabyte of addresses that nothing was ever mapped at.
pub fn area() -> u64 {
    NEXT_AREA.fetch_add(1 << 30, Relaxed)
}

/// One delegation of memory. Addresses in bytes; the number of pages done.
///
/// # Errors
/// What the kernel says.
pub fn delegate(from: Sel, to: Sel, src: u64, dst: u64, count: u64, rights: MemRights) -> Result<u64, Status> {
    let call = Delegate { from, to, src: src / PAGE_SIZE, dst: dst / PAGE_SIZE, count, rights: rights.bits() };
    invoke(call.encode()).map(|values| values[0])
}

/// Maps physical memory into a memory or guest space, all of it.
pub fn map(to: Sel, phys: u64, at: u64, count: u64, rights: MemRights) {
    transfer(root::PHYS, to, phys, at, count, rights);
}

/// Removes what is mapped, all of it.
pub fn unmap(to: Sel, at: u64, count: u64) {
    transfer(root::PHYS, to, 0, at, count, MemRights::empty());
}

/// Delegates all of a range.
pub fn transfer(from: Sel, to: Sel, src: u64, dst: u64, count: u64, rights: MemRights) {
    let mut done = 0;
    while done < count {
        let call = Delegate {
            from,
            to,
            src: src / PAGE_SIZE + done,
            dst: dst / PAGE_SIZE + done,
            count: count - done,
            rights: rights.bits(),
        };
        let step = must(call.encode())[0];
        if step == 0 {
            return;
        }
        done += step;
    }
}
