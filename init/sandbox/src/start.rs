//! The start of children: their budgets, the sessions that every one has, and at last their first threads.

use crate::backend::{Backend, ChildId, Environment};
use crate::config::Start;
use crate::restart::Backoff;
use crate::sandbox::{Child, Phase, Sandbox};
use crate::session::{ClientEnd, add, subtract};
use abi::session::affinity::Affinity;
use abi::session::args::Args;
use abi::session::initial::session_id;
use abi::session::parent::Quota;
use abi::session::rpc::Interface;
use abi::session::{cpu, log, pd, rom};
use alloc::vec::Vec;
use core::fmt;

/// Donations of the sessions that every child has, with room for some threads, and what the sandbox keeps of a
/// child's budget for the objects that it makes for the child itself.
const PD: Quota = pd::Pd::LEAST;
const CPU: Quota = Quota { caps: 16, ..cpu::Cpu::LEAST };
const LOG: Quota = log::Log::LEAST;
const BINARY: Quota = rom::Rom::LEAST;
const CHILD: Quota = Quota { ram: 16 << 10, caps: 4 };
/// What a child's budget must at least be.
pub const CHILD_COST: Quota = add(add(PD, CPU), add(add(LOG, BINARY), CHILD));
/// What the sandbox keeps of its own budget in any case.
const RESERVE: Quota = Quota { ram: 256 << 10, caps: 16 };

/// Exit value of a parent on behalf of a child that could not say one itself: it was never started, or was stopped by a
/// fault.
const EXIT_FAILURE: i64 = 1;

impl<B: Backend> Sandbox<B> {
    /// Starts the children of the configuration. What is wrong with one is logged and does not concern the others.
    pub fn start(&mut self) {
        for warning in &self.config.warnings {
            self.backend.log(format_args!("{warning}"));
        }
        let starts = self.config.starts.clone();
        self.start_children(starts.into_iter().map(|start| (start, Backoff::default())));
    }

    /// Starts children. All have their accounts before the first asks for more, because it may be served by a later one.
    pub(crate) fn start_children(&mut self, starts: impl Iterator<Item = (Start, Backoff)>) {
        let mut begun = Vec::new();
        // What those begun will still be given.
        let mut promised = Quota::default();
        for (start, backoff) in starts {
            let Some(endowment) = self.endowment(&start, promised) else {
                self.failed(&start);
                self.retry(start, backoff.after(0, true));
                continue;
            };
            let id = self.begin(start, backoff, endowment);
            if self.open_environment(id, [(session_id::PD, PD)]) {
                self.endow(id);
                let account = self.children.get(&id).and_then(|child| child.account.as_ref());
                promised = add(promised, if account.is_some() { Quota::default() } else { endowment });
                promised = add(promised, subtract(CHILD_COST, PD));
                begun.push(id);
            }
        }
        for id in begun {
            let rest = [(session_id::CPU, CPU), (session_id::LOG, LOG), (session_id::BINARY, BINARY)];
            if self.open_environment(id, rest) {
                self.advance(id);
            }
        }
    }

    fn begin(&mut self, start: Start, backoff: Backoff, endowment: Quota) -> ChildId {
        let id = ChildId(self.next_id());
        let child = Child::new(start, backoff, endowment, self.backend.now());
        self.children.insert(id, child);
        id
    }

    /// Opens sessions that every child has. If one is refused, the child has failed.
    fn open_environment<const N: usize>(&mut self, id: ChildId, sessions: [(u64, Quota); N]) -> bool {
        for (session, donation) in sessions {
            let Some(Child { start, .. }) = self.children.get(&id) else {
                return false;
            };
            let (service, label) = match session {
                session_id::PD => (pd::Pd::NAME, start.name.clone()),
                session_id::CPU => (cpu::Cpu::NAME, start.name.clone()),
                session_id::LOG => (log::Log::NAME, start.name.clone()),
                _ => (rom::Rom::NAME, start.binary.clone()),
            };
            let client = ClientEnd { child: id, id: session };
            let opened = self.open_session(client, service, &label, Args(""), &Affinity::default(), donation);
            if let Err(error) = opened {
                self.not_started(id, format_args!("no {service} session \"{label}\" ({error})"));
                return false;
            }
        }
        true
    }

    /// Says why a child cannot be started, and has it destroyed.
    pub(crate) fn not_started(&mut self, id: ChildId, reason: fmt::Arguments<'_>) {
        self.break_off(id, format_args!("not started: {reason}"));
    }

    /// Says what has happened to a child, as which it has failed, and has it destroyed.
    pub(crate) fn break_off(&mut self, id: ChildId, what: fmt::Arguments<'_>) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        (child.phase, child.has_failed) = (Phase::Ended, true);
        let start = child.start.clone();
        self.backend.log(format_args!("child \"{}\" {what}", start.name));
        self.failed(&start);
        self.backend.wake();
    }

    /// A child has failed without an exit value, and where it is not started again, that is final.
    pub(crate) fn failed(&self, start: &Start) {
        if !start.restart {
            self.fail_with(start);
        }
    }

    /// Where the exit of a child would be the own one, so is its failure.
    pub(crate) fn fail_with(&self, start: &Start) {
        if start.propagate_exit {
            self.backend.exit(EXIT_FAILURE);
        }
    }

    /// What of the budget of a child is left for its account; `None` if the budget is too small.
    fn endowment(&self, start: &Start, promised: Quota) -> Option<Quota> {
        let name = &start.name;
        let available = subtract(self.backend.available(), add(RESERVE, promised));
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
            Err(error) => self.not_started(id, format_args!("{error}")),
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
}
