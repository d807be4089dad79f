//! Kernel objects: slots of one size and their identity; the references between them ([`link`]) and those that users hold
//! ([`capability`]).

mod capability;
mod link;

pub use capability::{CAP_SLOT_BITS, CapSlot, RawCap, empty_table};
pub use link::{Link, Weak};

use super::{direct, pool};
use crate::pd::Pd;
use abi::cap::ObjectType;
use abi::status::Status;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Bytes of a slot. Every object has this size and alignment.
pub const SLOT: u64 = 256;

/// A number inside an object.
#[derive(Default)]
#[repr(transparent)]
pub struct Word(AtomicU64);

impl Word {
    /// Its value.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Sets it.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Its value, and everything that was written before the matching [`Word::publish`].
    #[inline(always)]
    pub fn observe(&self) -> u64 {
        // Ordering: Acquire pairs with the Release in `publish`.
        self.0.load(Acquire)
    }

    /// Sets it after everything written before.
    #[inline(always)]
    pub fn publish(&self, value: u64) {
        // Ordering: Release pairs with the Acquire in `observe`.
        self.0.store(value, Release);
    }

    /// The atomic, for read-modify-write operations.
    #[inline(always)]
    pub fn atomic(&self) -> &AtomicU64 {
        &self.0
    }
}

/// First words of every object.
#[derive(Default)]
#[repr(C)]
pub struct Header {
    /// Unique over the life of the system; 0 while dead.
    id: Word,
    /// Who pays.
    owner: Link<Pd>,
    /// Neighbours in the owner's list.
    pub(crate) next: Word,
    pub(crate) prev: Word,
    /// [`ObjectType`].
    pub(crate) kind: Word,
}

// `arch::fastpath` finds the identity there.
const _: () = assert!(core::mem::offset_of!(Header, id) == 0);

/// A kernel object.
///
/// # Safety
/// The type is `repr(C, align(256))` and 256 bytes long, begins with a [`Header`], and consists of [`Word`]s, [`Link`]s,
/// [`Weak`]s and [`super::lock::Lock`]s only, for which any slot content left by zeroing and by their own methods is valid.
pub unsafe trait Object: Sized + 'static {
    /// Its type.
    const TYPE: ObjectType;

    /// Its header.
    #[inline(always)]
    fn header(&self) -> &Header {
        // SAFETY: by the trait's contract the object begins with a Header.
        unsafe { &*(self as *const Self).cast() }
    }

    /// Its identity; 0 when it was destroyed.
    #[inline(always)]
    fn id(&self) -> u64 {
        self.header().id.observe()
    }

    /// Who pays for it. Every live object has an owner, but for the first PD.
    fn owner(&self) -> Option<&'static Pd> {
        self.header().owner.get()
    }

    /// The same as who is to pay more.
    ///
    /// # Errors
    /// `BadCapability` if there is none.
    #[inline(always)]
    fn payer(&self) -> Result<&'static Pd, Status> {
        self.owner().ok_or(Status::BadCapability)
    }

    /// Its address, as stored in links and capabilities.
    #[inline(always)]
    fn addr(&self) -> u64 {
        (self as *const Self).addr() as u64
    }
}

/// Declares the types of objects, and [`AnyObject`], which is one of them.
macro_rules! objects {
    ($($kind:ident($path:ty)),* $(,)?) => {
        $(
            const _: () = assert!(size_of::<$path>() == SLOT as usize && align_of::<$path>() == SLOT as usize);
            // SAFETY: asserted above; the fields are words, links, weak links and locks only.
            unsafe impl Object for $path {
                const TYPE: ObjectType = ObjectType::$kind;
            }
        )*

        /// A live object of any type.
        #[allow(missing_docs, reason = "the names are the types'")]
        pub enum AnyObject {
            $($kind(&'static $path)),*
        }

        fn typed(addr: u64, kind: u64) -> Option<AnyObject> {
            $(if kind == ObjectType::$kind as u64 {
                // SAFETY: `addr` is that of a slot whose type word, or the type in a capability to the live object in it, is `kind`.
                return Some(AnyObject::$kind(unsafe { &*(addr as *const $path) }));
            })*
            None
        }
    };
}

objects! {
    Pd(crate::pd::Pd),
    Ec(crate::ec::Ec),
    Sc(crate::sc::Sc),
    Pt(crate::pt::Pt),
    Sm(crate::sm::Sm),
    ObjSpace(crate::space::obj::ObjSpace),
    MemSpace(crate::space::mem::MemSpace),
    GuestSpace(crate::space::guest::GuestSpace),
    PioSpace(crate::space::pio::PioSpace),
    MsrSpace(crate::space::msr::MsrSpace),
    Hw(crate::hw::Hw),
}

/// Never the identity of an object, dead ones included.
const NO_ID: u64 = u64::MAX;

/// Identity to keep in a reference to `object`, which finds nothing if that has died by now.
#[inline(always)]
fn id_to_keep<T: Object>(object: &T) -> u64 {
    match object.id() {
        0 => NO_ID,
        id => id,
    }
}

/// The identity given next. 64 bits last for centuries at one object per nanosecond.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

const _: () = assert!(pool::FREE_LINK == core::mem::offset_of!(Header, owner) as u64);

/// Takes a slot for a new object. It is dead until [`publish`]ed.
#[inline(always)]
pub fn alloc<T: Object>(owner: Option<&'static Pd>) -> Option<&'static T> {
    let slot = pool::alloc_slot()?;
    // SAFETY: the slot is ours, aligned, zero but for a word of its header that is set next, and zero is valid for every object
    // (trait contract).
    let object: &'static T = unsafe { &*(slot as *const T) };
    object.header().owner.set(owner);
    object.header().kind.set(T::TYPE as u64);
    Some(object)
}

/// Gives a fully set-up object its identity: from now on capabilities to it work.
pub fn publish<T: Object>(object: &'static T) {
    object.header().id.publish(NEXT_ID.fetch_add(1, Relaxed));
}

/// Makes an object dead: no capability to it works any more. False if it was already dead: of two destroyers, one wins.
pub fn retire<T: Object>(object: &'static T) -> bool {
    object.header().id.atomic().swap(0, Acquire) != 0
}

/// Returns the slot of a dead object that nothing refers to, after all CPUs were quiescent.
pub fn free<T: Object>(object: &'static T) {
    debug_assert!(object.id() == 0);
    direct::fill(object.addr(), (SLOT / 8) as usize, 0);
    pool::free_slot(object.addr());
}

/// Header of a slot by its address, for walks over lists of mixed objects.
pub(crate) fn header_at(addr: u64) -> Option<&'static Header> {
    if addr == 0 {
        return None;
    }
    // SAFETY: `addr` was stored by `Pd::adopt` from `Object::addr` of a live object, and is removed before its slot
    // is freed (both under the owner's lock).
    Some(unsafe { &*(addr as *const Header) })
}

impl Header {
    /// Whether the object was not destroyed.
    pub(crate) fn is_alive(&self) -> bool {
        self.id.observe() != 0
    }

    /// The object that begins with this header.
    pub(crate) fn object(&'static self) -> Option<AnyObject> {
        let addr = (self as *const Self).addr() as u64;
        typed(addr, self.kind.get())
    }
}
