//! Port space: which I/O ports can be accessed without the kernel. A bitmap in the format of the TSS (SDM vol. 1, 19.5.2)
//! and of SVM's I/O permission map (APM vol. 2, 15.10.1): a set bit forbids.

use crate::mem::object::{Header, Object, Word};
use crate::mem::{Bitmap, Phys, lock::Lock};
use crate::pd::Pd;
use abi::status::Status;

/// Number of ports.
pub const PORTS: u64 = 1 << 16;
/// Words of the bitmap.
pub const WORDS: usize = (PORTS / 64) as usize;
/// Pages of the block: SVM's map has a third page, of which 3 bits count; blocks are powers of two.
const ORDER: usize = 2;

/// A port space.
#[derive(Default)]
#[repr(C, align(256))]
pub struct PioSpace {
    header: Header,
    lock: Lock,
    map: Bitmap<ORDER>,
    /// Words of the bitmap that are not all ones lie in `low..high`, so that only these are loaded into a TSS.
    low: Word,
    high: Word,
    /// 1: the space of all ports.
    all: Word,
}

impl PioSpace {
    /// Sets up a fresh space without any port.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn init(&self) -> Result<(), Status> {
        self.map.init(self.payer()?)?;
        self.low.set(WORDS as u64);
        Ok(())
    }

    /// Sets up the space of all ports.
    pub fn init_all(&self) {
        self.all.set(1);
    }

    /// Physical address of the bitmap.
    pub fn phys(&self) -> Phys {
        self.map.phys()
    }

    /// Whether `port` may be accessed.
    pub fn allows(&self, port: u64) -> bool {
        self.all.get() != 0 || port < PORTS && !self.map.get(port)
    }

    /// Permits or forbids `port`, which is below [`PORTS`].
    pub fn set(&self, port: u64, allow: bool) {
        let _guard = self.lock.lock();
        self.map.set(port, !allow);
        if allow {
            self.low.set(self.low.get().min(port / 64));
            self.high.set(self.high.get().max(port / 64 + 1));
        }
    }

    /// Words of the bitmap that may differ from all ones.
    pub fn range(&self) -> core::ops::Range<usize> {
        self.low.get() as usize..self.high.get() as usize
    }

    /// Word of the bitmap.
    pub fn word(&self, index: usize) -> u64 {
        self.map.word(index)
    }

    /// Frees the bitmap, which `pd` pays for.
    pub fn release(&self, pd: &Pd) {
        self.map.release(pd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn starts_closed_and_tracks_the_open_range() {
        let pd = testing::pd(64);
        let space: &'static PioSpace = pd.new_object().unwrap();
        space.init().unwrap();
        assert!((0..PORTS).all(|port| !space.allows(port)));
        assert!(space.range().is_empty());
        space.set(0x3f8, true);
        space.set(0xffff, true);
        space.set(0x3f8, false);
        assert!(!space.allows(0x3f8) && space.allows(0xffff) && !space.allows(PORTS));
        assert_eq!(space.range(), 0x3f8 / 64..WORDS);
    }
}
