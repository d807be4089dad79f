//! The program's own image, to run parts of it in other domains at the same addresses.

use crate::kit::memory::{self, map};
use crate::sys::memory::{load, load_byte, store_byte};
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Sel};
use abi::hip::RangeKind;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// ELF-64 (System V ABI, chapter 5): offsets in the file header and in program headers.
mod elf {
    pub const PROGRAM_HEADERS: u64 = 32;
    pub const HEADER_SIZE: u64 = 56;
    pub const COUNT_WORD: u64 = 56;
    pub const LOAD: u64 = 1;
    pub const EXEC: u64 = 1;
    pub const WRITE: u64 = 2;
    pub const OFFSET: u64 = 8;
    pub const ADDRESS: u64 = 16;
    pub const FILE_SIZE: u64 = 32;
    pub const MEMORY_SIZE: u64 = 40;
}

/// Where the file is mapped.
static VIEW: AtomicU64 = AtomicU64::new(0);

/// Maps the file, which is the first module.
pub fn view() {
    if let Some(module) = memory::of_kind(RangeKind::Module).next() {
        let at = memory::view(module.base, module.size.div_ceil(PAGE_SIZE));
        VIEW.store(at, Relaxed);
    }
}

/// Copies the image as the file has it into `space`.
pub fn map_copy(space: Sel) {
    let file = VIEW.load(Relaxed);
    let headers = file + load(file + elf::PROGRAM_HEADERS);
    for i in 0..load(file + elf::COUNT_WORD) & 0xffff {
        let header = headers + i * elf::HEADER_SIZE;
        if load(header) & 0xffff_ffff == elf::LOAD {
            map_segment(space, file, header);
        }
    }
}

fn map_segment(space: Sel, file: u64, header: u64) {
    let (address, size) = (load(header + elf::ADDRESS), load(header + elf::MEMORY_SIZE));
    let lead = address % PAGE_SIZE;
    let count = (lead + size).div_ceil(PAGE_SIZE);
    let phys = memory::pages(count);
    let window = memory::window(phys, count) + lead;
    let data = file + load(header + elf::OFFSET);
    for i in 0..load(header + elf::FILE_SIZE) {
        store_byte(window + i, load_byte(data + i));
    }
    let flags = load(header) >> 32;
    let mut rights = MemRights::READ;
    rights.set(MemRights::WRITE, flags & elf::WRITE != 0);
    rights.set(MemRights::EXEC, flags & elf::EXEC != 0);
    map(space, phys, address - lead, count, rights);
}
