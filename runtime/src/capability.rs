//! Names of capabilities: the same object, delegated twice, has one name; the last drop frees its selector.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};

use abi::cap::{Perms, Sel};
use abi::message::{CapItem, MAX_CAPS, Received};
use abi::session::wire::Typed;
use abi::utcb::Utcb;

use crate::selector;
use crate::sync::Mutex;
use crate::sys::{syscall, utcb};

/// A capability of a stated kind.
pub type Cap<K> = Typed<K, Capability>;

/// Selectors offered to the kernel for what a context receives.
const WINDOW: u64 = 32;

/// Every name by what it names.
static NAMES: Mutex<Names> = Mutex::new(Names { foreign: BTreeMap::new(), own: BTreeMap::new() });

#[derive(Debug)]
struct Names {
    /// By the kernel's identity.
    foreign: BTreeMap<u64, Weak<Name>>,
    /// By the id of the portal.
    own: BTreeMap<u64, Weak<Name>>,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    /// An object of another domain by its identity; `None` if it was there from the start.
    Foreign(Option<u64>),
    /// A portal of this domain by its id.
    Own(u64),
    /// A semaphore of this domain.
    Semaphore,
}

/// The name of a capability. Clones are the same name. Equal names name the same object; the reverse holds for all
/// but environment capabilities that arrive again.
#[derive(Clone, Debug)]
pub struct Capability(Arc<Name>);

#[derive(Debug)]
struct Name {
    sel: Sel,
    named: Named,
}

impl PartialEq for Capability {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for Capability {}

impl Capability {
    /// Its selector, valid as long as the name.
    #[inline]
    #[must_use]
    pub fn sel(&self) -> Sel {
        self.0.sel
    }

    /// Id of the portal, if it is one of this component.
    #[must_use]
    pub fn own_id(&self) -> Option<u64> {
        match self.0.named {
            Named::Own(id) => Some(id),
            Named::Foreign(_) | Named::Semaphore => None,
        }
    }

    /// A number that is the same for equal names and differs for others, as a key of maps.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.0.sel.0
    }

    /// A capability that is there from the start.
    #[must_use]
    pub(crate) fn initial(sel: Sel) -> Self {
        Self(Arc::new(Name { sel, named: Named::Foreign(None) }))
    }

    /// A semaphore made at `sel`, which the name takes over.
    #[must_use]
    pub(crate) fn semaphore(sel: Sel) -> Self {
        Self(Arc::new(Name { sel, named: Named::Semaphore }))
    }

    /// A kernel object of this component's making at `sel`, which the name takes over: the selector is freed with
    /// the last clone, the object has to be destroyed by its maker.
    #[must_use]
    pub fn made(sel: Sel) -> Self {
        Self::semaphore(sel)
    }

    /// A portal of this component, made at `sel` with an id of its own. The name takes over the selector.
    #[must_use]
    pub fn own_portal(sel: Sel, id: u64) -> Self {
        let name = Arc::new(Name { sel, named: Named::Own(id) });
        NAMES.lock().own.insert(id, Arc::downgrade(&name));
        Self(name)
    }

    /// Takes over the item at `index` of the UTCB.
    #[must_use]
    pub(crate) fn receive(index: usize) -> Option<Self> {
        match receive_item(index)? {
            ReceivedItem::Own(id) => NAMES.lock().own.get(&id).and_then(Weak::upgrade).map(Self),
            ReceivedItem::New { sel, identity } => Some(Self::foreign(sel, identity)),
        }
    }

    fn foreign(sel: Sel, identity: u64) -> Self {
        let mut names = NAMES.lock();
        if let Some(known) = names.foreign.get(&identity).and_then(Weak::upgrade) {
            drop(names);
            release(sel);
            return Self(known);
        }
        let name = Arc::new(Name { sel, named: Named::Foreign(Some(identity)) });
        names.foreign.insert(identity, Arc::downgrade(&name));
        Self(name)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        {
            let mut names = NAMES.lock();
            let (map, key) = match self.named {
                Named::Foreign(Some(identity)) => (Some(&mut names.foreign), identity),
                Named::Own(id) => (Some(&mut names.own), id),
                Named::Foreign(None) | Named::Semaphore => (None, 0),
            };
            // Another name may have taken the place already: only an entry without living name is ours to remove.
            if let Some(map) = map
                && map.get(&key).is_some_and(|entry| entry.strong_count() == 0)
            {
                map.remove(&key);
            }
        }
        if self.named != Named::Foreign(None) {
            release(self.sel);
        }
    }
}

