//! References from objects to objects: [`Link`] where the referrer knows that the other lives, [`Weak`] where it does not.

use super::{NO_ID, Object, Word, id_to_keep};
use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;

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
        self.id.set(object.map_or(NO_ID, id_to_keep));
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
