//! The environment: what a component reaches from the start, and sessions through its parent.

use alloc::boxed::Box;
use alloc::format;
use core::cell::{Cell, RefCell};
use core::ops::Deref;

use abi::cap::MemRights;
use abi::hypercall::CpuId;
use abi::session::affinity::Affinity;
use abi::session::args::{self, Args};
use abi::session::cpu::Cpu;
use abi::session::dataspace::Dataspace;
use abi::session::initial::{self, session_id};
use abi::session::log::Log;
use abi::session::parent::{Parent, Progress, Quota, SessionError};
use abi::session::pd::{Pd, Platform};
use abi::session::region_map::RegionMap;
use abi::session::rpc::{Error as CallError, Interface};
use abi::session::wire::{AnyObject, Signal};

use crate::capability::{Cap, Capability};
use crate::dataspace::{Attached, AttachedRam, Ram};
use crate::donation::{Donation, Next};
use crate::entrypoint::Entrypoint;
use crate::error::Error;
use crate::root::Root;
use crate::rpc::{self, Client};
use crate::semaphore;
use crate::sys::stack::Slot;
use crate::sys::tsc;
use crate::thread::{Spawner, Thread, ThreadOptions};
use crate::{heap, log};

/// The environment. It belongs to the entrypoint: other threads have what they are given.
#[derive(Debug)]
pub struct Env {
    sessions: InitialSessions,
    entrypoint: Entrypoint,
    /// Ups when a pending session operation has finished.
    operation_done: Cap<Signal>,
    /// Ups when the parent has raised the quota.
    resources_available: Cap<Signal>,
    /// The component's own signal for session operations, when it does some without waiting.
    own_session_sigh: RefCell<Option<Cap<Signal>>>,
    next_session: Cell<u64>,
    root: RefCell<Option<Root>>,
}

/// The sessions that every component has. Unlike [`Env`], which needs an entrypoint, they can go to another context.
#[derive(Debug)]
pub(crate) struct InitialSessions {
    parent: Client<Parent>,
    platform: Platform,
    /// The other ones: all that threads take.
    own: Spawner,
}

impl InitialSessions {
    /// Asks the parent for them, and lets heap, log and clock use them.
    pub(crate) fn open() -> Result<Self, Error> {
        let parent = rpc::client(&Cap::<Parent>::new(Capability::initial(initial::PARENT)));
        let log: Cap<Log> = session_cap(&parent, session_id::LOG)?.cast();
        log::use_session(log.name().sel());
        let pd_cap: Cap<Pd> = session_cap(&parent, session_id::PD)?.cast();
        let pd = rpc::client(&pd_cap);
        let address_space_cap = pd.address_space()?;
        heap::grow_from(pd_cap.name().sel(), address_space_cap.name().sel());
        // What has been told to use them does so even where the start fails, be it to say so.
        core::mem::forget((log, pd_cap.clone(), address_space_cap.clone()));
        let address_space = rpc::client(&address_space_cap);
        let platform = pd.platform()?;
        tsc::set_hz(platform.tsc_hz);
        let cpu = rpc::client::<Cpu>(&session_cap(&parent, session_id::CPU)?.cast());
        Ok(Self { parent, platform, own: Spawner { pd, pd_cap, cpu, address_space } })
    }

    /// CPU of the first thread.
    pub(crate) fn home_cpu(&self) -> Result<CpuId, Error> {
        Ok(CpuId(self.own.cpu.physical_cpu(0)?))
    }

    /// A slot with memory for a stack.
    pub(crate) fn stack(&self, size: u64) -> Result<(Slot, AttachedRam), Error> {
        self.own.stack(size)
    }
}

fn session_cap(parent: &Client<Parent>, id: u64) -> Result<Cap<AnyObject>, Error> {
    Ok(parent.session_cap(id)?)
}

