//! Capabilities in messages: what they name, and with which permissions they travel.

use core::marker::PhantomData;

use super::{Buffer, Malformed, Reader, TooLong, Wire, Writer};
use crate::cap::Perms;

/// What a capability names: an interface, or one of the kernel's objects.
pub trait Kind: 'static {
    /// Permissions passed on when a capability of this kind travels.
    const PERMS: Perms;
}

/// A signal context: an up of its semaphore is a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal;
impl Kind for Signal {
    const PERMS: Perms = Perms::SM_UP;
}

/// A semaphore that core may bind to an interrupt (which needs the right to take from it), and that it destroys when it takes
/// the interrupt back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterruptSemaphore;
impl Kind for InterruptSemaphore {
    const PERMS: Perms = Perms::SM_UP.union(Perms::SM_DOWN).union(Perms::DESTROY);
}

/// A virtual CPU, which its VMM may recall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VcpuContext;
impl Kind for VcpuContext {
    const PERMS: Perms = Perms::EC_CTRL;
}

/// Any RPC object: what a session request yields before the client gives it its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnyObject;
impl Kind for AnyObject {
    const PERMS: Perms = Perms::PT_CALL;
}

/// A capability, named by `C`, of a stated kind. The kind of a received one is the sender's claim.
#[derive(Debug)]
pub struct Typed<K, C> {
    name: C,
    kind: PhantomData<fn() -> K>,
}

impl<K, C> Typed<K, C> {
    /// States the kind of a capability.
    pub const fn new(name: C) -> Self {
        Self { name, kind: PhantomData }
    }

    /// The capability without its kind.
    pub const fn name(&self) -> &C {
        &self.name
    }

    /// The capability without its kind.
    pub fn into_name(self) -> C {
        self.name
    }

    /// States another kind.
    pub fn cast<J>(self) -> Typed<J, C> {
        Typed::new(self.name)
    }
}

impl<K, C: Clone> Clone for Typed<K, C> {
    fn clone(&self) -> Self {
        Self::new(self.name.clone())
    }
}

impl<K, C: PartialEq> PartialEq for Typed<K, C> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl<K, C: Eq> Eq for Typed<K, C> {}

/// In an interface: a capability of kind `K`. Both sides handle it as [`Typed`].
#[derive(Debug)]
pub struct Cap<K>(PhantomData<fn() -> K>);

impl<K: Kind, C> Wire<C> for Cap<K> {
    type Value = Typed<K, C>;
    type Ref<'a>
        = &'a Typed<K, C>
    where
        C: 'a;
    fn borrow(value: &Self::Value) -> Self::Ref<'_>
    where
        C: 'static,
    {
        value
    }
    fn put<B: Buffer<Cap = C>>(value: Self::Ref<'_>, writer: &mut Writer<'_, B>) -> Result<(), TooLong> {
        writer.cap(value.name(), K::PERMS)
    }
    fn get<B: Buffer<Cap = C>>(reader: &mut Reader<'_, B>) -> Result<Self::Value, Malformed> {
        reader.cap().map(Typed::new)
    }
}
