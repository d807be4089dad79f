//! A client that reaches its server without a kernel: both look at the same buffer.

use std::cell::{Cell, RefCell};

use abi::cap::{Perms, Sel};
use abi::message::{CapItem, MAX_CAPS, MAX_WORDS};
use abi::session::rpc::Transport;
use abi::session::wire::{Buffer, Message, Typed};
use abi::status::Status;
use abi::utcb::Utcb;

/// A capability of the tests: as an item.
pub fn cap<K>(sel: u64) -> Typed<K, CapItem> {
    Typed::new(CapItem { sel, info: Perms::ALL.bits().into(), identity: sel })
}

/// A UTCB, and what happened to it.
pub struct HostBuffer {
    utcb: RefCell<Utcb>,
    accesses: Cell<usize>,
    received: Cell<usize>,
    sent: Cell<Perms>,
}

impl Default for HostBuffer {
    fn default() -> Self {
        let utcb = Utcb {
            words: [0; MAX_WORDS],
            caps: [CapItem::default(); MAX_CAPS],
            window_base: 0,
            window_count: 0,
            user: [0; 38],
        };
        Self {
            utcb: RefCell::new(utcb),
            accesses: Cell::new(0),
            received: Cell::new(0),
            sent: Cell::new(Perms::empty()),
        }
    }
}

impl HostBuffer {
    /// Number of accesses.
    pub fn accesses(&self) -> usize {
        self.accesses.get()
    }

    /// Number of items taken over.
    pub fn received(&self) -> usize {
        self.received.get()
    }

    /// Permissions of the item sent last.
    pub fn sent(&self) -> Perms {
        self.sent.get()
    }

    /// Puts something in, as the kernel does.
    pub fn fill(&self, words: &[u64], caps: &[Sel]) {
        let mut utcb = self.utcb.borrow_mut();
        utcb.words[..words.len()].copy_from_slice(words);
        for (slot, sel) in utcb.caps.iter_mut().zip(caps) {
            *slot = CapItem { sel: sel.0, info: 0, identity: sel.0 };
        }
    }
}

impl Buffer for HostBuffer {
    type Cap = CapItem;

    fn with<R>(&self, access: impl FnOnce(&mut Utcb) -> R) -> R {
        self.accesses.set(self.accesses.get() + 1);
        access(&mut self.utcb.borrow_mut())
    }

    fn send(&self, cap: &CapItem, perms: Perms) -> CapItem {
        self.sent.set(perms);
        CapItem { info: perms.bits().into(), ..*cap }
    }

    fn receive(&self, index: usize) -> Option<CapItem> {
        self.received.set(self.received.get() + 1);
        self.utcb.borrow().caps.get(index).copied().filter(|item| item.identity != 0)
    }
}

type Portal<'a> = dyn FnMut(Message) -> Result<Message, Status> + 'a;

/// Calls a function instead of a portal.
pub struct Loopback<'a> {
    buffer: &'a HostBuffer,
    portal: RefCell<Box<Portal<'a>>>,
}

impl<'a> Loopback<'a> {
    /// Calls `portal`.
    pub fn new(buffer: &'a HostBuffer, mut portal: impl FnMut(Message) -> Message + 'a) -> Self {
        Self::failing(buffer, move |message| Ok(portal(message)))
    }

    /// Calls `portal`, which may fail as a hypercall does.
    pub fn failing(buffer: &'a HostBuffer, portal: impl FnMut(Message) -> Result<Message, Status> + 'a) -> Self {
        Self { buffer, portal: RefCell::new(Box::new(portal)) }
    }
}

impl Buffer for Loopback<'_> {
    type Cap = CapItem;

    fn with<R>(&self, access: impl FnOnce(&mut Utcb) -> R) -> R {
        self.buffer.with(access)
    }
    fn send(&self, cap: &CapItem, perms: Perms) -> CapItem {
        self.buffer.send(cap, perms)
    }
    fn receive(&self, index: usize) -> Option<CapItem> {
        self.buffer.receive(index)
    }
}

impl Transport for Loopback<'_> {
    fn call(&self, message: Message) -> Result<Message, Status> {
        (self.portal.borrow_mut())(message)
    }
}
