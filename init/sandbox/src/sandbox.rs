//! A sandbox: children made by configuration, from their start to their end.

use crate::backend::{Backend, ChildId, Environment};
use crate::config::{Config, Start};
use crate::restart::Backoff;
use crate::session::{ClientEnd, Server, Session, SessionId, State, add, subtract};
use abi::session::affinity::Affinity;
use abi::session::args::Args;
use abi::session::initial::session_id;
use abi::session::parent::Quota;
use abi::session::rpc::Interface;
use abi::session::{cpu, log, pd, rom};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

/// Donations of the sessions that every child has, with room for some threads, and what the sandbox keeps of a
/// child's budget for the objects that it makes for the child itself.
const PD: Quota = least::<pd::Pd>();
const CPU: Quota = Quota { caps: 16, ..least::<cpu::Cpu>() };
const LOG: Quota = least::<log::Log>();
const BINARY: Quota = least::<rom::Rom>();
const CHILD: Quota = Quota { ram: 16 << 10, caps: 4 };
/// What a child's budget must at least be.
pub const CHILD_COST: Quota = add(add(PD, CPU), add(add(LOG, BINARY), CHILD));
/// What the sandbox keeps of its own budget in any case.
const RESERVE: Quota = Quota { ram: 256 << 10, caps: 16 };

const fn least<I: Interface>() -> Quota {
    Quota { ram: I::RAM_QUOTA, caps: I::CAP_QUOTA }
}

/// Exit value of a parent on behalf of a child that could not say one itself: it was never started, or was stopped by a
/// fault.
const EXIT_FAILURE: i64 = 1;

/// Where a child is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Sessions that it needs are pending.
    Starting,
    /// Its first thread was started.
    Running,
    /// It has exited or faulted, and will be destroyed.
    Ended,
}

/// A child.
pub struct Child<B: Backend> {
    /// Its node of the configuration.
    pub start: Start,
    /// Where it is in its life.
    pub phase: Phase,
    /// When this life began, in the backend's microseconds.
    born: u64,
    /// Its former lives.
    backoff: Backoff,
    /// It has ended by a fault or with an exit value other than 0.
    has_failed: bool,
    /// Its account, once there is its PD session.
    pub account: Option<B::Account>,
    /// What is to be moved to its account then.
    pub(crate) endowment: Quota,
    /// Its sessions by its ids.
    pub sessions: BTreeMap<u64, SessionId>,
    /// Told about finished session operations.
    pub(crate) session_sigh: Option<B::Signal>,
    /// Whether such a signal is due and there was nobody to tell.
    pub(crate) owes_signal: bool,
    /// ROM session of its session requests.
    pub(crate) requests: Option<SessionId>,
    program: Option<B::Program>,
}

/// A child that will be started again.
struct Waiting {
    start: Start,
    backoff: Backoff,
    /// When, in the backend's microseconds.
    due: u64,
}

/// The children of one configuration.
pub struct Sandbox<B: Backend> {
    pub(crate) backend: B,
    pub(crate) config: Config,
    pub(crate) children: BTreeMap<ChildId, Child<B>>,
    pub(crate) sessions: BTreeMap<SessionId, Session<B>>,
    waiting: Vec<Waiting>,
    next: u64,
}

impl<B: Backend> Sandbox<B> {
    /// A sandbox without children.
    pub fn new(backend: B, config: Config) -> Self {
        Self { backend, config, children: BTreeMap::new(), sessions: BTreeMap::new(), waiting: Vec::new(), next: 0 }
    }

    /// Starts the children of the configuration. What is wrong with one is logged and does not concern the others.
    pub fn start(&mut self) {
        for warning in &self.config.warnings {
            self.backend.log(format_args!("{warning}"));
        }
        for start in self.config.starts.clone() {
            self.start_child(start, Backoff::default());
        }
    }

