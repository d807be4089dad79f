//! Objects of core: each is a portal whose id and selector are the object's key.

use crate::Core;
use crate::account::{AccountError, AccountId, Resources};
use crate::kernel::Machine;
use crate::ranges::Range;
use abi::cap::{Perms, Sel};
use abi::message::{CapItem, Received};

/// Names an object of core. Reused after the object is gone, when no capability to it is left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key(pub Sel);

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are the interfaces'")]
pub enum Kind {
    Parent,
    Rom,
    Log,
    Pd,
    /// Where the events of a PD's threads arrive.
    Events,
    RegionMap,
    Dataspace,
    Cpu,
    CpuThread,
    Rm,
    IoMem,
    IoPort,
    Irq,
    Vm,
}

/// An object's entry in the registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Who pays for it.
    pub payer: AccountId,
}

/// A capability as core sees it in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handle {
    /// One of core's own objects, or at least a key that names one if it exists.
    Own(Key),
    /// Of somebody else, at this selector until the end of the call, and what it permits.
    Foreign(Sel, Perms),
    /// None.
    Nothing,
}

impl Handle {
    /// The item that passes the capability on.
    #[must_use]
    pub const fn item(self, perms: Perms) -> CapItem {
        let sel = match self {
            Self::Own(Key(sel)) | Self::Foreign(sel, _) => sel,
            Self::Nothing => Sel::NONE,
        };
        CapItem::send(sel, perms)
    }

    /// What arrived.
    #[must_use]
    pub const fn received(item: CapItem) -> Option<Self> {
        match item.received() {
            Received::Nothing => None,
            Received::New(sel) => Some(Self::Foreign(sel, item.perms())),
            Received::Own(id) => Some(Self::Own(Key(Sel(id)))),
        }
    }

    /// The key, if it is one of core's own.
    #[must_use]
    pub const fn own(self) -> Option<Key> {
        match self {
            Self::Own(key) => Some(key),
            _ => None,
        }
    }
}

/// What an object costs its payer: its portal, and the memory that core keeps for it.
pub const OBJECT_COST: Resources = Resources::caps(1);

impl<M: Machine> Core<'_, M> {
    /// Takes `count` consecutive free selectors.
    ///
    /// # Errors
    /// [`AccountError::OutOfCaps`] if there are none.
    pub(crate) fn alloc_selectors(&mut self, count: u64) -> Result<Sel, AccountError> {
        self.selectors.alloc(count, 1).map(|range| Sel(range.base())).ok_or(AccountError::OutOfCaps)
    }

    /// Empties selectors and makes them free.
    pub(crate) fn free_selectors(&mut self, sel: Sel, count: u64) {
        self.kernel.drop_caps(sel, count);
        if let Some(range) = Range::new(sel.0, count) {
            let freed = self.selectors.free(range);
            debug_assert!(freed.is_ok(), "selector {sel:?} freed twice");
        }
    }

    /// Makes an object, paid by `payer`.
    ///
    /// # Errors
    /// The payer cannot.
    pub(crate) fn create_object(&mut self, kind: Kind, payer: AccountId) -> Result<Key, AccountError> {
        self.ledger.charge(payer, OBJECT_COST)?;
        match self.create_portal() {
            Ok(key) => {
                self.objects.insert(key, Object { kind, payer });
                Ok(key)
            }
            Err(error) => {
                self.credit(payer, OBJECT_COST);
                Err(error)
            }
        }
    }

    fn create_portal(&mut self) -> Result<Key, AccountError> {
        let sel = self.alloc_selectors(1)?;
        if self.kernel.0.create_portal(sel).is_err() {
            self.free_selectors(sel, 1);
            return Err(AccountError::OutOfCaps);
        }
        Ok(Key(sel))
    }

    /// Destroys an object's portal, so that no capability to it is left, and gives its cost back.
    pub(crate) fn destroy_object(&mut self, key: Key) {
        if let Some(object) = self.objects.remove(&key) {
            self.kernel.destroy(key.0);
            self.free_selectors(key.0, 1);
            self.credit(object.payer, OBJECT_COST);
        }
    }

    /// Gives back what was charged.
    pub(crate) fn credit(&mut self, account: AccountId, cost: Resources) {
        let credited = self.ledger.credit(account, cost);
        debug_assert!(credited.is_ok(), "{account:?} was not charged {cost:?}: {credited:?}");
    }

    /// Keeps a capability that came with a message beyond its end.
    ///
    /// # Errors
    /// No selector is free.
    pub(crate) fn keep(&mut self, handle: Handle, perms: Perms) -> Result<Sel, AccountError> {
        let from = match handle {
            Handle::Own(Key(sel)) | Handle::Foreign(sel, _) => sel,
            Handle::Nothing => return Err(AccountError::Invalid),
        };
        let sel = self.alloc_selectors(1)?;
        if self.kernel.give_cap(from, abi::cap::root::OBJ, sel, perms).is_err() {
            self.free_selectors(sel, 1);
            return Err(AccountError::OutOfCaps);
        }
        Ok(sel)
    }
}
