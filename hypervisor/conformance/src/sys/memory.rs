//! Memory by address: windows onto physical memory, and cells shared by all domains.

use core::sync::atomic::AtomicU64;

/// Where the cells are mapped in all domains.
pub const CELLS_AT: u64 = 0x3000_0000;
/// Pages of cells.
pub const CELL_PAGES: u64 = 64;

/// Cell `index`.
pub fn cell(index: u64) -> &'static AtomicU64 {
    let index = index % (CELL_PAGES * 512);
    // SAFETY: mapped writeable at the very start, in every domain that runs code of this program, and never removed.
    unsafe { &*((CELLS_AT + index * 8) as *const AtomicU64) }
}

/// Reads a word that is mapped, or whose fault is part of the check.
pub fn load(address: u64) -> u64 {
    // SAFETY: a fault is an event, and what is read is used as a number only. Not an atomic or reference: anything may be there.
    unsafe { (address as *const u64).read_volatile() }
}

/// Writes a word outside the image.
pub fn store(address: u64, value: u64) {
    // SAFETY: callers write to windows and test areas, which no Rust object lives in.
    unsafe { (address as *mut u64).write_volatile(value) }
}

/// Reads a byte.
pub fn load_byte(address: u64) -> u8 {
    // SAFETY: as `load`.
    unsafe { (address as *const u8).read_volatile() }
}

/// Writes a byte outside the image.
pub fn store_byte(address: u64, value: u8) {
    // SAFETY: as `store`.
    unsafe { (address as *mut u8).write_volatile(value) }
}

/// Calls code at an address: position-independent, without arguments, RAX is the result.
pub fn execute(address: u64) -> u64 {
    let result;
    // SAFETY: the caller has put code there that returns and changes RAX only; a fault is part of the check.
    unsafe { core::arch::asm!("call {}", in(reg) address, lateout("rax") result, clobber_abi("sysv64")) };
    result
}
