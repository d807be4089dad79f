//! Device registers of the kernel's own devices, mapped uncached in the kernel half of every address space.

use super::kernel_map;
use crate::mem::Phys;
use abi::status::Status;

/// A page of device registers.
#[derive(Clone, Copy, Debug)]
pub struct Window(u64);

impl Window {
    /// Maps the page that holds `phys`.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn map(phys: Phys) -> Result<Self, Status> {
        kernel_map::map_device(phys).map(Self)
    }

    /// A window mapped before, by its virtual address.
    pub const fn from_addr(addr: u64) -> Self {
        Self(addr)
    }

    /// Its virtual address.
    pub const fn addr(self) -> u64 {
        self.0
    }

    /// Reads the 32-bit register at byte `offset`.
    #[inline(always)]
    pub fn read(self, offset: u64) -> u32 {
        // SAFETY: the page is mapped for good (`map`); offsets are register numbers of the device, below 4096.
        unsafe { ((self.0 + offset) as *const u32).read_volatile() }
    }

    /// Writes the 32-bit register at byte `offset`.
    #[inline(always)]
    pub fn write(self, offset: u64, value: u32) {
        // SAFETY: as `read`; the devices are interrupt controllers, which do not access memory.
        unsafe { ((self.0 + offset) as *mut u32).write_volatile(value) };
    }
}