impl Env {
    /// The environment of the component, for ever.
    pub(crate) fn create(sessions: InitialSessions, entrypoint: Entrypoint) -> Result<&'static Self, Error> {
        let semaphore = || -> Result<Cap<Signal>, Error> { Ok(Cap::new(Capability::made(semaphore::create(0)?))) };
        let (operation_done, resources_available) = (semaphore()?, semaphore()?);
        sessions.parent.session_sigh(&operation_done)?;
        sessions.parent.resource_avail_sigh(&resources_available)?;
        Ok(Box::leak(Box::new(Self {
            sessions,
            entrypoint,
            operation_done,
            resources_available,
            own_session_sigh: RefCell::new(None),
            next_session: Cell::new(session_id::FREE),
            root: RefCell::new(None),
        })))
    }

    /// The parent.
    pub const fn parent(&self) -> &Client<Parent> {
        &self.sessions.parent
    }

    /// The own PD session.
    pub const fn pd(&self) -> &Client<Pd> {
        &self.sessions.own.pd
    }

    /// The own PD session, to be named in other calls.
    pub const fn pd_cap(&self) -> &Cap<Pd> {
        &self.sessions.own.pd_cap
    }

    /// The own CPU session.
    pub const fn cpu(&self) -> &Client<Cpu> {
        &self.sessions.own.cpu
    }

    /// The own address space.
    pub const fn address_space(&self) -> &Client<RegionMap> {
        &self.sessions.own.address_space
    }

    /// What the machine is.
    pub const fn platform(&self) -> &Platform {
        &self.sessions.platform
    }

    /// The entrypoint that `construct` runs on.
    pub const fn entrypoint(&self) -> &Entrypoint {
        &self.entrypoint
    }

    /// Where [`announce`](Self::announce) keeps its state.
    pub(crate) const fn root(&self) -> &RefCell<Option<Root>> {
        &self.root
    }

    /// Tells the parent that this component has finished.
    pub fn exit(&self, value: i64) {
        // If the parent is gone, so is the component.
        let _gone = self.parent().exit(value);
    }

    /// Allocates RAM of the own account and attaches it.
    ///
    /// # Errors
    /// The account cannot pay.
    pub fn alloc_ram(&self, size: u64) -> Result<AttachedRam, Error> {
        let ram =
            Ram::allocate(self.pd(), size).map_err(|error| Error::input(format!("{size} bytes of RAM: {error}")))?;
        let attached = self.attach(ram.cap(), MemRights::READ.union(MemRights::WRITE))?;
        Ok(AttachedRam::new(attached, ram))
    }

    /// Attaches a dataspace to the own address space.
    ///
    /// # Errors
    /// It is none, or the account cannot pay.
    pub fn attach(&self, dataspace: &Cap<Dataspace>, rights: MemRights) -> Result<Attached, Error> {
        Ok(Attached::attach(self.address_space(), dataspace, rights)?)
    }

    /// What makes threads, for any thread.
    pub fn spawner(&self) -> Spawner {
        self.sessions.own.clone()
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// The account cannot pay, or there is no such CPU.
    pub fn spawn(&self, options: ThreadOptions<'_>, body: impl FnOnce() + Send + 'static) -> Result<Thread, Error> {
        self.sessions.own.spawn(options, body)
    }

    /// Opens a session with an empty label. `args` may hold further session arguments, and a larger donation than the
    /// interface's minimum. Waits until the server has answered; closing is by drop.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn connect<I: Interface>(&'static self, args: &str) -> Result<Connection<I>, Error> {
        self.connect_label(Args(args).label(), args)
    }

    /// Opens a session with a label.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn connect_label<I: Interface>(&'static self, label: &str, args: &str) -> Result<Connection<I>, Error> {
        let labelled = Args(args).with(args::LABEL, label).map_err(|_| Error::input("session arguments too long"))?;
        let id = self.new_session_id();
        let cap = self.open_session(id, I::NAME, Args(&labelled), I::LEAST)?;
        let cap = cap.cast();
        Ok(Connection { client: rpc::client(&cap), cap, id, env: self })
    }

    /// A session id that was not used before.
    pub fn new_session_id(&self) -> u64 {
        let id = self.next_session.get();
        self.next_session.set(id + 1);
        id
    }

    /// Sets a signal for session operations that the component does at its parent without waiting.
    ///
    /// # Errors
    /// The parent is dead.
    pub fn session_sigh(&self, sigh: &Cap<Signal>) -> Result<(), Error> {
        *self.own_session_sigh.borrow_mut() = Some(sigh.clone());
        Ok(self.parent().session_sigh(sigh)?)
    }

    fn open_session(
        &self,
        id: u64,
        service: &'static str,
        args: Args<'_>,
        least: Quota,
    ) -> Result<Cap<AnyObject>, Error> {
        let mut donation = Donation::new(args.quota(), least);
        loop {
            let text = args.with_quota(donation.quota()).map_err(|_| Error::input("session arguments too long"))?;
            let reason = match self.request(id, service, &text) {
                Ok(cap) => return Ok(cap),
                Err(CallError::Server(reason)) => reason,
                Err(error) => return Err(error.into()),
            };
            match donation.refused(reason) {
                Next::Retry => {}
                Next::Ask(wish) => self.wait_for_resources(wish)?,
                Next::GiveUp => return Err(Error::Session { service, reason }),
            }
        }
    }

    /// One attempt, waited for.
    fn request(&self, id: u64, service: &str, args: &str) -> Result<Cap<AnyObject>, CallError<SessionError>> {
        if let Some(cap) = self.parent().session(id, service, args, Affinity::default())? {
            return Ok(cap);
        }
        self.waiting(|| match self.parent().session_cap(id) {
            Err(CallError::Server(SessionError::StillPending)) => None,
            result => Some(result),
        })
    }

    /// Asks the parent for more and waits until something has changed.
    fn wait_for_resources(&self, wish: Quota) -> Result<(), Error> {
        self.parent().resource_request(wish)?;
        Ok(semaphore::down(self.resources_available.name().sel())?)
    }

    /// Waits until `finished` has a result, looking again after each finished session operation.
    fn waiting<R>(&self, mut finished: impl FnMut() -> Option<R>) -> R {
        let own = self.own_session_sigh.borrow().clone();
        if own.is_some() {
            // Late registration signals at once if an operation has finished already. Without parent nothing matters.
            let _gone = self.parent().session_sigh(&self.operation_done);
        }
        let result = loop {
            // The semaphore is this component's own: waiting cannot fail.
            let _done = semaphore::down(self.operation_done.name().sel());
            if let Some(result) = finished() {
                break result;
            }
        };
        if let Some(own) = own {
            let _gone = self.parent().session_sigh(&own);
        }
        result
    }
}

