//! Host memory space: the page table of a protection domain's threads. Its upper half is the kernel's, the same
//! in all of them.

use super::Mappings;
use crate::kernel;
use crate::mem::object::{Header, Object, Word};
use crate::mem::ptab::{self, Format, Mapping};
use crate::mem::{PAGE, Page, Phys, lock::Lock};
use crate::pd::Pd;
use abi::cap::MemRights;
use abi::status::Status;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Entries of the root that belong to user space.
const USER_ENTRIES: usize = ptab::ENTRIES / 2;

/// Format of x86-64 page tables (SDM vol. 3, 4.5), whose translations are for user mode too or for the kernel alone. Nested tables of
/// SVM have the same: for them all accesses of a guest are those of a user (APM vol. 2, 15.25.5).
pub struct Paging<const USER: bool>;

/// Format of what user mode and guests reach.
pub type Host = Paging<true>;

/// Beside the rights of a mapping: its page is the kernel's, so the mapping cannot be passed on.
pub const KERNEL: MemRights = MemRights::from_bits_retain(1 << 31);

/// Bits of an entry.
mod bit {
    pub const PRESENT: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    /// Selects PAT entry 1, write-combining in the PAT that `arch` sets up.
    pub const PWT: u64 = 1 << 3;
    /// With PWT selects PAT entry 3: uncached.
    pub const PCD: u64 = 1 << 4;
    pub const ACCESSED: u64 = 1 << 5;
    pub const DIRTY: u64 = 1 << 6;
    /// Available to software: [`KERNEL`](super::KERNEL).
    pub const SOFTWARE: u64 = 1 << 9;
    pub const NX: u64 = 1 << 63;
}

/// Whether the CPUs have 1 GiB pages (CPUID 8000_0001 EDX bit 26).
static GIGABYTE_PAGES: AtomicU64 = AtomicU64::new(0);

/// Enables 1 GiB leaves, once at boot.
pub fn enable_gigabyte_pages() {
    GIGABYTE_PAGES.store(1, Relaxed);
}

impl<const USER: bool> Paging<USER> {
    /// What all entries have.
    const ALL: u64 = bit::PRESENT | bit::ACCESSED | if USER { bit::USER } else { 0 };
}

impl<const USER: bool> Format for Paging<USER> {
    fn max_leaf() -> u32 {
        1 + GIGABYTE_PAGES.load(Relaxed) as u32
    }

    fn table(table: Phys) -> u64 {
        table.0 | Self::ALL | bit::WRITE
    }

    fn leaf(phys: Phys, rights: MemRights, level: u32) -> u64 {
        let mut entry = phys.0 | Self::ALL;
        if rights.contains(MemRights::WRITE) {
            entry |= bit::WRITE | bit::DIRTY;
        }
        if !rights.contains(MemRights::EXEC) {
            entry |= bit::NX;
        }
        if rights.contains(MemRights::UNCACHED) {
            entry |= bit::PCD | bit::PWT;
        } else if rights.contains(MemRights::WRITE_COMBINED) {
            entry |= bit::PWT;
        }
        if rights.contains(KERNEL) {
            entry |= bit::SOFTWARE;
        }
        if level > 0 { entry | ptab::LARGE } else { entry }
    }

    fn is_present(entry: u64) -> bool {
        entry & bit::PRESENT != 0
    }

    fn rights(entry: u64) -> MemRights {
        let mut rights = MemRights::READ;
        rights.set(MemRights::WRITE, entry & bit::WRITE != 0);
        rights.set(MemRights::EXEC, entry & bit::NX == 0);
        rights.set(KERNEL, entry & bit::SOFTWARE != 0);
        let uncached = entry & bit::PCD != 0;
        rights.set(MemRights::UNCACHED, uncached);
        rights.set(MemRights::WRITE_COMBINED, !uncached && entry & bit::PWT != 0);
        rights
    }
}

/// A host memory space.
#[derive(Default)]
#[repr(C, align(256))]
pub struct MemSpace {
    header: Header,
    lock: Lock,
    root: Word,
    /// 1: no table, but all physical memory that may be mapped at all. The source of every mapping.
    physical: Word,
}

impl MemSpace {
    /// Sets up a fresh space whose upper half is the kernel's.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn init(&self) -> Result<(), Status> {
        let (root, kernel) = (self.payer()?.alloc(0)?, kernel::page_table());
        for i in USER_ENTRIES..ptab::ENTRIES {
            root.write(i, kernel.read(i));
        }
        self.root.set(root.virt());
        Ok(())
    }

    /// Sets up the space of all physical memory.
    pub fn init_physical(&self) {
        self.physical.set(1);
    }

    /// Whether this is the space of all physical memory.
    pub fn is_physical(&self) -> bool {
        self.physical.get() != 0
    }

    /// Root of the page table.
    pub fn root(&self) -> Page {
        Page::at_virt(self.root.get())
    }

    /// Maps a page that the kernel owns (a UTCB) where nothing is mapped.
    ///
    /// # Errors
    /// `BadParameter` for an address that is not a page of user space, `Busy` if something is mapped there,
    /// `OutOfMemory`.
    pub fn map_kernel_page(&self, addr: u64, page: Page) -> Result<(), Status> {
        if !addr.is_multiple_of(PAGE) || addr >= abi::USER_TOP {
            return Err(Status::BadParameter);
        }
        if self.walk(addr).is_ok() {
            return Err(Status::Busy);
        }
        self.set(addr, 0, Some((page.phys(), MemRights::READ | MemRights::WRITE | KERNEL))).map(|_| ())
    }

    /// Frees the tables, which `pd` pays for; the space is dead and no CPU uses it any more.
    pub fn release(&self, pd: &Pd) {
        if !self.is_physical() {
            ptab::destroy::<Host>(self.root(), USER_ENTRIES, pd);
        }
    }
}

impl Mappings for MemSpace {
    fn walk(&self, addr: u64) -> Result<Mapping, u64> {
        ptab::walk::<Host>(self.root(), addr)
    }

    #[inline(always)]
    fn set(&self, addr: u64, level: u32, to: Option<(Phys, MemRights)>) -> Result<ptab::Done, Status> {
        let pd = self.payer()?;
        let _guard = self.lock.lock();
        ptab::set::<Host>(self.root(), addr, level, to, pd)
    }
}
