//! The UTCB of the running context, found from the stack pointer: the last page of its slot, or the first thread's.

use super::context::{SLOT_SIZE, SLOTS, slot_base};
use abi::message::CapItem;
use abi::utcb::{Utcb, offset};
use abi::{PAGE_SIZE, hip};

fn current() -> *mut Utcb {
    let sp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    if (slot_base(0)..slot_base(SLOTS)).contains(&sp) {
        ((sp | (SLOT_SIZE - 1)) - (PAGE_SIZE - 1)) as *mut Utcb
    } else {
        hip::ROOT_UTCB as *mut Utcb
    }
}

/// Reads the 64-bit word `index` of the page.
pub fn read(index: usize) -> u64 {
    // SAFETY: the page is mapped as long as the context runs. Volatile: the kernel writes it.
    unsafe { current().cast::<u64>().add(index % 512).read_volatile() }
}

/// Writes the 64-bit word `index` of the page.
pub fn write(index: usize, value: u64) {
    // SAFETY: as in `read`.
    unsafe { current().cast::<u64>().add(index % 512).write_volatile(value) }
}

/// Capability item `index`.
pub fn cap(index: usize) -> CapItem {
    let at = offset::CAPS / 8 + index * 3;
    CapItem { sel: read(at), info: read(at + 1), identity: read(at + 2) }
}

/// Sets capability item `index`.
pub fn set_cap(index: usize, item: CapItem) {
    let at = offset::CAPS / 8 + index * 3;
    write(at, item.sel);
    write(at + 1, item.info);
    write(at + 2, item.identity);
}

/// Sets the receive window.
pub fn set_window(base: u64, count: u64) {
    write(offset::WINDOW_BASE / 8, base);
    write(offset::WINDOW_COUNT / 8, count);
}
