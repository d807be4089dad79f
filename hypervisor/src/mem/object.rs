//! Kernel objects: slots of one size, their identity, and the references between them.

use super::{PAGE, Page, direct, pool};
use crate::pd::Pd;
use abi::cap::{ObjectType, Perms};
use core::marker::PhantomData;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

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
    kind: Word,
}

/// Offset of the type, for `arch::fastpath`. The identity is the first word.
pub const KIND: usize = core::mem::offset_of!(Header, kind);
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

    /// Its address, as stored in links and capabilities.
    #[inline(always)]
    fn addr(&self) -> u64 {
        (self as *const Self).addr() as u64
    }
}

macro_rules! objects {
    ($($path:ty => $kind:ident),* $(,)?) => {
        $(
            const _: () = assert!(size_of::<$path>() == SLOT as usize && align_of::<$path>() == SLOT as usize);
            // SAFETY: asserted above; the fields are words, links, weak links and locks only.
            unsafe impl Object for $path {
                const TYPE: ObjectType = ObjectType::$kind;
            }
        )*
    };
}

objects! {
    crate::pd::Pd => Pd,
    crate::ec::Ec => Ec,
    crate::sc::Sc => Sc,
    crate::pt::Pt => Pt,
    crate::sm::Sm => Sm,
    crate::space::obj::ObjSpace => ObjSpace,
    crate::space::mem::MemSpace => MemSpace,
    crate::space::guest::GuestSpace => GuestSpace,
    crate::space::pio::PioSpace => PioSpace,
    crate::space::msr::MsrSpace => MsrSpace,
    crate::hw::Hw => Hw,
}

/// Never the identity of an object, dead ones included.
const NO_ID: u64 = u64::MAX;

/// Identities given so far. 64 bits last for centuries at one object per nanosecond.
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

