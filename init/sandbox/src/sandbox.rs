//! A sandbox: children made by configuration, and their end.

use crate::backend::{Backend, ChildId};
use crate::config::{Config, Start};
use crate::restart::Backoff;
use crate::session::{Server, Session, SessionId, State};
use abi::session::cpu;
use abi::session::initial::session_id;
use abi::session::parent::{Quota, SessionError};
use abi::session::rpc::Interface as _;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

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
    /// It could not be started, or has ended by a fault or with an exit value other than 0.
    pub(crate) has_failed: bool,
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
    pub(crate) program: Option<B::Program>,
}

impl<B: Backend> Child<B> {
    /// One that has nothing yet, born at `now`.
    pub(crate) const fn new(start: Start, backoff: Backoff, endowment: Quota, now: u64) -> Self {
        Self {
            start,
            phase: Phase::Starting,
            born: now,
            backoff,
            has_failed: false,
            account: None,
            endowment,
            sessions: BTreeMap::new(),
            session_sigh: None,
            owes_signal: false,
            requests: None,
            program: None,
        }
    }
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
        if self.children.get(&id).is_some_and(|child| child.phase != Phase::Ended) {
            self.break_off(id, format_args!("faulted"));
        }
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
            self.retry(start, backoff);
        }
        self.start_waiting(now);
    }

    /// Lets a child be started again that is to be: when, its former lives say.
    pub(crate) fn retry(&mut self, start: Start, backoff: Backoff) {
        if start.restart {
            let due = self.backend.now().saturating_add(backoff.delay());
            self.waiting.push(Waiting { start, backoff, due });
            self.backend.wake();
        }
    }

    /// Starts the children that have waited long enough.
    fn start_waiting(&mut self, now: u64) {
        let (due, waiting) = core::mem::take(&mut self.waiting).into_iter().partition(|child| child.due <= now);
        self.waiting = waiting;
        let due: Vec<Waiting> = due;
        self.start_children(due.into_iter().map(|Waiting { start, backoff, .. }| (start, backoff)));
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
        let is_cpu = |id: &SessionId| self.sessions.get(id).is_some_and(|session| session.service == cpu::Cpu::NAME);
        let cpus: Vec<SessionId> = own.values().copied().filter(is_cpu).collect();
        for session in cpus {
            self.abandon(session);
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
        session.donated = Quota::default();
        let Some(client) = session.client else {
            self.forget(id);
            return;
        };
        match session.state {
            State::Failed(_) | State::Dead => {}
            State::CreateRequested | State::Available if !session.close_wanted => self.fail(id, SessionError::Denied),
            State::CreateRequested | State::Available | State::CloseRequested => {
                self.end(id);
                self.notify(client.child);
            }
            State::HandedOut => session.state = State::Dead,
            State::UpgradeRequested => {
                session.state = State::Dead;
                self.notify(client.child);
            }
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
