//! Calling RPC objects, and the UTCB as message buffer.

use abi::cap::{Perms, Sel};
use abi::message::CapItem;
pub use abi::session::rpc::{Error, Interface, Never, Refusal, ServedBy, Transport};
use abi::session::wire::{Buffer, Message};
use abi::status::Status;
use abi::utcb::Utcb;

use crate::capability::{self, Cap, Capability};
use crate::sys::{syscall, utcb};

/// A typed client of an interface.
pub type Client<I> = <I as Interface>::Client<Remote>;

/// The client of the object that a capability names.
pub fn client<I: Interface>(cap: &Cap<I>) -> Client<I> {
    Remote(cap.name().clone()).into()
}

/// The UTCB of the running context, and the names of this component: what servers decode from.
#[derive(Clone, Copy, Debug)]
pub struct OwnUtcb;

impl Buffer for OwnUtcb {
    type Cap = Capability;

    #[inline]
    fn with<R>(&self, access: impl FnOnce(&mut Utcb) -> R) -> R {
        utcb::with(access)
    }

    fn send(&self, cap: &Capability, perms: Perms) -> CapItem {
        capability::item(cap.sel(), perms)
    }

    fn receive(&self, index: usize) -> Option<Capability> {
        Capability::receive(index)
    }
}

/// An object reached through a capability.
#[derive(Clone, Debug)]
pub struct Remote(Capability);

impl Remote {
    /// The capability.
    #[must_use]
    pub const fn capability(&self) -> &Capability {
        &self.0
    }
}

impl Buffer for Remote {
    type Cap = Capability;

    #[inline]
    fn with<R>(&self, access: impl FnOnce(&mut Utcb) -> R) -> R {
        OwnUtcb.with(access)
    }

    fn send(&self, cap: &Capability, perms: Perms) -> CapItem {
        OwnUtcb.send(cap, perms)
    }

    fn receive(&self, index: usize) -> Option<Capability> {
        OwnUtcb.receive(index)
    }
}

impl Transport for Remote {
    #[inline]
    fn call(&self, message: Message) -> Result<Message, Status> {
        syscall::call(self.0.sel(), message)
    }
}

/// An object reached through a bare selector, which names capabilities by bare selectors too. For what must not allocate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unnamed(pub Sel);

impl Buffer for Unnamed {
    type Cap = Sel;

    fn with<R>(&self, access: impl FnOnce(&mut Utcb) -> R) -> R {
        utcb::with(access)
    }

    fn send(&self, cap: &Sel, perms: Perms) -> CapItem {
        capability::item(*cap, perms)
    }

    fn receive(&self, index: usize) -> Option<Sel> {
        capability::receive_unnamed(index)
    }
}

impl Transport for Unnamed {
    fn call(&self, message: Message) -> Result<Message, Status> {
        syscall::call(self.0, message)
    }
}
