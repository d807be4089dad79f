//! Guest space: guest-physical memory of a virtual machine. The format of its tables is what the CPUs have.

use super::{Mappings, mem::Host};
use crate::arch::virt::{self, Nested};
use crate::arch::vmx::ept::Ept;
use crate::mem::object::{Header, Object, Word};
use crate::mem::ptab::{self, Format, Mapping};
use crate::mem::{Page, Phys, lock::Lock};
use crate::pd::Pd;
use abi::cap::MemRights;
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;

/// A guest space.
#[derive(Default)]
#[repr(C, align(256))]
pub struct GuestSpace {
    header: Header,
    lock: Lock,
    root: Word,
    /// Counts changes after which no CPU may use an older translation.
    generation: Word,
}

impl GuestSpace {
    /// Guest-physical addresses below this can be mapped.
    pub const LIMIT: u64 = 1 << 47;

    /// Sets up a fresh space.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn init(&self) -> Result<(), Status> {
        let root = self.payer()?.alloc(0)?;
        self.root.set(root.virt());
        self.generation.set(1);
        Ok(())
    }

    /// Root of the nested page table.
    pub fn root(&self) -> Page {
        Page::at_virt(self.root.get())
    }

    /// Current generation: a vCPU that last ran with another one flushes its translations at entry.
    #[inline(always)]
    pub fn generation(&self) -> u64 {
        self.generation.observe()
    }

    /// Makes all vCPUs flush at their next entry.
    pub fn invalidate(&self) {
        self.generation.atomic().fetch_add(1, Relaxed);
    }

    /// Frees the tables, which `pd` pays for.
    pub fn release(&self, pd: &Pd) {
        match virt::nested() {
            Nested::Npt => ptab::destroy::<Host>(self.root(), ptab::ENTRIES, pd),
            Nested::Ept => ptab::destroy::<Ept>(self.root(), ptab::ENTRIES, pd),
        }
    }
}

impl Mappings for GuestSpace {
    fn walk(&self, addr: u64) -> Result<Mapping, u64> {
        match virt::nested() {
            Nested::Npt => ptab::walk::<Host>(self.root(), addr),
            Nested::Ept => ptab::walk::<Ept>(self.root(), addr),
        }
    }

    fn set(&self, addr: u64, level: u32, to: Option<(Phys, MemRights)>) -> Result<ptab::Done, Status> {
        let pd = self.payer()?;
        let _guard = self.lock.lock();
        match virt::nested() {
            Nested::Npt => ptab::set::<Host>(self.root(), addr, level, to, pd),
            Nested::Ept => {
                // The caller knows the largest leaf of page tables, which may be larger.
                let level = level.min(Ept::max_leaf());
                ptab::set::<Ept>(self.root(), addr, level, to, pd)
            }
        }
    }
}