/// Removes the capability at a selector and frees it.
fn release(sel: Sel) {
    syscall::remove(sel);
    selector::free(sel);
}

/// A received capability before it has a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReceivedItem {
    New { sel: Sel, identity: u64 },
    Own(u64),
}

/// Takes the item at `index` of the UTCB out of the receive window.
fn receive_item(index: usize) -> Option<ReceivedItem> {
    let (item, sel) = utcb::with(|utcb| {
        let item = *utcb.caps.get(index)?;
        let sel = match item.received() {
            Received::Nothing => return None,
            Received::Own(id) => return Some((ReceivedItem::Own(id), None)),
            Received::New(sel) => sel,
        };
        let skipped = advance_window(utcb, sel)?;
        Some((ReceivedItem::New { sel, identity: item.identity }, Some(skipped)))
    })?;
    if let Some(skipped) = sel {
        skipped.for_each(|sel| selector::free(Sel(sel)));
        open_window();
    }
    Some(item)
}

/// Takes a capability without giving it a name that others share: for the heap, which must not allocate.
pub(crate) fn receive_unnamed(index: usize) -> Option<Sel> {
    match receive_item(index)? {
        ReceivedItem::New { sel, .. } => Some(sel),
        ReceivedItem::Own(_) => None,
    }
}

/// Lets the window begin after `sel`. Returns the selectors before it that were not used, or `None` if `sel` is not in the
/// window, which the kernel never does.
fn advance_window(utcb: &mut Utcb, sel: Sel) -> Option<core::ops::Range<u64>> {
    let (base, count) = (utcb.window_base, utcb.window_count);
    let used = sel.0.checked_sub(base).filter(|offset| *offset < count)? + 1;
    utcb.window_base = base + used;
    utcb.window_count = count - used;
    Some(base..sel.0)
}

/// Makes sure that the running context can receive a full message: opens a new window when the old one is too small.
/// Without free selectors capabilities do not arrive, which the decoding of messages reports.
pub(crate) fn open_window() {
    let small = utcb::with(|utcb| utcb.window_count < MAX_CAPS as u64);
    if !small {
        return;
    }
    let Some(base) = selector::allocate_block(WINDOW as usize) else {
        return;
    };
    let rest = utcb::with(|utcb| {
        let rest = utcb.window_base..utcb.window_base + utcb.window_count;
        (utcb.window_base, utcb.window_count) = (base.0, WINDOW);
        rest
    });
    rest.for_each(|sel| selector::free(Sel(sel)));
}

/// The item that passes a capability on.
#[inline]
#[must_use]
pub fn item(sel: Sel, perms: Perms) -> CapItem {
    CapItem::send(sel, perms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_object_has_one_name() {
        let first = Capability::foreign(Sel(1000), 7);
        let again = Capability::foreign(Sel(1001), 7);
        let other = Capability::foreign(Sel(1002), 8);
        assert_eq!(first, again);
        assert_eq!(again.sel(), Sel(1000));
        assert_ne!(first, other);
    }

    #[test]
    fn the_last_drop_forgets_the_name() {
        let first = Capability::foreign(Sel(1010), 17);
        let clone = first.clone();
        drop(first);
        assert_eq!(Capability::foreign(Sel(1011), 17), clone);
        drop(clone);
        assert_eq!(Capability::foreign(Sel(1012), 17).sel(), Sel(1012));
    }

    #[test]
    fn a_freed_selector_is_used_again() {
        let sel = selector::allocate().unwrap();
        drop(Capability::foreign(sel, 27));
        let mut taken = std::vec::Vec::new();
        while let Some(next) = selector::allocate() {
            taken.push(next);
            if next == sel {
                break;
            }
        }
        assert_eq!(taken.last(), Some(&sel));
        taken.into_iter().for_each(selector::free);
    }

    #[test]
    fn the_window_moves_past_what_arrived() {
        let mut utcb = utcb::empty();
        (utcb.window_base, utcb.window_count) = (100, 10);
        assert_eq!(advance_window(&mut utcb, Sel(102)), Some(100..102));
        assert_eq!((utcb.window_base, utcb.window_count), (103, 7));
        assert_eq!(advance_window(&mut utcb, Sel(102)), None);
        assert_eq!(advance_window(&mut utcb, Sel(110)), None);
    }
}
