//! Server objects behind portals: the fast path of every RPC.
//!
//! The portal of an object has an entry of its own for the object's type, and an id that leads to the object without a table:
//! the address of its *place* with a generation number. Places are never freed, only used again with the next generation, so an
//! id that the kernel delivers after its object was dissolved is noticed, whatever is there now.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::any::Any;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};

use abi::cap::Sel;
use abi::message::Tag;
use abi::session::rpc::{Refusal, ServedBy};
use abi::session::wire::Message;
use abi::state::Mtd;
use abi::status::Status;

use super::portal::LocalEc;
use super::syscall;
use crate::rpc::OwnUtcb;

/// Set in the ids of objects, and only in them: a capability that comes home names an object exactly if its id has it.
pub(super) const OBJECT_ID: u64 = 1 << 63;
const ADDRESS_BITS: u32 = 47;
const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1;
const MAX_GENERATION: u64 = (OBJECT_ID >> ADDRESS_BITS) - 1;

/// Tells entrypoints apart.
static NEXT_OWNER: AtomicU64 = AtomicU64::new(0);

/// Where an object is. Used by one context only, but for `owner`, which never changes.
struct Place {
    owner: u64,
    /// Id of the object that is here; 0 if none.
    id: Cell<u64>,
    generation: Cell<u64>,
    /// The `RefCell` inside `server`.
    cell: Cell<*const ()>,
    server: RefCell<Option<Rc<dyn Any>>>,
}

/// The objects of one entrypoint. It never leaves the context that handles their portals.
pub(crate) struct Objects {
    owner: u64,
    free: RefCell<Vec<&'static Place>>,
}

/// Id of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ObjectId(u64);

impl ObjectId {
    /// Delivered by the kernel.
    pub(crate) const fn raw(self) -> u64 {
        self.0
    }
}

impl Objects {
    /// For the entrypoint of the running context.
    pub(crate) fn new() -> Self {
        Self { owner: NEXT_OWNER.fetch_add(1, Ordering::Relaxed), free: RefCell::new(Vec::new()) }
    }

    /// Makes a portal at `sel` for an object.
    pub(crate) fn insert<I, S>(&self, ec: &LocalEc, sel: Sel, server: Rc<RefCell<S>>) -> Result<ObjectId, Status>
    where
        I: ServedBy<S, OwnUtcb>,
        S: 'static,
    {
        let id = self.put(server);
        let entry = trampoline::<I, S> as *const () as u64;
        // SAFETY: ids of this entry are those of places that hold an `S`.
        match unsafe { ec.portal(sel, entry, id.0, Mtd::empty()) } {
            Ok(()) => Ok(id),
            Err(status) => {
                self.remove(id);
                Err(status)
            }
        }
    }

    fn put<S: 'static>(&self, server: Rc<RefCell<S>>) -> ObjectId {
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            Box::leak(Box::new(Place {
                owner: self.owner,
                id: Cell::new(0),
                generation: Cell::new(0),
                cell: Cell::new(core::ptr::null()),
                server: RefCell::new(None),
            }))
        });
        let address = core::ptr::from_ref(place).expose_provenance() as u64;
        let id = OBJECT_ID | place.generation.get() << ADDRESS_BITS | address;
        place.id.set(id);
        place.cell.set(Rc::as_ptr(&server).cast());
        *place.server.borrow_mut() = Some(server);
        ObjectId(id)
    }

    fn place(&self, id: u64) -> Option<&'static Place> {
        // SAFETY: ids come from `put`, and places live forever.
        let place = unsafe { &*core::ptr::with_exposed_provenance::<Place>((id & ADDRESS_MASK) as usize) };
        (place.owner == self.owner && place.id.get() == id).then_some(place)
    }

    /// The object with this id, which is one of any entrypoint's.
    pub(crate) fn get(&self, id: ObjectId) -> Option<Rc<dyn Any>> {
        self.place(id.0)?.server.borrow().clone()
    }

    /// Removes an object; returns what keeps it alive, to be dropped by the caller.
    pub(crate) fn remove(&self, id: ObjectId) -> Option<Rc<dyn Any>> {
        let place = self.place(id.0)?;
        place.id.set(0);
        // A place whose generations are used up stays empty.
        if place.generation.get() < MAX_GENERATION {
            place.generation.set(place.generation.get() + 1);
            self.free.borrow_mut().push(place);
        }
        place.server.borrow_mut().take()
    }
}

/// The id of an object, if a portal's id is one.
pub(crate) const fn object_id(raw: u64) -> Option<ObjectId> {
    if raw & OBJECT_ID != 0 { Some(ObjectId(raw)) } else { None }
}

