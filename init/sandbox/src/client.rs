//! What children ask for as clients: sessions, upgrades, closes.

use crate::backend::{Backend, ChildId};
use crate::sandbox::Sandbox;
use crate::session::{ClientEnd, Server, Session, SessionId, State, add};
use crate::{filter, label};
use abi::session::affinity::Affinity;
use abi::session::args::Args;
use abi::session::initial::session_id;
use abi::session::parent::{NoSession, Progress, Quota, SessionError, UpgradeError};
use runtime::requests;

/// What a child pays for the memory that the sandbox needs to remember a session: its entry, half a KiB, and while the server has not
/// answered its text in the session requests, of five times the arguments at most, in four places.
const SESSION_COST: Quota = Quota { ram: 4 << 10, caps: 0 };

impl<B: Backend> Sandbox<B> {
    /// A child asks for a session. `None`: pending.
    ///
    /// # Errors
    /// As [`SessionError`] says; nothing has changed then.
    pub fn request_session(
        &mut self,
        child: ChildId,
        id: u64,
        service: &str,
        args: Args<'_>,
        affinity: &Affinity,
    ) -> Result<Option<B::Cap>, SessionError> {
        let client = ClientEnd { child, id };
        let known = self.children.get(&child).ok_or(SessionError::Denied)?;
        if id < session_id::FREE || known.sessions.contains_key(&id) {
            return Err(SessionError::Denied);
        }
        let account = known.account.as_ref().ok_or(SessionError::Denied)?;
        let donation = args.quota();
        let price = add(donation, SESSION_COST);
        self.backend.take(account, price).map_err(|shortage| shortage.own())?;
        let label = label::prefixed(&known.start.name, args.label());
        let opened = self.open_session(client, service, &label, args, affinity, donation);
        if opened.is_err() {
            self.refund(child, price);
        }
        opened
    }

    /// Opens a session whose donation is in the own account.
    pub(crate) fn open_session(
        &mut self,
        client: ClientEnd,
        service: &str,
        label: &str,
        args: Args<'_>,
        affinity: &Affinity,
        donated: Quota,
    ) -> Result<Option<B::Cap>, SessionError> {
        let child = self.children.get(&client.child).ok_or(SessionError::Denied)?;
        let name = &child.start.name;
        let (goal, label) = self.goal(child, service, label).map_err(|denial| {
            self.backend.log(format_args!("child \"{name}\": {denial} \"{service}\" (label=\"{label}\")"));
            SessionError::Denied
        })?;
        let args = filter::args(&self.config, &child.start, service, args, &label, donated).map_err(|_| {
            self.backend.log(format_args!("child \"{name}\": arguments of {service} session \"{label}\" too long"));
            SessionError::Denied
        })?;
        let affinity = filter::affinity(self.config.affinity_space, child.start.affinity, affinity);
        let mut session = Session {
            client: Some(client),
            server: Server::Parent(0),
            service: service.into(),
            args,
            affinity,
            donated,
            upgrade: Quota::default(),
            state: State::CreateRequested,
            close_wanted: false,
            cap: None,
        };
        let publish = self.find_server(goal, &mut session)?;
        let is_requests = matches!(session.server, Server::Own(_)) && label::last_element(&label) == requests::ROM;
        let (cap, id) = (session.cap.clone(), SessionId(self.next_id()));
        self.sessions.insert(id, session);
        if let Some(child) = self.children.get_mut(&client.child) {
            child.sessions.insert(client.id, id);
            if is_requests {
                child.requests = Some(id);
            }
        }
        self.publish(publish.unwrap_or(client.child));
        Ok(cap)
    }

    fn find(&self, child: ChildId, id: u64) -> Option<SessionId> {
        self.children.get(&child)?.sessions.get(&id).copied()
    }

    /// A child asks for the capability of a session.
    ///
    /// # Errors
    /// As [`SessionError`] says.
    pub fn session_cap(&mut self, child: ChildId, id: u64) -> Result<B::Cap, SessionError> {
        let session = self.find(child, id).ok_or(SessionError::Denied)?;
        let entry = self.sessions.get_mut(&session).ok_or(SessionError::Denied)?;
        match entry.state {
            State::Available | State::HandedOut => {
                entry.state = State::HandedOut;
                entry.cap.clone().ok_or(SessionError::Denied)
            }
            State::CreateRequested | State::UpgradeRequested | State::CloseRequested => Err(SessionError::StillPending),
            State::Failed(error) => {
                self.end(session);
                Err(error)
            }
            State::Dead => Err(SessionError::Denied),
        }
    }