    /// What it acts upon.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// The children.
    pub fn children(&self) -> impl Iterator<Item = (ChildId, &Child<B>)> {
        self.children.iter().map(|(&id, child)| (id, child))
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn start_child(&mut self, start: Start, backoff: Backoff) {
        let Some(endowment) = self.endowment(&start) else {
            self.fail_with(&start);
            return;
        };
        let id = ChildId(self.next_id());
        let (name, binary) = (start.name.clone(), start.binary.clone());
        let child = Child {
            start,
            phase: Phase::Starting,
            born: self.backend.now(),
            backoff,
            has_failed: false,
            account: None,
            endowment,
            sessions: BTreeMap::new(),
            session_sigh: None,
            owes_signal: false,
            requests: None,
            program: None,
        };
        self.children.insert(id, child);
        let environment = [
            (session_id::PD, pd::Pd::NAME, &name, PD),
            (session_id::CPU, cpu::Cpu::NAME, &name, CPU),
            (session_id::LOG, log::Log::NAME, &name, LOG),
            (session_id::BINARY, rom::Rom::NAME, &binary, BINARY),
        ];
        for (session, service, label, donation) in environment {
            let client = ClientEnd { child: id, id: session };
            let opened = self.open_session(client, service, label, Args(""), &Affinity::default(), donation);
            if let Err(error) = opened {
                self.not_started(id, format_args!("no {service} session \"{label}\" ({error})"));
                self.destroy(id);
                return;
            }
        }
        self.advance(id);
    }

    /// Says why a child cannot be started.
    pub(crate) fn not_started(&self, id: ChildId, reason: fmt::Arguments<'_>) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        let name = &child.start.name;
        self.backend.log(format_args!("child \"{name}\" not started: {reason}"));
        self.fail_with(&child.start);
    }

    /// A child has failed without an exit value. Where its exit would be the own one, so is this.
    pub(crate) fn fail_with(&self, start: &Start) {
        if start.propagate_exit {
            self.backend.exit(EXIT_FAILURE);
        }
    }

    /// What of the budget of a child is left for its account; `None` if the budget is too small.
    fn endowment(&self, start: &Start) -> Option<Quota> {
        let name = &start.name;
        let available = subtract(self.backend.available(), RESERVE);
        let clamp = |what: &str, wanted: u64, available: u64| {
            if wanted > available {
                self.backend
                    .log(format_args!("child \"{name}\": {what} quota {wanted} exceeds what is left, {available}"));
            }
            wanted.min(available)
        };
        let ram = clamp("RAM", start.ram, available.ram);
        let caps = clamp("cap", start.caps, available.caps);
        for (what, has, needs) in [("RAM", ram, CHILD_COST.ram), ("cap", caps, CHILD_COST.caps)] {
            if has < needs {
                self.backend.log(format_args!(
                    "child \"{name}\" not started: {what} quota too small, {has} of at least {needs}"
                ));
                return None;
            }
        }
        Some(subtract(Quota { ram, caps }, CHILD_COST))
    }

    /// Goes on with the start of a child whose sessions may have become available.
    pub(crate) fn advance(&mut self, id: ChildId) {
        self.endow(id);
        let Some(child) =
            self.children.get(&id).filter(|child| child.phase == Phase::Starting && child.account.is_some())
        else {
            return;
        };
        let cap = |session| self.sessions.get(child.sessions.get(&session)?)?.cap.as_ref();
        let (Some(pd), Some(cpu), Some(_), Some(binary)) =
            (cap(session_id::PD), cap(session_id::CPU), cap(session_id::LOG), cap(session_id::BINARY))
        else {
            return;
        };
        let environment = Environment { pd, cpu, binary };
        match self.backend.start(id, &child.start.name, &environment) {
            Ok(program) => {
                if let Some(child) = self.children.get_mut(&id) {
                    child.program = Some(program);
                    child.phase = Phase::Running;
                }
            }
            Err(error) => {
                self.not_started(id, format_args!("{error}"));
                self.destroy(id);
            }
        }
    }

    /// Gives a child its budget as soon as it has an account, and what its clients have donated so far.
    fn endow(&mut self, id: ChildId) {
        let Some(child) = self.children.get_mut(&id).filter(|child| child.account.is_none()) else {
            return;
        };
        let pd = child.sessions.get(&session_id::PD).and_then(|session| self.sessions.get(session));
        let Some(account) = pd.and_then(|session| session.cap.as_ref()).and_then(|cap| self.backend.adopt(cap)) else {
            return;
        };
        let clients = self.sessions.values().filter(|session| session.is_served_by(id));
        let total = clients.fold(child.endowment, |sum, session| add(sum, session.donated));
        if self.backend.give(&account, total).is_err() {
            self.backend.log(format_args!("child \"{}\": its budget cannot be paid", child.start.name));
        }
        child.account = Some(account);
        self.publish(id);
    }

    /// A child says that it has finished.
    pub fn child_exited(&mut self, id: ChildId, value: i64) {
        let Some(child) = self.children.get_mut(&id).filter(|child| child.phase != Phase::Ended) else {
            return;
        };
        child.phase = Phase::Ended;
        child.has_failed = value != 0;
        self.backend.log(format_args!("child \"{}\" exited with exit value {value}", child.start.name));
        if child.start.propagate_exit {
            self.backend.exit(value);
        }
        self.backend.wake();
    }

    /// A thread of a child was stopped by a fault.
    pub fn child_faulted(&mut self, id: ChildId) {
        let Some(child) = self.children.get_mut(&id).filter(|child| child.phase != Phase::Ended) else {
            return;
        };
        child.phase = Phase::Ended;
        child.has_failed = true;
        self.backend.log(format_args!("child \"{}\" faulted", child.start.name));
        let start = child.start.clone();
        if !start.restart {
            self.fail_with(&start);
        }
        self.backend.wake();
    }

    /// Destroys the children that have ended, and starts those anew whose time has come. Not called on behalf of a child,
    /// because its capability to its parent goes, too.
    pub fn reap(&mut self) {
        let now = self.backend.now();
        let ended: Vec<ChildId> =
            self.children.iter().filter(|(_, child)| child.phase == Phase::Ended).map(|(&id, _)| id).collect();
        for id in ended {
            let Some(child) = self.children.get(&id) else { continue };
            let start = child.start.clone();
            let backoff = child.backoff.after(now.saturating_sub(child.born), child.has_failed);
            self.destroy(id);
            let Quota { ram, caps } = self.backend.available();
            self.backend
                .log(format_args!("child \"{}\" destroyed: {ram} bytes of RAM and {caps} caps are free", start.name));
            if start.restart {
                self.waiting.push(Waiting { start, backoff, due: now.saturating_add(backoff.delay()) });
            }
        }
        self.start_waiting(now);
    }

    /// Starts the children that have waited long enough.
    fn start_waiting(&mut self, now: u64) {
        let (due, waiting) = core::mem::take(&mut self.waiting).into_iter().partition(|child| child.due <= now);
        self.waiting = waiting;
        let due: Vec<Waiting> = due;
        for Waiting { start, backoff, .. } in due {
            self.start_child(start, backoff);
        }
        if let Some(next) = self.waiting.iter().map(|child| child.due).min() {
            self.backend.wake_at(next);
        }
    }

    /// Destroys a child: first its threads stop, then its clients lose it, then its sessions are closed, latest first, and at
    /// last its protection domain goes, whose quota comes back.
    fn destroy(&mut self, id: ChildId) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        child.phase = Phase::Ended;
        let own = child.sessions.clone();
        if let Some(&cpu) = own.get(&session_id::CPU) {
            self.abandon(cpu);
        }
        let served: Vec<SessionId> =
            self.sessions.iter().filter(|(_, session)| session.is_served_by(id)).map(|(&session, _)| session).collect();
        for session in served {
            self.lose_server(session);
        }
        let pd = own.get(&session_id::PD);
        let mut rest: Vec<SessionId> = own.values().copied().filter(|session| Some(session) != pd).collect();
        rest.sort_unstable();
        for session in rest.into_iter().rev().chain(pd.copied()) {
            self.abandon(session);
        }
        self.children.remove(&id);
    }

    /// The server of a session is gone, and the donation with it.
    fn lose_server(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let pending = !matches!(session.state, State::HandedOut | State::Available);
        session.state = State::Dead;
        session.donated = Quota::default();
        let closing = session.close_wanted;
        match session.client {
            Some(client) if !closing => {
                if pending {
                    self.notify(client.child);
                }
            }
            Some(client) => {
                self.end(id);
                self.notify(client.child);
            }
            None => self.forget(id),
        }
    }

    /// Closes a session whose client is gone.
    fn abandon(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(client) = session.client.take()
            && let Some(child) = self.children.get_mut(&client.child)
        {
            child.sessions.remove(&client.id);
        }
        match (&session.server, session.state) {
            (&Server::Parent(parent), _) => {
                self.backend.close(parent);
                self.sessions.remove(&id);
            }
            (&Server::Child(server), State::HandedOut | State::Available | State::UpgradeRequested) => {
                session.state = State::CloseRequested;
                self.publish(server);
            }
            // The answer is still to come.
            (Server::Child(_), State::CreateRequested | State::CloseRequested) => session.close_wanted = true,
            (Server::Child(_) | Server::Own(_), _) => drop(self.sessions.remove(&id)),
        }
    }
}
