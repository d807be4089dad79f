//! The kernel's half of every address space: its image with the rights of each section, the pool, and its devices.

use super::{physmem, x86};
use crate::kernel;
use crate::mem::{PAGE, Page, Phys, direct, pool, ptab};
use crate::space::mem::Paging;
use abi::cap::MemRights;
use abi::status::Status;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where the image is linked.
pub const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// First address of the device windows.
const DEVICES: u64 = 0xffff_ff00_0000_0000;

static NEXT_DEVICE: AtomicU64 = AtomicU64::new(DEVICES);

/// Format of what the kernel alone reaches.
type Kernel = Paging<false>;

/// Tables of the kernel come straight from the pool.
struct Pool;

impl ptab::Supply for Pool {
    fn alloc(&self) -> Result<Page, Status> {
        pool::alloc(0, 0).ok_or(Status::OutOfMemory)
    }

    fn free(&self, page: Page) {
        pool::free(page, 0);
    }
}

fn map(root: Page, virt: u64, phys: u64, len: u64, rights: MemRights) -> Result<(), Status> {
    let mut done = 0;
    while done < len {
        let level = ptab::leaf_level::<Kernel>(virt + done, phys + done, len - done);
        let to = Some((Phys(phys + done), rights));
        done += ptab::set::<Kernel>(root, virt + done, level, to, &Pool)?.len;
    }
    Ok(())
}

/// Builds the kernel's page table. `image` is where code, constants and data of the image begin, and where it ends (linker script).
///
/// # Errors
/// `OutOfMemory`.
pub fn build(image: [u64; 4], pool_base: Phys, pool_size: u64) -> Result<(), Status> {
    let root = ptab::Supply::alloc(&Pool)?;
    let [text, rodata, data, end] = image;
    let sections = [
        (text..rodata, MemRights::READ | MemRights::EXEC),
        (rodata..data, MemRights::READ),
        (data..end, MemRights::READ | MemRights::WRITE),
    ];
    for (section, rights) in sections {
        map(root, section.start, section.start - IMAGE_BASE, section.end - section.start, rights)?;
    }
    map(root, direct::BASE + pool_base.0, pool_base.0, pool_size, MemRights::READ | MemRights::WRITE)?;
    // The table for devices must exist before the first address space copies the kernel's entries.
    map(root, DEVICES, 0, PAGE, MemRights::READ)?;
    ptab::set::<Kernel>(root, DEVICES, 0, None, &Pool)?;
    kernel::set_page_table(root);
    Ok(())
}

/// Adds the one-to-one mapping of the page table in use to the kernel's, for the rest of boot. Address spaces copy the
/// upper half only, and [`drop_boot_mapping`] takes it away before user mode is entered.
pub fn keep_boot_mapping() {
    let boot = physmem::boot_entry();
    kernel::page_table().write(0, boot);
}

/// Ends the one-to-one mapping.
pub fn drop_boot_mapping() {
    kernel::page_table().write(0, 0);
}

/// Loads the kernel's page table on this CPU.
pub fn load() {
    x86::write_cr3(kernel::page_table().phys().0);
}

/// Maps a page of device registers; its virtual address.
///
/// # Errors
/// `OutOfMemory`.
pub fn map_device(phys: Phys) -> Result<u64, Status> {
    let virt = NEXT_DEVICE.fetch_add(PAGE, Relaxed);
    let rights = MemRights::READ | MemRights::WRITE | MemRights::UNCACHED;
    map(kernel::page_table(), virt, phys.0 & !(PAGE - 1), PAGE, rights)?;
    Ok(virt)
}
