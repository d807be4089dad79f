//! MSR space: which model-specific registers a vCPU reaches without exit. A bitmap in the format of SVM's MSR permission
//! map (APM vol. 2, 15.11): two bits per MSR, read and write; a set bit intercepts.

use crate::mem::object::{Header, Object, Word};
use crate::mem::{PAGE, Page, Phys, lock::Lock};
use abi::cap::MemRights;
use abi::status::Status;

/// Blocks of MSRs that the map covers, each of 8192 (APM vol. 2, 15.11, table 15-9).
const BLOCKS: [u64; 3] = [0x0000_0000, 0xc000_0000, 0xc001_0000];
const BLOCK_MSRS: u64 = 0x2000;
const BLOCK_BYTES: u64 = 0x800;
const ORDER: usize = 1;

/// MSRs whose state the kernel switches with the vCPU, so that giving them away harms nobody: FS, GS and KERNEL_GS base,
/// STAR, LSTAR, CSTAR, SFMASK, SYSENTER (APM vol. 2, 15.5.1: saved by VMSAVE).
const SWITCHED: [u64; 10] = [
    0x174,
    0x175,
    0x176,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0100,
    0xc000_0101,
    0xc000_0102,
];

/// An MSR space.
#[derive(Default)]
#[repr(C, align(256))]
pub struct MsrSpace {
    header: Header,
    lock: Lock,
    map: Word,
    /// 1: the space of all MSRs that may be given to a vCPU.
    all: Word,
}

impl MsrSpace {
    /// Sets up a fresh space that intercepts everything.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn init(&self) -> Result<(), Status> {
        let map = self.owner().ok_or(Status::BadCapability)?.alloc(ORDER)?;
        for page in [map, Page::at(map.phys().offset(PAGE))] {
            for i in 0..crate::mem::page::WORDS {
                page.write(i, u64::MAX);
            }
        }
        self.map.set(map.phys().0);
        Ok(())
    }

    /// Sets up the space of all MSRs that may be given away.
    pub fn init_all(&self) {
        self.all.set(1);
    }

    /// Physical address of the map.
    pub fn phys(&self) -> Phys {
        Phys(self.map.get())
    }

    /// Word and bit of an MSR's read bit; the write bit is the next.
    fn locate(msr: u64) -> Option<(u64, u32)> {
        let block = BLOCKS
            .iter()
            .position(|&base| msr >= base && msr < base + BLOCK_MSRS)?;
        let bit = (msr - BLOCKS[block]) * 2;
        Some((block as u64 * BLOCK_BYTES + bit / 64 * 8, (bit % 64) as u32))
    }

    /// Rights to `msr`.
    pub fn rights(&self, msr: u64) -> MemRights {
        if self.all.get() != 0 {
            let given = SWITCHED.contains(&msr);
            return if given {
                MemRights::READ | MemRights::WRITE
            } else {
                MemRights::empty()
            };
        }
        let Some((byte, bit)) = Self::locate(msr) else {
            return MemRights::empty();
        };
        let bits = self.page(byte).read(byte as usize % PAGE as usize / 8) >> bit;
        let mut rights = MemRights::empty();
        rights.set(MemRights::READ, bits & 1 == 0);
        rights.set(MemRights::WRITE, bits & 2 == 0);
        rights
    }

    /// Sets the rights to `msr`.
    ///
    /// # Errors
    /// `BadParameter` for an MSR that the map does not cover.
    pub fn set(&self, msr: u64, rights: MemRights) -> Result<(), Status> {
        let (byte, bit) = Self::locate(msr).ok_or(Status::BadParameter)?;
        let deny = u64::from(!rights.contains(MemRights::READ))
            | u64::from(!rights.contains(MemRights::WRITE)) << 1;
        let _guard = self.lock.lock();
        let (page, index) = (self.page(byte), byte as usize % PAGE as usize / 8);
        page.write(index, page.read(index) & !(3 << bit) | deny << bit);
        Ok(())
    }

    fn page(&self, byte: u64) -> Page {
        Page::at(self.phys().offset(byte & !(PAGE - 1)))
    }

    /// Frees the map.
    pub fn release(&self) {
        if let Some(pd) = self.owner().filter(|_| self.all.get() == 0) {
            pd.free(Page::at(self.phys()), ORDER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn two_bits_per_msr_in_three_blocks() {
        let pd = testing::pd(64);
        let space: &'static MsrSpace = pd.new_object().unwrap();
        space.init().unwrap();
        for msr in [0, 0x1fff, 0xc000_0080, 0xc001_1fff] {
            assert_eq!(space.rights(msr), MemRights::empty());
            space.set(msr, MemRights::READ).unwrap();
            assert_eq!(space.rights(msr), MemRights::READ);
        }
        // MSR 0xc000_0080 is bit pair 0x80 of the second block (APM vol. 2, 15.11).
        let word = Page::at(space.phys()).read((0x800 + 0x80 * 2 / 8) / 8);
        assert_eq!(word & 3, 2);
        assert_eq!(
            space.set(0x2000, MemRights::READ),
            Err(Status::BadParameter)
        );
    }
}
