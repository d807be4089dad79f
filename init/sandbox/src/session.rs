//! A session between a child and whoever serves it, and the states that it goes through.

use crate::backend::{Backend, ChildId};
use abi::session::affinity::Affinity;
use abi::session::parent::{ARGS_MAX, Quota, SessionError};
use abi::session::wire::Text;
use alloc::string::String;
use runtime::requests::Request;

/// Names a session in the sandbox, and towards servers; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SessionId(pub u64);

/// Where a session is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The server has not answered.
    CreateRequested,
    /// The capability is there, and the client does not know yet.
    Available,
    /// The client has the capability.
    HandedOut,
    /// The client has it, and the server is to know of more quota.
    UpgradeRequested,
    /// The server is to close it.
    CloseRequested,
    /// The server refused; the client does not know yet.
    Failed(SessionError),
    /// The server is gone; the client's id is still taken.
    Dead,
}

/// Who serves.
pub enum Server<B: Backend> {
    /// The parent, under this id.
    Parent(u64),
    /// A child.
    Child(ChildId),
    /// The sandbox: the inline configuration or the session requests of the client.
    Own(B::Rom),
}

/// The client's side of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientEnd {
    /// The child.
    pub child: ChildId,
    /// Its id for the session.
    pub id: u64,
}

/// A session.
pub struct Session<B: Backend> {
    /// Who asked; `None` if that child is gone and only the server has to be told.
    pub client: Option<ClientEnd>,
    /// Who serves.
    pub server: Server<B>,
    /// What it is about.
    pub service: String,
    /// Arguments as the server sees them.
    pub args: Text<ARGS_MAX>,
    /// Where the client runs.
    pub affinity: Affinity,
    /// What the server got, to be returned.
    pub donated: Quota,
    /// What of it is being added.
    pub upgrade: Quota,
    /// Where it is in its life.
    pub state: State,
    /// To be closed as soon as the server has answered the create request.
    pub close_wanted: bool,
    /// The session, if the server has made it.
    pub cap: Option<B::Cap>,
}

impl<B: Backend> Session<B> {
    /// What a server that is a child has to be told, if anything.
    #[must_use]
    pub fn request(&self, id: SessionId) -> Option<Request> {
        let id = id.0;
        match self.state {
            State::CreateRequested => Some(Request::Create {
                id,
                service: self.service.clone(),
                args: self.args.as_str().into(),
                affinity: self.affinity,
            }),
            State::UpgradeRequested => Some(Request::Upgrade { id, quota: self.upgrade }),
            State::CloseRequested => Some(Request::Close { id }),
            State::Available | State::HandedOut | State::Failed(_) | State::Dead => None,
        }
    }

    /// Whether the session is served by this child.
    pub fn is_served_by(&self, child: ChildId) -> bool {
        matches!(self.server, Server::Child(server) if server == child)
    }
}

/// Both sums.
#[must_use]
pub const fn add(a: Quota, b: Quota) -> Quota {
    Quota { ram: a.ram.saturating_add(b.ram), caps: a.caps.saturating_add(b.caps) }
}

/// Both differences, not below zero.
#[must_use]
pub const fn subtract(a: Quota, b: Quota) -> Quota {
    Quota { ram: a.ram.saturating_sub(b.ram), caps: a.caps.saturating_sub(b.caps) }
}
