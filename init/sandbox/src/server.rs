//! What children answer as servers, and what the parent answers.

use crate::backend::{Backend, ChildId};
use crate::sandbox::Sandbox;
use crate::session::{Server, SessionId, State};
use abi::session::parent::{AnnounceError, Quota, Response, SessionError};
use alloc::vec::Vec;

impl<B: Backend> Sandbox<B> {
    /// A child is ready to serve.
    ///
    /// # Errors
    /// The configuration does not say that it provides the service.
    pub fn announce(&self, child: ChildId, service: &str) -> Result<(), AnnounceError> {
        let child = self.children.get(&child).ok_or(AnnounceError::NotProvided)?;
        if child.start.provides.iter().any(|provided| provided == service) {
            return Ok(());
        }
        self.backend.log(format_args!("child \"{}\": illegal announcement of service \"{service}\"", child.start.name));
        Err(AnnounceError::NotProvided)
    }

    /// A server answers a request by a session. The answer to anything else is ignored.
    pub fn deliver_session_cap(&mut self, server: ChildId, id: u64, cap: B::Cap) {
        let id = SessionId(id);
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.is_served_by(server)) else {
            return;
        };
        if session.state != State::CreateRequested {
            return;
        }
        match session.client.filter(|_| !session.close_wanted) {
            Some(client) => {
                session.cap = Some(cap);
                session.state = State::Available;
                self.publish(server);
                self.available(client.child, client.id);
            }
            // The client has left meanwhile.
            None => {
                session.state = State::CloseRequested;
                self.publish(server);
            }
        }
    }

    fn available(&mut self, child: ChildId, id: u64) {
        if id < abi::session::initial::session_id::FREE {
            self.advance(child);
        } else {
            self.notify(child);
        }
    }

    /// A server answers a request otherwise. Answers that fit no request are ignored.
    pub fn session_response(&mut self, server: ChildId, id: u64, response: Response) {
        let id = SessionId(id);
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.is_served_by(server)) else {
            return;
        };
        let error = match response {
            Response::Denied | Response::Ok | Response::Closed => SessionError::Denied,
            Response::InsufficientRam => SessionError::InsufficientRam,
            Response::InsufficientCaps => SessionError::InsufficientCaps,
        };
        match (session.state, response) {
            (State::UpgradeRequested, Response::Ok) => {
                session.state = State::HandedOut;
                let client = session.client;
                self.publish(server);
                if let Some(client) = client {
                    self.notify(client.child);
                }
            }
            (State::CloseRequested, Response::Closed) => {
                let client = session.client;
                self.take_back(server, id);
                self.end(id);
                self.publish(server);
                if let Some(client) = client {
                    self.notify(client.child);
                }
            }
            (State::CreateRequested, Response::Denied | Response::InsufficientRam | Response::InsufficientCaps) => {
                let closing = session.client.filter(|_| session.close_wanted);
                self.take_back(server, id);
                match closing {
                    Some(client) => {
                        self.end(id);
                        self.notify(client.child);
                    }
                    None => self.fail(id, error),
                }
                self.publish(server);
            }
            _ => {}
        }
    }

    /// Takes the donation of a session back from its server. One that cannot give it cheats its client.
    fn take_back(&mut self, server: ChildId, id: SessionId) {
        let (Some(child), Some(session)) = (self.children.get(&server), self.sessions.get_mut(&id)) else {
            return;
        };
        if let Some(account) = &child.account
            && self.backend.take(account, session.donated).is_err()
        {
            let (name, service) = (&child.start.name, &session.service);
            self.backend.log(format_args!("child \"{name}\" does not return the donation of a {service} session"));
            session.donated = Quota::default();
        }
    }

    /// Renews the session requests of a server.
    pub(crate) fn publish(&self, server: ChildId) {
        let Some(child) = self.children.get(&server).filter(|child| child.account.is_some()) else {
            return;
        };
        let rom = child.requests.and_then(|requests| self.sessions.get(&requests));
        let Some(Server::Own(rom)) = rom.map(|session| &session.server) else {
            return;
        };
        let served = self.sessions.iter().filter(|(_, session)| session.is_served_by(server));
        let requests: Vec<_> = served.filter_map(|(&id, session)| session.request(id)).collect();
        self.backend.update_requests(rom, &requests);
    }

    /// The parent has finished some session operation: looks which.
    pub fn parent_answered(&mut self) {
        let waiting = |state| matches!(state, State::CreateRequested | State::UpgradeRequested | State::CloseRequested);
        let pending: Vec<(SessionId, u64)> = self
            .sessions
            .iter()
            .filter(|(_, session)| waiting(session.state))
            .filter_map(|(&id, session)| match session.server {
                Server::Parent(parent) => Some((id, parent)),
                _ => None,
            })
            .collect();
        for (id, parent) in pending {
            match self.backend.session_cap(parent) {
                Err(SessionError::StillPending) => {}
                answer => self.digest(id, answer),
            }
        }
    }

    fn digest(&mut self, id: SessionId, answer: Result<B::Cap, SessionError>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let client = session.client;
        match (session.state, answer) {
            (State::CreateRequested, Ok(cap)) => {
                session.cap = Some(cap);
                session.state = State::Available;
                if let Some(client) = client {
                    self.available(client.child, client.id);
                }
            }
            (State::CreateRequested, Err(error)) => self.fail(id, error),
            (State::UpgradeRequested, _) => {
                session.state = State::HandedOut;
                client.into_iter().for_each(|client| self.notify(client.child));
            }
            (State::CloseRequested, _) => {
                self.end(id);
                client.into_iter().for_each(|client| self.notify(client.child));
            }
            _ => {}
        }
    }
}
