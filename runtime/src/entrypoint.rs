//! Entrypoint: one context that handles the calls of all RPC objects and all signals, one at a time.

use alloc::rc::Rc;
use core::cell::RefCell;
use core::convert::Infallible;

use abi::cap::Sel;
use abi::hypercall::SmDown;
use abi::message::Tag;
use abi::session::rpc::{Refusal, ServedBy};
use abi::session::wire::{InterruptSemaphore, Message, Signal};
use abi::state::Mtd;
use abi::status::Status;

use crate::capability::{Cap, Capability};
use crate::registry::Registry;
use crate::rpc::OwnUtcb;
use crate::selector;
use crate::semaphore;
use crate::sys::object::{ObjectId, Objects, object_id};
use crate::sys::portal::{Handler, LocalEc};
use crate::sys::syscall;

/// Id of the portal through which the signal thread forwards signals. Nobody else has a capability for it.
const SIGNAL_PORTAL: u64 = 0;

type SignalFn = Rc<RefCell<dyn FnMut(u64)>>;

/// An entrypoint. Clones are the same one.
#[derive(Clone)]
pub struct Entrypoint(Rc<Inner>);

struct Inner {
    ec: LocalEc,
    receiver: SignalReceiver,
    objects: Objects,
    signals: RefCell<Registry<SignalFn>>,
}

impl core::fmt::Debug for Entrypoint {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.debug_struct("Entrypoint").field("ec", &self.0.ec).finish_non_exhaustive()
    }
}

impl Entrypoint {
    /// The entrypoint of the running context `ec`, to be its handler. A thread must run [`SignalReceiver::forward`].
    pub(crate) fn new(ec: LocalEc, receiver: SignalReceiver) -> Self {
        Self(Rc::new(Inner { ec, receiver, objects: Objects::new(), signals: RefCell::default() }))
    }

    /// Makes a server object reachable. Clients get [`Managed::cap`].
    ///
    /// # Errors
    /// The account cannot pay for the portal.
    pub fn manage<I, S>(&self, server: Rc<RefCell<S>>) -> Result<Managed<I>, Status>
    where
        I: ServedBy<S, OwnUtcb>,
        S: 'static,
    {
        let sel = selector::allocate().ok_or(Status::OutOfMemory)?;
        match self.0.objects.insert::<I, S>(&self.0.ec, sel, server) {
            Ok(id) => {
                let cap = Cap::new(Capability::own_portal(sel, id.raw()));
                Ok(Managed { entrypoint: self.clone(), id, cap })
            }
            Err(status) => {
                selector::free(sel);
                Err(status)
            }
        }
    }

    /// The server object behind a capability, if it is one of this entrypoint and of this type.
    #[must_use]
    pub fn resolve<S: 'static>(&self, cap: &Capability) -> Option<Rc<RefCell<S>>> {
        self.0.objects.get(object_id(cap.own_id()?)?)?.downcast().ok()
    }

    /// Calls `handler` for signals to [`SignalHandler::cap`], with the number of signals since the last time. Several
    /// events can make one signal: read the state it is about until nothing is left.
    ///
    /// # Errors
    /// The account cannot pay for the semaphore.
    pub fn signal_handler(&self, handler: impl FnMut(u64) + 'static) -> Result<SignalHandler, Status> {
        let id = self.0.signals.borrow_mut().insert(Rc::new(RefCell::new(handler)));
        match semaphore::create_member(0, self.0.receiver.semaphore, id) {
            Ok(sel) => {
                let cap = Cap::new(Capability::made(sel));
                Ok(SignalHandler { entrypoint: self.clone(), id, cap })
            }
            Err(status) => {
                let _handler: Option<SignalFn> = self.0.signals.borrow_mut().remove(id);
                Err(status)
            }
        }
    }

    fn signal(&self, id: u64, count: u64) {
        let handler = self.0.signals.borrow().get(id).map(Rc::clone);
        // A signal may arrive after its handler was dissolved.
        if let Some(handler) = handler
            && let Ok(mut handler) = handler.try_borrow_mut()
        {
            handler(count);
        }
    }
}

impl Handler for Entrypoint {
    /// Server objects have entries of their own, so what comes here is a signal.
    fn handle(&mut self, id: u64, message: Message) -> Message {
        if id != SIGNAL_PORTAL {
            return Refusal::NoObject.message();
        }
        let [id, count, ..] = message.words;
        self.signal(id, count);
        Message::default()
    }
}

/// Where the signals of one entrypoint arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SignalReceiver {
    semaphore: Sel,
}

impl SignalReceiver {
    /// A receiver for a new entrypoint.
    ///
    /// # Errors
    /// The account cannot pay for the semaphore.
    pub(crate) fn create() -> Result<Self, Status> {
        Ok(Self { semaphore: semaphore::create(0)? })
    }

    /// Waits for signals and has the entrypoint on `ec` handle each, for ever.
    ///
    /// # Errors
    /// The account cannot pay for the portal, or receiver or entrypoint are gone.
    pub(crate) fn forward(self, ec: &LocalEc) -> Result<Infallible, Status> {
        let portal = selector::allocate().ok_or(Status::OutOfMemory)?;
        ec.create_portal(portal, SIGNAL_PORTAL, Mtd::empty())?;
        loop {
            let member = syscall::sm_down(SmDown { sm: self.semaphore, zero: false, deadline: SmDown::FOREVER })?;
            syscall::call(portal, Message { tag: Tag::default(), words: [member.rdx, member.r8, 0, 0] })?;
        }
    }
}

/// A reachable server object. Dropping it makes it unreachable: later calls fail.
#[derive(Debug)]
pub struct Managed<I> {
    entrypoint: Entrypoint,
    id: ObjectId,
    cap: Cap<I>,
}

impl<I> Managed<I> {
    /// What clients are given.
    #[must_use]
    pub const fn cap(&self) -> &Cap<I> {
        &self.cap
    }
}

impl<I> Drop for Managed<I> {
    fn drop(&mut self) {
        // The portal exists: this component made it and destroys it only here.
        let _destroyed = syscall::destroy(self.cap.name().sel());
        drop(self.entrypoint.0.objects.remove(self.id));
    }
}

/// A signal handler. Dropping it ends the signals.
#[derive(Debug)]
pub struct SignalHandler {
    entrypoint: Entrypoint,
    id: u64,
    cap: Cap<Signal>,
}

impl SignalHandler {
    /// What signallers are given.
    #[must_use]
    pub const fn cap(&self) -> &Cap<Signal> {
        &self.cap
    }

    /// What an IRQ session is given.
    #[must_use]
    pub fn interrupt_cap(&self) -> Cap<InterruptSemaphore> {
        self.cap.clone().cast()
    }

    /// Lets the next interrupt of a level-triggered line come. Not for others: it forgets interrupts that have come since the handler
    /// was called.
    pub fn acknowledge_interrupt(&self) {
        semaphore::take_all(self.cap.name().sel());
    }
}

impl Drop for SignalHandler {
    fn drop(&mut self) {
        // The semaphore of an interrupt may be gone, with the IRQ session.
        let _destroyed = syscall::destroy(self.cap.name().sel());
        // Dropped when the borrow has ended, because what it holds may come back here.
        let _handler: Option<SignalFn> = self.entrypoint.0.signals.borrow_mut().remove(self.id);
    }
}

/// Submits a signal. It never blocks and never fails visibly: a receiver that is gone gets nothing.
pub fn submit(signal: &Cap<Signal>) {
    let _gone = semaphore::up(signal.name().sel());
}
