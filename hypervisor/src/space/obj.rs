//! Object space: selectors to capabilities, a two-level table.

use crate::mem::object::{CapSlot, Header, Object, RawCap, Word};
use crate::mem::{Page, Phys, lock::Lock};
use abi::cap::{Perms, Sel};
use abi::status::Status;

/// Capability tables that the root refers to.
const TABLES: usize = (Sel::COUNT as usize) / CapSlot::PER_PAGE;

/// An object space.
#[derive(Default)]
#[repr(C, align(256))]
pub struct ObjSpace {
    header: Header,
    /// Serialises writers.
    lock: Lock,
    /// Physical address of the page of table addresses.
    root: Word,
}

impl ObjSpace {
    /// Sets up a fresh space.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn init(&self) -> Result<(), Status> {
        let page = self.pay()?.alloc(0)?;
        self.root.set(page.phys().0);
        Ok(())
    }

    fn pay(&self) -> Result<&'static crate::pd::Pd, Status> {
        self.owner().ok_or(Status::BadCapability)
    }

    fn root(&self) -> Page {
        Page::at(Phys(self.root.get()))
    }

    /// The slot of a selector, if its table exists.
    #[inline(always)]
    pub fn slot(&self, sel: Sel) -> Option<CapSlot> {
        if sel.0 >= Sel::COUNT {
            return None;
        }
        let table = self.root().read(sel.0 as usize / CapSlot::PER_PAGE);
        (table != 0)
            .then(|| CapSlot::new(Page::at(Phys(table)), sel.0 as usize % CapSlot::PER_PAGE))
    }

    /// The slot of a selector; its table is made if there is none.
    fn slot_or_make(&self, sel: Sel) -> Result<CapSlot, Status> {
        if let Some(slot) = self.slot(sel) {
            return Ok(slot);
        }
        if sel.0 >= Sel::COUNT {
            return Err(Status::BadParameter);
        }
        let table = self.pay()?.alloc(0)?;
        self.root()
            .write(sel.0 as usize / CapSlot::PER_PAGE, table.phys().0);
        Ok(CapSlot::new(table, sel.0 as usize % CapSlot::PER_PAGE))
    }

    /// The live object of type `T` at `sel`, with at least the permissions `need`.
    ///
    /// # Errors
    /// `BadCapability`.
    #[inline(always)]
    pub fn lookup<T: Object>(&self, sel: Sel, need: Perms) -> Result<&'static T, Status> {
        self.slot(sel)
            .and_then(|slot| slot.lookup(need))
            .ok_or(Status::BadCapability)
    }

    /// The capability at `sel`, if its object lives.
    pub fn load(&self, sel: Sel) -> Option<RawCap> {
        self.slot(sel)?.load()
    }

    /// Makes sure that `sel` can be written and is free, so that a creation cannot fail afterwards.
    ///
    /// # Errors
    /// `Busy` if a live capability is there, `BadParameter` beyond the last selector, `OutOfMemory`.
    pub fn prepare(&self, sel: Sel) -> Result<CapSlot, Status> {
        let _guard = self.lock.lock();
        let slot = self.slot_or_make(sel)?;
        if slot.load().is_some() {
            Err(Status::Busy)
        } else {
            Ok(slot)
        }
    }

    /// Replaces the capability at `sel`.
    ///
    /// # Errors
    /// `BadParameter` beyond the last selector, `OutOfMemory`.
    pub fn store(&self, sel: Sel, cap: Option<RawCap>) -> Result<(), Status> {
        let _guard = self.lock.lock();
        match cap {
            Some(cap) => self.slot_or_make(sel)?.store(cap),
            None if sel.0 >= Sel::COUNT => return Err(Status::BadParameter),
            None => {
                if let Some(slot) = self.slot(sel) {
                    slot.clear();
                }
            }
        }
        Ok(())
    }

    /// Frees the tables; the space is dead and nobody uses it any more.
    pub fn release(&self) {
        let Some(pd) = self.owner() else { return };
        for i in 0..TABLES {
            let table = self.root().read(i);
            if table != 0 {
                pd.free(Page::at(Phys(table)), 0);
            }
        }
        pd.free(self.root(), 0);
    }
}
