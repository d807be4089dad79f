//! Physical memory as the boot code sees it: mapped one to one below 4 GiB, until the kernel's own page table is loaded.

use crate::mem::{Page, Phys};

/// End of what the boot page table maps.
pub const LIMIT: u64 = 1 << 32;

/// Bytes of firmware or loader data.
pub fn bytes(at: Phys, len: u64) -> Option<&'static [u8]> {
    let end = at.0.checked_add(len)?;
    if at.0 == 0 || end > LIMIT {
        return None;
    }
    // SAFETY: mapped one to one during boot, when only this CPU runs and nothing writes to what loader and firmware
    // left; callers do not keep the slice beyond boot.
    Some(unsafe { core::slice::from_raw_parts(at.0 as *const u8, len as usize) })
}

/// Copies `data` to physical memory and zeroes up to `len` bytes. The range is free RAM that the caller has reserved.
pub fn fill(at: Phys, data: &[u8], len: u64) {
    if at.offset(len).0 > LIMIT || data.len() as u64 > len {
        return;
    }
    // SAFETY: as `bytes`; the range is the caller's own.
    unsafe {
        let target = at.0 as *mut u8;
        core::ptr::copy_nonoverlapping(data.as_ptr(), target, data.len());
        core::ptr::write_bytes(target.add(data.len()), 0, len as usize - data.len());
    }
}

/// Writes a structure to the start of a pool page.
pub fn store<T: Copy>(page: Page, value: &T) {
    debug_assert!(size_of::<T>() <= 4096);
    // SAFETY: the page is in the direct map and the caller's own; T fits.
    unsafe { (page.virt() as *mut T).write(*value) };
}

/// First entry of the page table in use: the boot page table's one-to-one mapping.
pub fn boot_entry() -> u64 {
    let root: u64;
    // SAFETY: the boot page table lies in memory that it maps one to one.
    unsafe {
        core::arch::asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags));
        (root as *const u64).read()
    }
}
