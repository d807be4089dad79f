//! Object space: selectors to capabilities, a two-level table.

use crate::mem::object::{CapSlot, Header, Object, RawCap, Word, empty_table};
use crate::mem::{Page, lock::Lock, page::WORDS};
use crate::pd::Pd;
use abi::cap::{Perms, Sel};
use abi::status::Status;

/// Capability tables that the root refers to.
const TABLES: usize = (Sel::COUNT as usize) / CapSlot::PER_PAGE;
const _: () = assert!(TABLES == WORDS);

/// An object space.
#[derive(Default)]
#[repr(C, align(256))]
pub struct ObjSpace {
    header: Header,
    /// Serialises writers, but those that fill a slot which [`Self::prepare`] has found free: of two that write it at the same time,
    /// one is found there, or nothing.
    lock: Lock,
    /// Virtual address of the page of addresses of tables. Where there is none, it names the empty table.
    pub(crate) root: Word,
}

/// Table of a selector, and place in it.
#[inline(always)]
fn split(sel: Sel) -> (usize, usize) {
    let sel = sel.0 as usize;
    (sel / CapSlot::PER_PAGE, sel % CapSlot::PER_PAGE)
}

impl ObjSpace {
    /// Sets up a fresh space.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn init(&self) -> Result<(), Status> {
        let page = self.payer()?.alloc_filled(0, empty_table().virt())?;
        self.root.set(page.virt());
        Ok(())
    }

    #[inline(always)]
    fn root(&self) -> Page {
        Page::at_virt(self.root.get())
    }

    /// The slot of a selector, to look at.
    #[inline(always)]
    pub fn slot(&self, sel: Sel) -> Option<CapSlot> {
        let (table, index) = split(sel);
        (table < TABLES).then(|| CapSlot::new(Page::at_virt(self.root().read(table)), index))
    }

    /// The slot of a selector, to be written, which is in a table of its own: made if there is none. The lock is held.
    #[inline(always)]
    fn slot_or_make(&self, sel: Sel) -> Result<CapSlot, Status> {
        let (table, index) = split(sel);
        if table >= TABLES {
            return Err(Status::BadParameter);
        }
        let page = Page::at_virt(self.root().read(table));
        let page = if page == empty_table() { self.make(table)? } else { page };
        Ok(CapSlot::new(page, index))
    }

    #[cold]
    fn make(&self, table: usize) -> Result<Page, Status> {
        let page = self.payer()?.alloc(0)?;
        self.root().write(table, page.virt());
        Ok(page)
    }

    /// The live object of type `T` at `sel`, with at least the permissions `need`.
    ///
    /// # Errors
    /// `BadCapability`.
    #[inline(always)]
    pub fn lookup<T: Object>(&self, sel: Sel, need: Perms) -> Result<&'static T, Status> {
        self.slot(sel).and_then(|slot| slot.lookup(need)).ok_or(Status::BadCapability)
    }

    /// The capability at `sel`, if its object lives.
    #[inline(always)]
    pub fn load(&self, sel: Sel) -> Option<RawCap> {
        self.slot(sel)?.load()
    }

    /// Makes sure that `sel` can be written and is free, so that a creation cannot fail afterwards.
    ///
    /// # Errors
    /// `Busy` if a live capability is there, `BadParameter` beyond the last selector, `OutOfMemory`.
    #[inline(always)]
    pub fn prepare(&self, sel: Sel) -> Result<CapSlot, Status> {
        let _guard = self.lock.lock();
        let slot = self.slot_or_make(sel)?;
        if slot.load().is_some() { Err(Status::Busy) } else { Ok(slot) }
    }

    /// Replaces the capability at `sel`.
    ///
    /// # Errors
    /// `BadParameter` beyond the last selector, `OutOfMemory`.
    pub fn store(&self, sel: Sel, cap: Option<RawCap>) -> Result<(), Status> {
        let _guard = self.lock.lock();
        match cap {
            Some(cap) => self.slot_or_make(sel)?.store(cap),
            None => self.remove(sel, 1)?,
        }
        Ok(())
    }

    /// Replaces capabilities from `dst` on by those of `from`, or by nothing, with at most the permissions `perms`: `count`
    /// of them or fewer, because a step stays inside one table here and there. Returns how many, at least one.
    ///
    /// # Errors
    /// `BadParameter` beyond the last selector, `OutOfMemory`.
    pub fn replace(
        &self,
        dst: Sel,
        from: Option<(&'static Self, Sel)>,
        count: u64,
        perms: Perms,
    ) -> Result<u64, Status> {
        let rest = |sel: Sel| (CapSlot::PER_PAGE - split(sel).1) as u64;
        let count = count.min(rest(dst));
        let _guard = self.lock.lock();
        let Some((from, src)) = from else {
            return self.remove(dst, count).map(|()| count);
        };
        let count = count.min(rest(src));
        let (first, to) = (from.slot(src), self.slot_or_make(dst)?);
        for i in 0..count {
            match first.and_then(|first| first.offset(i).load()) {
                Some(cap) => to.offset(i).store(cap.restrict(perms)),
                None => to.offset(i).clear(),
            }
        }
        Ok(count)
    }

    /// Empties `count` slots of a table. The lock is held.
    fn remove(&self, first: Sel, count: u64) -> Result<(), Status> {
        let (table, index) = split(first);
        if table >= TABLES {
            return Err(Status::BadParameter);
        }
        let page = Page::at_virt(self.root().read(table));
        if page != empty_table() {
            let slot = CapSlot::new(page, index);
            (0..count).for_each(|i| slot.offset(i).clear());
        }
        Ok(())
    }

    /// Frees the tables, which `pd` pays for; the space is dead and nobody uses it any more.
    pub fn release(&self, pd: &Pd) {
        for i in 0..TABLES {
            let table = Page::at_virt(self.root().read(i));
            if table != empty_table() {
                pd.free(table, 0);
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
    use crate::testing;

    fn space(pd: &'static Pd) -> &'static ObjSpace {
        let space: &'static ObjSpace = pd.new_object().unwrap();
        space.init().unwrap();
        space
    }

    #[test]
    fn a_lookup_needs_type_and_permissions() {
        let pd = testing::pd(64);
        let (space, sm) = (space(pd), testing::object::<Sm>(pd));
        space.prepare(Sel(300)).unwrap().store_object(sm, Perms::SM_UP);
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
        let (space, sm) = (space(pd), testing::object::<Sm>(pd));
        space.prepare(Sel(1)).unwrap().store_object(sm, Perms::ALL);
        space.store(Sel(2), space.load(Sel(1)).map(|cap| cap.restrict(Perms::SM_UP))).unwrap();
        assert!(retire(sm) && !retire(sm));
        pd.disown(sm);
        pd.free_object(sm);
        assert!(space.load(Sel(1)).is_none() && space.load(Sel(2)).is_none());
        // The very same memory, as another object of the same type.
        let heir = testing::object::<Sm>(pd);
        assert_eq!(heir.addr(), sm.addr());
        assert!(space.lookup::<Sm>(Sel(1), Perms::empty()).is_err());
        assert!(space.prepare(Sel(1)).is_ok());
    }

    #[test]
    fn permissions_only_shrink() {
        let pd = testing::pd(64);
        let (space, sm) = (space(pd), testing::object::<Sm>(pd));
        space.prepare(Sel(1)).unwrap().store_object(sm, Perms::SM_UP | Perms::DESTROY);
        let cap = space.load(Sel(1)).unwrap().restrict(Perms::SM_UP | Perms::SM_DOWN);
        assert_eq!(cap.perms(), Perms::SM_UP);
    }

    #[test]
    fn tables_return_to_the_payer() {
        let pd = testing::pd(64);
        let space = space(pd);
        for sel in [0, Sel::PER_PAGE - 1, Sel::PER_PAGE, Sel::COUNT - 1] {
            space.prepare(Sel(sel)).unwrap();
        }
        assert_eq!(pd.figures().1, 4);
        space.release(pd);
        // The space itself is an object still.
        assert_eq!(pd.figures().1, 1);
    }
}
