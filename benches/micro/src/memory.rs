//! Memory that can be delegated: the image of this task cannot. One large page of RAM that nobody uses, seen through a
//! window of this task.

use crate::asm::hypercall;
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Sel, root};
use abi::hip::RangeKind;
use abi::hypercall::Delegate;
use abi::status::Status;
use runtime::sys::physical;

/// Pages of a large page.
pub const LARGE: u64 = 512;
/// Bytes of a large page.
const LARGE_SIZE: u64 = LARGE * PAGE_SIZE;
/// Number of the first page of the window.
pub const WINDOW: u64 = 0x5000_0000 / PAGE_SIZE;

/// Number of the first page of a physical large page that is free: the last one of the largest range.
pub fn large_page() -> Option<u64> {
    let information = physical::information_page();
    let ranges = information.ranges.get(..information.range_count as usize)?;
    let taken = |at: u64| {
        ranges.iter().any(|range| {
            range.kind != RangeKind::Free as u32
                && range.base < at + LARGE_SIZE
                && at < range.base.saturating_add(range.size)
        })
    };
    let free = ranges.iter().filter(|range| range.kind == RangeKind::Free as u32).max_by_key(|range| range.size)?;
    let end = (free.base + free.size) / LARGE_SIZE * LARGE_SIZE;
    (free.base.next_multiple_of(LARGE_SIZE)..end)
        .step_by(LARGE_SIZE as usize)
        .filter(|&at| !taken(at))
        .last()
        .map(|at| at / PAGE_SIZE)
}

/// Opens the window.
pub fn open() -> Result<(), Status> {
    let page = large_page().ok_or(Status::OutOfMemory)?;
    // Delegations from the window cannot have more rights than it.
    let rights = MemRights::READ | MemRights::WRITE | MemRights::EXEC;
    map(root::PHYS, page, root::MEM, WINDOW, LARGE, rights)
}

/// Maps pages of `from` in `to`.
pub fn map(from: Sel, src: u64, to: Sel, dst: u64, count: u64, rights: MemRights) -> Result<(), Status> {
    let delegate = Delegate { from, to, src, dst, count, rights: rights.bits() };
    hypercall(delegate.encode()).map(|_| ())
}