/// A live object of any type.
pub enum AnyObject {
    /// A protection domain.
    Pd(&'static Pd),
    /// An execution context.
    Ec(&'static crate::ec::Ec),
    /// A scheduling context.
    Sc(&'static crate::sc::Sc),
    /// A portal.
    Pt(&'static crate::pt::Pt),
    /// A semaphore.
    Sm(&'static crate::sm::Sm),
    /// An object space.
    ObjSpace(&'static crate::space::obj::ObjSpace),
    /// A host memory space.
    MemSpace(&'static crate::space::mem::MemSpace),
    /// A guest memory space.
    GuestSpace(&'static crate::space::guest::GuestSpace),
    /// A port space.
    PioSpace(&'static crate::space::pio::PioSpace),
    /// An MSR space.
    MsrSpace(&'static crate::space::msr::MsrSpace),
    /// The machine.
    Hw(&'static crate::hw::Hw),
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

fn typed(addr: u64, kind: u64) -> Option<AnyObject> {
    // SAFETY: `addr` is that of a slot whose type word, or the type in a capability to the live object in it, is `kind`.
    unsafe {
        Some(match kind {
            k if k == ObjectType::Pd as u64 => AnyObject::Pd(&*(addr as *const _)),
            k if k == ObjectType::Ec as u64 => AnyObject::Ec(&*(addr as *const _)),
            k if k == ObjectType::Sc as u64 => AnyObject::Sc(&*(addr as *const _)),
            k if k == ObjectType::Pt as u64 => AnyObject::Pt(&*(addr as *const _)),
            k if k == ObjectType::Sm as u64 => AnyObject::Sm(&*(addr as *const _)),
            k if k == ObjectType::ObjSpace as u64 => AnyObject::ObjSpace(&*(addr as *const _)),
            k if k == ObjectType::MemSpace as u64 => AnyObject::MemSpace(&*(addr as *const _)),
            k if k == ObjectType::GuestSpace as u64 => AnyObject::GuestSpace(&*(addr as *const _)),
            k if k == ObjectType::PioSpace as u64 => AnyObject::PioSpace(&*(addr as *const _)),
            k if k == ObjectType::MsrSpace as u64 => AnyObject::MsrSpace(&*(addr as *const _)),
            k if k == ObjectType::Hw as u64 => AnyObject::Hw(&*(addr as *const _)),
            _ => return None,
        })
    }
}

/// Optional reference to an object whose life is tied to the referrer's by the code that sets it.
#[repr(transparent)]
pub struct Link<T>(Word, PhantomData<fn() -> T>);

impl<T> Default for Link<T> {
    fn default() -> Self {
        Self(Word::default(), PhantomData)
    }
}

impl<T: Object> Link<T> {
    /// An empty link.
    #[must_use]
    pub const fn new() -> Self {
        Self(Word(AtomicU64::new(0)), PhantomData)
    }

    /// The object whose address was exchanged through the atomic of a [`Word`] that only holds such addresses.
    pub(crate) fn from_raw(addr: u64) -> Option<&'static T> {
        // SAFETY: as in `get`; callers pass what `Object::addr` gave for a T.
        unsafe { (addr as *const T).as_ref() }
    }

    /// The object.
    #[inline(always)]
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: the word is zero or was stored by `set` from a reference; slots change their type only after the
        // object was unlinked and all CPUs were quiescent (module `mem`, fact 3).
        unsafe { (self.0.observe() as *const T).as_ref() }
    }

    /// Sets it.
    #[inline(always)]
    pub fn set(&self, object: Option<&'static T>) {
        self.0.publish(object.map_or(0, Object::addr));
    }

    /// Its word: the object's address, or 0.
    #[inline(always)]
    pub fn raw(&self) -> u64 {
        self.0.get()
    }

    /// Whether it refers to `object`.
    #[inline(always)]
    pub fn is(&self, object: &'static T) -> bool {
        self.0.get() == object.addr()
    }
}

/// Reference to an object that may have been destroyed since.
#[derive(Default)]
#[repr(C)]
pub struct Weak<T> {
    link: Link<T>,
    id: Word,
}

impl<T: Object> Weak<T> {
    /// The object, if it still lives.
    #[inline(always)]
    pub fn get(&self) -> Option<&'static T> {
        let object = self.link.get()?;
        (object.id() == self.id.get()).then_some(object)
    }

    /// Sets it to an object, or to nothing. An object that died in the meantime is never found.
    #[inline(always)]
    pub fn set(&self, object: Option<&'static T>) {
        let id = object.map_or(NO_ID, |object| match object.id() {
            0 => NO_ID,
            id => id,
        });
        self.id.set(id);
        self.link.set(object);
    }

    /// Sets it to what `other`, which has just been found alive, refers to.
    #[inline(always)]
    pub fn copy(&self, other: &Self) {
        self.id.set(other.id.get());
        self.link.0.publish(other.link.0.get());
    }

    /// Address of the object last set, dead or alive.
    pub fn raw(&self) -> u64 {
        self.link.0.get()
    }
}

/// A slot of a capability table: two words.
///
/// Word 0: object address, its low 8 bits replaced by the permissions. Word 1: identity; the type is the object's. A writer
/// sets the identity to one that not even a dead object has, writes word 0, then the identity; so a reader that sees the new
/// identity with the old word 0, or the reverse, finds that they do not match: no object's identity is ever that of another.
/// `arch::fastpath` knows this layout.
#[derive(Clone, Copy)]
pub struct CapSlot(u64);

const PERMS_MASK: u64 = SLOT - 1;
const _: () = assert!(Perms::ALL.bits() as u64 <= PERMS_MASK);
/// Bytes of a slot of a capability table, log2.
pub const CAP_SLOT_BITS: u32 = 4;

/// A table of empty slots, for all selectors that have no other. Never written.
#[repr(C, align(4096))]
struct EmptyTable([AtomicU64; super::page::WORDS]);

static EMPTY_TABLE: EmptyTable = EmptyTable([const { AtomicU64::new(0) }; super::page::WORDS]);

/// The table of empty slots.
pub fn empty_table() -> Page {
    Page::at_virt((&raw const EMPTY_TABLE).addr() as u64)
}

/// Content of a slot whose object lives.
#[derive(Clone, Copy)]
pub struct RawCap {
    word: u64,
    id: u64,
}

/// Header of the object that word 0 of a slot names.
#[inline(always)]
fn header_of(word: u64) -> &'static Header {
    // SAFETY: capability tables are written by `store` only, with the address of an object; callers have seen that the slot is
    // not empty. Slots of objects are always that (module `mem`, fact 2), and every object begins with a header.
    unsafe { &*((word & !PERMS_MASK) as *const Header) }
}

impl RawCap {
    /// Permissions.
    #[inline(always)]
    pub fn perms(self) -> Perms {
        Perms::from_bits_truncate(self.word as u8)
    }

    /// The object.
    pub fn object(self) -> Option<AnyObject> {
        typed(self.word & !PERMS_MASK, self.kind())
    }

    /// Type of the object, numerically.
    pub fn kind(self) -> u64 {
        header_of(self.word).kind.get()
    }

    /// Identity of the object.
    pub fn id(self) -> u64 {
        self.id
    }

    /// The same with at most the permissions `perms`.
    #[inline(always)]
    pub fn restrict(self, perms: Perms) -> Self {
        let word = self.word & (!PERMS_MASK | u64::from(perms.bits()));
        Self { word, ..self }
    }
}

impl CapSlot {
    /// Slots of a page.
    pub const PER_PAGE: usize = super::page::WORDS / 2;

    /// Slot `index` of a capability table.
    #[inline(always)]
    pub fn new(table: Page, index: usize) -> Self {
        debug_assert!(index < Self::PER_PAGE);
        Self(table.virt() + ((index as u64) << CAP_SLOT_BITS))
    }

    /// The slot `n` further in the same table.
    #[inline(always)]
    pub fn offset(self, n: u64) -> Self {
        debug_assert!(self.0 % PAGE + (n << CAP_SLOT_BITS) < PAGE);
        Self(self.0 + (n << CAP_SLOT_BITS))
    }

    #[inline(always)]
    fn word(self) -> &'static AtomicU64 {
        direct::word_at(self.0)
    }

    #[inline(always)]
    fn identity(self) -> &'static AtomicU64 {
        direct::word_at(self.0 + 8)
    }

    /// The object, if the slot names a live object of this type with at least these permissions.
    #[inline(always)]
    pub fn lookup<T: Object>(self, need: Perms) -> Option<&'static T> {
        let word = self.word().load(Relaxed);
        let need = u64::from(need.bits());
        if word & need != need || word == 0 {
            return None;
        }
        let header = header_of(word);
        // The type is read after the identity: an object gets both before it lives, and no slot gets another object while
        // this CPU is in the kernel.
        if header.id.observe() != self.identity().load(Relaxed) || header.kind.get() != T::TYPE as u64 {
            return None;
        }
        // SAFETY: the slot holds a live object of this type.
        Some(unsafe { &*(header as *const Header).cast() })
    }

    /// The capability, if its object lives.
    #[inline(always)]
    pub fn load(self) -> Option<RawCap> {
        let raw = RawCap { word: self.word().load(Relaxed), id: self.identity().load(Relaxed) };
        (raw.word != 0 && header_of(raw.word).id.observe() == raw.id).then_some(raw)
    }

    /// Overwrites the slot.
    #[inline(always)]
    pub fn store(self, raw: RawCap) {
        self.identity().store(NO_ID, Relaxed);
        // Ordering: the two Release stores keep the order described at the type for a reader's plain loads (x86: TSO).
        self.word().store(raw.word, Release);
        self.identity().store(raw.id, Release);
    }

    /// Overwrites the slot with a capability to an object. One that died in the meantime is never found there.
    #[inline(always)]
    pub fn store_object<T: Object>(self, object: &'static T, perms: Perms) {
        let id = match object.id() {
            0 => NO_ID,
            id => id,
        };
        self.store(RawCap { word: object.addr() | u64::from(perms.bits()), id });
    }

    /// Empties the slot.
    #[inline(always)]
    pub fn clear(self) {
        self.identity().store(NO_ID, Relaxed);
        self.word().store(0, Release);
    }
}