/// The object for a message to the portal with this id; `None` if it has been dissolved.
///
/// # Safety
/// `id` is one that `put` returned for an `S`, and this is the context that the object belongs to.
#[inline(always)]
unsafe fn object<S>(id: u64) -> Option<Rc<RefCell<S>>> {
    // SAFETY: places live forever.
    let place = unsafe { &*core::ptr::with_exposed_provenance::<Place>((id & ADDRESS_MASK) as usize) };
    if place.id.get() != id {
        return None;
    }
    let cell = place.cell.get().cast::<RefCell<S>>();
    // SAFETY: with the id still there, `server` holds a count of this cell, and the generation in the id makes
    // sure that it is the `S` which the portal was made for.
    unsafe {
        Rc::increment_strong_count(cell);
        Some(Rc::from_raw(cell))
    }
}

/// Entry of an object's portal: as [`LocalEc`]'s.
#[unsafe(naked)]
unsafe extern "sysv64" fn trampoline<I: ServedBy<S, OwnUtcb>, S: 'static>() -> ! {
    core::arch::naked_asm!("mov rcx, r10", "jmp {enter}", enter = sym enter::<I, S>)
}

extern "sysv64" fn enter<I, S>(id: u64, tag: u64, word0: u64, word3: u64, word1: u64, word2: u64) -> !
where
    I: ServedBy<S, OwnUtcb>,
    S: 'static,
{
    let message = Message { tag: Tag(tag), words: [word0, word1, word2, word3] };
    // SAFETY: `insert` pairs this entry with ids of places that hold an `S`, on their own context.
    let reply = match unsafe { object::<S>(id) } {
        Some(server) => serve::<I, S>(&server, message),
        None => Refusal::NoObject.message(),
    };
    // SAFETY: nothing on the stack needs to be dropped.
    unsafe { syscall::reply(reply) }
}

#[inline(always)]
fn serve<I: ServedBy<S, OwnUtcb>, S>(server: &RefCell<S>, message: Message) -> Message {
    // A context handles one call at a time and does not call itself, so nobody else borrows the server.
    match server.try_borrow_mut() {
        Ok(mut server) => I::dispatch(&mut *server, &OwnUtcb, message),
        Err(_) => Refusal::NoObject.message(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the object, as a message to it would find it.
    fn look(id: ObjectId) -> Option<u32> {
        // SAFETY: all objects of these tests are `u32`, used on the thread that made them.
        unsafe { object::<u32>(id.raw()) }.map(|cell| *cell.borrow())
    }

    #[test]
    fn ids_lead_to_their_objects_until_removed() {
        let objects = Objects::new();
        let (first, second) = (objects.put(Rc::new(RefCell::new(1_u32))), objects.put(Rc::new(RefCell::new(2_u32))));
        assert_eq!((look(first), look(second)), (Some(1), Some(2)));
        assert!(objects.remove(first).is_some());
        assert!(objects.remove(first).is_none());
        assert_eq!((look(first), look(second)), (None, Some(2)));
    }

    #[test]
    fn a_place_used_again_does_not_answer_for_the_old_object() {
        let objects = Objects::new();
        let old = objects.put(Rc::new(RefCell::new(1_u32)));
        objects.remove(old);
        let new = objects.put(Rc::new(RefCell::new(2_u32)));
        assert_eq!(old.raw() & ADDRESS_MASK, new.raw() & ADDRESS_MASK);
        assert_eq!((look(old), look(new)), (None, Some(2)));
        assert!(objects.get(old).is_none() && objects.get(new).is_some());
    }

    #[test]
    fn an_object_outlives_its_removal_while_it_is_in_use() {
        let objects = Objects::new();
        let cell = Rc::new(RefCell::new(1_u32));
        let id = objects.put(Rc::clone(&cell));
        // SAFETY: as in `look`.
        let in_use = unsafe { object::<u32>(id.raw()) }.unwrap();
        drop(objects.remove(id));
        assert_eq!(Rc::strong_count(&cell), 2);
        drop(in_use);
        assert_eq!(Rc::strong_count(&cell), 1);
    }

    #[test]
    fn entrypoints_do_not_resolve_each_others_objects() {
        let (one, other) = (Objects::new(), Objects::new());
        let id = one.put(Rc::new(RefCell::new(1_u32)));
        assert!(other.get(id).is_none());
        assert_eq!(object_id(id.raw()), Some(id));
        assert_eq!(object_id(7), None);
    }
}