    /// A child adds to the donation of a session.
    ///
    /// # Errors
    /// As [`UpgradeError`] says; nothing has changed then.
    pub fn upgrade_session(&mut self, child: ChildId, id: u64, amount: Quota) -> Result<Progress, UpgradeError> {
        let session = self.find(child, id).ok_or(UpgradeError::NoSession)?;
        let account =
            self.children.get(&child).and_then(|child| child.account.as_ref()).ok_or(UpgradeError::NoSession)?;
        let entry = self.sessions.get_mut(&session).filter(|entry| entry.state == State::HandedOut);
        let entry = entry.ok_or(UpgradeError::NoSession)?;
        let own = |shortage: crate::backend::Shortage| match shortage {
            crate::backend::Shortage::Ram => UpgradeError::OutOfRam,
            crate::backend::Shortage::Caps => UpgradeError::OutOfCaps,
        };
        self.backend.take(account, amount).map_err(own)?;
        let progress = match entry.server {
            Server::Parent(parent) => self.backend.upgrade(parent, amount),
            Server::Child(server) => match self.children.get(&server).and_then(|server| server.account.as_ref()) {
                Some(account) => self.backend.give(account, amount).map(|()| Progress::Pending),
                None => Ok(Progress::Done),
            },
            Server::Own(_) => Ok(Progress::Done),
        };
        let progress = match progress {
            Ok(progress) => progress,
            Err(shortage) => {
                self.refund(child, amount);
                return Err(own(shortage));
            }
        };
        entry.donated = add(entry.donated, amount);
        if progress == Progress::Pending {
            entry.state = State::UpgradeRequested;
            entry.upgrade = amount;
        }
        if let Server::Child(server) = entry.server {
            self.publish(server);
        }
        Ok(progress)
    }

    /// A child closes a session.
    ///
    /// # Errors
    /// It has no such session.
    pub fn close_session(&mut self, child: ChildId, id: u64) -> Result<Progress, NoSession> {
        let session = self.find(child, id).filter(|_| id >= session_id::FREE).ok_or(NoSession::NoSession)?;
        let entry = self.sessions.get_mut(&session).ok_or(NoSession::NoSession)?;
        match (&entry.server, entry.state) {
            (_, State::Dead | State::Failed(_)) | (Server::Own(_), _) => {}
            (&Server::Parent(parent), _) => {
                if self.backend.close(parent) == Progress::Pending {
                    entry.state = State::CloseRequested;
                    return Ok(Progress::Pending);
                }
            }
            (Server::Child(_), State::CreateRequested | State::CloseRequested) => {
                entry.close_wanted = true;
                return Ok(Progress::Pending);
            }
            (&Server::Child(server), State::Available | State::HandedOut | State::UpgradeRequested) => {
                entry.state = State::CloseRequested;
                self.publish(server);
                return Ok(Progress::Pending);
            }
        }
        self.end(session);
        Ok(Progress::Done)
    }

    /// The signal of a child for finished session operations.
    pub fn set_session_sigh(&mut self, child: ChildId, signal: B::Signal) {
        if let Some(child) = self.children.get_mut(&child) {
            if core::mem::take(&mut child.owes_signal) {
                self.backend.submit(&signal);
            }
            child.session_sigh = Some(signal);
        }
    }

    /// Tells a child that a session operation has finished.
    pub(crate) fn notify(&mut self, child: ChildId) {
        if let Some(child) = self.children.get_mut(&child) {
            match &child.session_sigh {
                Some(signal) => self.backend.submit(signal),
                None => child.owes_signal = true,
            }
        }
    }

    /// Gives quota back to a child, as long as it has an account.
    pub(crate) fn refund(&self, child: ChildId, amount: Quota) {
        if let Some(child) = self.children.get(&child)
            && let Some(account) = &child.account
            && self.backend.give(account, amount).is_err()
        {
            self.backend.log(format_args!("child \"{}\": donation cannot be returned", child.start.name));
        }
    }

    /// Removes a session without returning anything.
    pub(crate) fn forget(&mut self, id: SessionId) {
        let Some(client) = self.sessions.remove(&id).and_then(|session| session.client) else {
            return;
        };
        if let Some(child) = self.children.get_mut(&client.child) {
            child.sessions.remove(&client.id);
            child.requests = child.requests.filter(|&requests| requests != id);
        }
    }

    /// Removes a session whose donation is back in the own account, and returns it to the client.
    pub(crate) fn end(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let (client, donated) = (session.client, session.donated);
        self.forget(id);
        if let Some(client) = client {
            self.refund(client.child, add(donated, SESSION_COST));
        }
    }

    /// The client's end of a failed request: what was paid comes back at once, the error stays for the client to see.
    pub(crate) fn fail(&mut self, id: SessionId, error: SessionError) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(client) = session.client else {
            self.forget(id);
            return;
        };
        let donated = core::mem::take(&mut session.donated);
        session.state = State::Failed(error);
        if client.id < session_id::FREE {
            let service = session.service.clone();
            self.not_started(client.child, format_args!("no {service} session ({error})"));
            return;
        }
        self.refund(client.child, donated);
        self.notify(client.child);
    }

    /// A child asks for more and waits for it. Budgets are those of the configuration, which is read once, so it waits for
    /// ever: as much a failure as a fault.
    pub fn resource_request(&self, id: ChildId, wish: Quota) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        let (name, Quota { ram, caps }) = (&child.start.name, wish);
        self.backend
            .log(format_args!("child \"{name}\" cannot go on: quota too small by {ram} bytes of RAM, {caps} caps"));
        self.fail_with(&child.start);
    }
}
