//! Entrypoint: one context that handles the calls of all RPC objects and all signals, one at a time.

use alloc::rc::Rc;
use core::any::Any;
use core::cell::RefCell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::cap::Sel;
use abi::hypercall::SmDown;
use abi::message::Tag;
use abi::session::rpc::{Refusal, ServedBy};
use abi::session::wire::{InterruptSemaphore, Message, Signal};
use abi::status::Status;

use crate::capability::{Cap, Capability};
use crate::registry::{self, Registry};
use crate::rpc::OwnUtcb;
use crate::selector;
use crate::semaphore;
use crate::sys::portal::{Handler, LocalEc};
use crate::sys::syscall;

/// Where the next entrypoint's portal ids begin. Below the first are those of other handlers, so that a capability which
/// comes home names an object of an entrypoint exactly if its id does.
static NEXT_IDS: AtomicU64 = AtomicU64::new(registry::SPAN);

/// Something that handles calls.
trait Object {
    fn call(&self, message: Message) -> Message;
}

/// A server object together with the interface it serves.
struct Served<I, S> {
    server: Rc<RefCell<S>>,
    interface: PhantomData<fn() -> I>,
}

impl<I: ServedBy<S, OwnUtcb>, S> Object for Served<I, S> {
    #[inline]
    fn call(&self, message: Message) -> Message {
        // A context handles one call at a time and cannot call itself, so nobody else borrows the server.
        match self.server.try_borrow_mut() {
            Ok(mut server) => I::dispatch(&mut *server, &OwnUtcb, message),
            Err(_) => Refusal::NoObject.message(),
        }
    }
}

#[derive(Clone)]
struct Entry {
    object: Rc<dyn Object>,
    server: Rc<dyn Any>,
}

type SignalHandlerFn = Rc<RefCell<dyn FnMut(u64)>>;

/// Where the signals of one entrypoint arrive: a semaphore, and the id of the portal through which a thread forwards
/// them to the entrypoint. Nobody else has a capability for that portal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignalReceiver {
    semaphore: Sel,
    portal_id: u64,
}

impl SignalReceiver {
    /// A receiver for a new entrypoint.
    ///
    /// # Errors
    /// The account cannot pay for the semaphore.
    pub fn create() -> Result<Self, Status> {
        let semaphore = semaphore::create(0)?;
        Ok(Self { semaphore, portal_id: NEXT_IDS.fetch_add(registry::SPAN, Ordering::Relaxed) })
    }

    /// Waits for signals and has the entrypoint on `ec` handle each, for ever.
    ///
    /// # Errors
    /// The account cannot pay for the portal, or receiver or entrypoint are gone.
    pub fn forward(self, ec: &LocalEc) -> Result<core::convert::Infallible, Status> {
        let portal = selector::allocate().ok_or(Status::OutOfMemory)?;
        ec.create_object_portal(portal, self.portal_id)?;
        loop {
            let member = syscall::sm_down(SmDown { sm: self.semaphore, zero: false, deadline: SmDown::FOREVER })?;
            syscall::call(portal, Message { tag: Tag::default(), words: [member.rdx, member.r8, 0, 0] })?;
        }
    }
}

/// An entrypoint. Clones are the same one.
#[derive(Clone)]
pub struct Entrypoint(Rc<Inner>);

struct Inner {
    ec: LocalEc,
    receiver: SignalReceiver,
    objects: RefCell<Registry<Entry>>,
    signals: RefCell<Registry<SignalHandlerFn>>,
}

impl core::fmt::Debug for Entrypoint {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.debug_struct("Entrypoint").field("ec", &self.0.ec).finish_non_exhaustive()
    }
}

impl Entrypoint {
    /// The entrypoint whose context is `ec` and whose signals arrive at `receiver`. It must be the handler of `ec`, and a
    /// thread must run [`SignalReceiver::forward`].
    #[must_use]
    pub fn new(ec: LocalEc, receiver: SignalReceiver) -> Self {
        let objects = RefCell::new(Registry::starting_at(receiver.portal_id + 1));
        let signals = RefCell::new(Registry::starting_at(0));
        Self(Rc::new(Inner { ec, receiver, objects, signals }))
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
        let object = Rc::new(Served::<I, S> { server: Rc::clone(&server), interface: PhantomData });
        let sel = selector::allocate().ok_or(Status::OutOfMemory)?;
        let id = self.0.objects.borrow_mut().insert(Entry { object, server });
        if let Err(status) = self.0.ec.create_object_portal(sel, id) {
            self.0.objects.borrow_mut().remove(id);
            selector::free(sel);
            return Err(status);
        }
        Ok(Managed { entrypoint: self.clone(), id, cap: Cap::new(Capability::own_portal(sel, id)) })
    }

    /// The server object behind a capability, if it is one of this entrypoint and of this type.
    #[must_use]
    pub fn resolve<S: 'static>(&self, cap: &Capability) -> Option<Rc<RefCell<S>>> {
        let id = cap.own_id()?;
        let server = Rc::clone(&self.0.objects.borrow().get(id)?.server);
        server.downcast::<RefCell<S>>().ok()
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
                let name = Capability::made(sel);
                Ok(SignalHandler { entrypoint: self.clone(), id, cap: Cap::new(name) })
            }
            Err(status) => {
                self.0.signals.borrow_mut().remove(id);
                Err(status)
            }
        }
    }

    fn call(&self, id: u64, message: Message) -> Message {
        // The clone keeps the object while it is handled: it may dissolve itself.
        let object = self.0.objects.borrow().get(id).map(|entry| Rc::clone(&entry.object));
        match object {
            Some(object) => object.call(message),
            None if id == self.0.receiver.portal_id => self.signal(message),
            None => Refusal::NoObject.message(),
        }
    }

    fn signal(&self, message: Message) -> Message {
        let [id, count, ..] = message.words;
        let handler = self.0.signals.borrow().get(id).map(Rc::clone);
        // A signal may arrive after its handler was dissolved.
        if let Some(handler) = handler
            && let Ok(mut handler) = handler.try_borrow_mut()
        {
            handler(count);
        }
        Message::default()
    }
}

impl Handler for Entrypoint {
    #[inline]
    fn handle(&self, id: u64, message: Message) -> Message {
        self.call(id, message)
    }
}

/// A reachable server object. Dropping it makes it unreachable: later calls fail.
#[derive(Debug)]
pub struct Managed<I> {
    entrypoint: Entrypoint,
    id: u64,
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
        // Dropped after the borrow ends, because the object's drop may come back here.
        let _entry = self.entrypoint.0.objects.borrow_mut().remove(self.id);
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

    /// Lets the next interrupt come: unmasks a level-triggered line.
    pub fn acknowledge_interrupt(&self) {
        semaphore::take_all(self.cap.name().sel());
    }
}

impl Drop for SignalHandler {
    fn drop(&mut self) {
        // The semaphore exists: this component made it and destroys it only here.
        let _destroyed = syscall::destroy(self.cap.name().sel());
        let _handler: Option<Rc<RefCell<dyn FnMut(u64)>>> = self.entrypoint.0.signals.borrow_mut().remove(self.id);
    }
}

/// Submits a signal. It never blocks and never fails visibly: a receiver that is gone gets nothing.
pub fn submit(signal: &Cap<Signal>) {
    let _gone = semaphore::up(signal.name().sel());
}

