//! MSR space: which model-specific registers a vCPU reaches without exit. A bitmap in the format that the CPUs have; a set
//! bit intercepts.

use crate::arch::Msr;
use crate::arch::virt::{self, Nested};
use crate::mem::object::{Header, Object, Word};
use crate::mem::{Bitmap, Phys, lock::Lock};
use crate::pd::Pd;
use abi::cap::MemRights;
use abi::status::Status;

/// MSRs of a block.
const BLOCK_MSRS: u64 = 0x2000;
/// Pages of a map: SVM's has two.
const ORDER: usize = 1;

/// Numbers of the bits in the map that intercept reads and writes of `msr`.
fn bits(format: Nested, msr: u64) -> Option<(u64, u64)> {
    let find = |blocks: &[u64]| {
        let index = blocks.iter().position(|&first| msr >= first && msr < first + BLOCK_MSRS)?;
        Some((index as u64, msr - blocks.get(index)?))
    };
    match format {
        // APM vol. 2, 15.11: two bits per MSR, in three blocks.
        Nested::Npt => {
            let (block, offset) = find(&[0, 0xc000_0000, 0xc001_0000])?;
            let read = (block * BLOCK_MSRS + offset) * 2;
            Some((read, read + 1))
        }
        // SDM vol. 3, 25.6.9: two blocks for reads, then the same for writes.
        Nested::Ept => {
            let (block, offset) = find(&[0, 0xc000_0000])?;
            let read = block * BLOCK_MSRS + offset;
            Some((read, read + 2 * BLOCK_MSRS))
        }
    }
}

/// MSRs whose state the kernel switches with the vCPU, so that giving them away harms nobody: FS, GS and KERNEL_GS base,
/// STAR, LSTAR, CSTAR, SFMASK, SYSENTER (APM vol. 2, 15.5.1: saved by VMSAVE).
const SWITCHED: [Msr; 10] = [
    Msr::SysenterCs,
    Msr::SysenterEsp,
    Msr::SysenterEip,
    Msr::Star,
    Msr::Lstar,
    Msr::Cstar,
    Msr::Sfmask,
    Msr::FsBase,
    Msr::GsBase,
    Msr::KernelGsBase,
];

/// An MSR space.
#[derive(Default)]
#[repr(C, align(256))]
pub struct MsrSpace {
    header: Header,
    lock: Lock,
    map: Bitmap<ORDER>,
    /// 1: the space of all MSRs that may be given to a vCPU.
    all: Word,
}

impl MsrSpace {
    /// Sets up a fresh space that intercepts everything.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn init(&self) -> Result<(), Status> {
        self.map.init(self.payer()?)
    }

    /// Sets up the space of all MSRs that may be given away.
    pub fn init_all(&self) {
        self.all.set(1);
    }

    /// Physical address of the map.
    pub fn phys(&self) -> Phys {
        self.map.phys()
    }

    /// Rights to `msr`.
    pub fn rights(&self, msr: u64) -> MemRights {
        if self.all.get() != 0 {
            let given = SWITCHED.iter().any(|&switched| msr == switched as u64);
            return if given { MemRights::READ | MemRights::WRITE } else { MemRights::empty() };
        }
        let Some((read, write)) = bits(virt::nested(), msr) else {
            return MemRights::empty();
        };
        let mut rights = MemRights::empty();
        rights.set(MemRights::READ, !self.map.get(read));
        rights.set(MemRights::WRITE, !self.map.get(write));
        rights
    }

    /// Sets the rights to `msr`.
    ///
    /// # Errors
    /// `BadParameter` for an MSR that the map does not cover.
    pub fn set(&self, msr: u64, rights: MemRights) -> Result<(), Status> {
        let (read, write) = bits(virt::nested(), msr).ok_or(Status::BadParameter)?;
        let _guard = self.lock.lock();
        self.map.set(read, !rights.contains(MemRights::READ));
        self.map.set(write, !rights.contains(MemRights::WRITE));
        Ok(())
    }

    /// Frees the map, which `pd` pays for.
    pub fn release(&self, pd: &Pd) {
        self.map.release(pd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn rights_are_per_msr() {
        let pd = testing::pd(64);
        let space: &'static MsrSpace = pd.new_object().unwrap();
        space.init().unwrap();
        for msr in [0, 0x1fff, 0xc000_0080, 0xc001_1fff] {
            assert_eq!(space.rights(msr), MemRights::empty());
            space.set(msr, MemRights::READ).unwrap();
            assert_eq!(space.rights(msr), MemRights::READ);
        }
        assert_eq!(space.rights(0xc000_0081), MemRights::empty());
        assert_eq!(space.set(0x2000, MemRights::READ), Err(Status::BadParameter));
    }

    #[test]
    fn bits_are_where_the_manuals_have_them() {
        assert_eq!(bits(Nested::Npt, 0), Some((0, 1)));
        assert_eq!(bits(Nested::Npt, 0xc000_0080), Some((0x4100, 0x4101)));
        assert_eq!(bits(Nested::Npt, 0xc001_1fff), Some((0xbffe, 0xbfff)));
        // Bytes 0, 0x400, 0x800 and 0xc00 of the page.
        assert_eq!(bits(Nested::Ept, 0x174), Some((0x174, 0x4174)));
        assert_eq!(bits(Nested::Ept, 0xc000_0080), Some((0x2080, 0x6080)));
        assert_eq!(bits(Nested::Ept, 0xc001_0000), None);
        assert_eq!(bits(Nested::Ept, 0x2000), None);
    }
}
