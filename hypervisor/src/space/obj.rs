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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::object::retire;
    use crate::sm::Sm;
    use crate::{pd::Pd, testing};

    fn space(pd: &'static Pd) -> &'static ObjSpace {
        let space: &'static ObjSpace = pd.new_object().unwrap();
        space.init().unwrap();
        space
    }

    fn semaphore(pd: &'static Pd) -> &'static Sm {
        let sm: &'static Sm = pd.new_object().unwrap();
        pd.adopt(sm);
        sm
    }

    #[test]
    fn a_lookup_needs_type_and_permissions() {
        let pd = testing::pd(64);
        let (space, sm) = (space(pd), semaphore(pd));
        space
            .prepare(Sel(300))
            .unwrap()
            .store_object(sm, Perms::SM_UP);
        assert!(space.lookup::<Sm>(Sel(300), Perms::SM_UP).is_ok());
        assert!(space.lookup::<Sm>(Sel(300), Perms::SM_DOWN).is_err());
        assert!(space.lookup::<Pd>(Sel(300), Perms::empty()).is_err());
        for sel in [Sel(299), Sel(0), Sel(Sel::COUNT), Sel::NONE] {
            assert!(space.lookup::<Sm>(sel, Perms::empty()).is_err());
        }
        assert_eq!(space.prepare(Sel(300)).err(), Some(Status::Busy));
    }

    #[test]
    fn a_stale_capability_stays_dead_when_its_slot_is_used_again() {
        let pd = testing::pd(64);
        let (space, sm) = (space(pd), semaphore(pd));
        space.prepare(Sel(1)).unwrap().store_object(sm, Perms::ALL);
        space
            .store(
                Sel(2),
                space.load(Sel(1)).map(|cap| cap.restrict(Perms::SM_UP)),
            )
            .unwrap();
        assert!(retire(sm) && !retire(sm));
        pd.disown(sm);
        pd.free_object(sm);
        assert!(space.load(Sel(1)).is_none() && space.load(Sel(2)).is_none());
        // The very same memory, as another object of the same type.
        let heir = semaphore(pd);
        assert_eq!(heir.addr(), sm.addr());
        assert!(space.lookup::<Sm>(Sel(1), Perms::empty()).is_err());
        assert!(space.prepare(Sel(1)).is_ok());
    }

    #[test]
    fn permissions_only_shrink() {
        let pd = testing::pd(64);
        let (space, sm) = (space(pd), semaphore(pd));
        space
            .prepare(Sel(1))
            .unwrap()
            .store_object(sm, Perms::SM_UP | Perms::DESTROY);
        let cap = space
            .load(Sel(1))
            .unwrap()
            .restrict(Perms::SM_UP | Perms::SM_DOWN);
        assert_eq!(cap.perms(), Perms::SM_UP);
    }

    #[test]
    fn tables_return_to_the_payer() {
        let pd = testing::pd(64);
        let space = space(pd);
        for sel in [0, 256, Sel::COUNT - 1] {
            space.prepare(Sel(sel)).unwrap();
        }
        assert_eq!(pd.figures().1, 4);
        space.release();
        assert_eq!(pd.figures().1, 0);
    }
}