/// An open session: its client. Closed when dropped.
pub struct Connection<I: Interface> {
    client: Client<I>,
    cap: Cap<I>,
    id: u64,
    env: &'static Env,
}

impl<I: Interface> core::fmt::Debug for Connection<I> {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "{} session {}", I::NAME, self.id)
    }
}

impl<I: Interface> Connection<I> {
    /// The session's capability.
    pub const fn cap(&self) -> &Cap<I> {
        &self.cap
    }

    /// Adds to the donation, after the server has said that it is used up.
    ///
    /// # Errors
    /// The account cannot pay.
    pub fn upgrade(&self, quota: Quota) -> Result<(), Error> {
        if self.env.parent().upgrade(self.id, quota)? == Progress::Pending {
            // `session_cap` says "still pending" until the upgrade is done.
            self.env.waiting(|| match self.env.parent().session_cap(self.id) {
                Err(CallError::Server(SessionError::StillPending)) => None,
                result => Some(result),
            })?;
        }
        Ok(())
    }
}

impl<I: Interface> Deref for Connection<I> {
    type Target = Client<I>;
    fn deref(&self) -> &Client<I> {
        &self.client
    }
}

impl<I: Interface> Drop for Connection<I> {
    fn drop(&mut self) {
        // The parent gets the donation back whether or not the server answers, and the id is not used again.
        let _closing = self.env.parent().close(self.id);
    }
}
