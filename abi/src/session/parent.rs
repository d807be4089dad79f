//! Parent: what a component asks of its owner. The only capability that it starts with.
//!
//! The client picks session ids in an id space of its own (from [`session_id::FREE`](super::initial::session_id)).
//! A request is answered at once, with a capability, an error, or "pending". For pending ones the signal set by
//! `session_sigh` is submitted when the operation has finished. As all operations share that signal, a client does one
//! at a time. If the answer arrives before `session_sigh`, registering submits the signal.

use super::affinity::Affinity;
use super::wire::{AnyObject, Cap, Signal, Text};
use crate::{rpc, wire_enum, wire_record};

/// Longest service name.
pub const SERVICE_MAX: usize = 64;
/// Longest session arguments.
pub const ARGS_MAX: usize = 160;

rpc! {
    /// The parent of a component.
    pub interface Parent {
        const NAME = "Parent";
        const CAP_QUOTA = 0;
        const RAM_QUOTA = 0;
        /// The component has finished with this exit value. Does not return as far as it is concerned.
        fn exit(value: i64);
        /// The component is ready to serve this service, for which requests may be waiting already.
        fn announce(service: Text<SERVICE_MAX>) | AnnounceError;
        /// Sets the signal for finished session operations.
        fn session_sigh(sigh: Cap<Signal>);
        /// Opens a session with an unused `id`. [Arguments](super::args) hold label and donation. `None`: pending.
        fn session(id: u64, service: Text<SERVICE_MAX>, args: Text<ARGS_MAX>, affinity: Affinity)
            -> Option<Cap<AnyObject>> | SessionError;
        /// The capability of an environment session, or of one whose request was pending. After an error other than
        /// `StillPending` the id is free again.
        fn session_cap(id: u64) -> Cap<AnyObject> | SessionError;
        /// Adds to the donation of a session whose capability was handed out.
        fn upgrade(id: u64, quota: Quota) -> Progress | UpgradeError;
        /// Closes a session. When done, the donation is back and the id is free.
        fn close(id: u64) -> Progress | NoSession;
        /// Answers a `create` request with a capability. Never fails: a client that is gone makes a `close` request.
        fn deliver_session_cap(id: u64, cap: Cap<AnyObject>);
        /// Answers a request other than by a capability.
        fn session_response(id: u64, response: Response);
        /// Sets the signal for a raised quota.
        fn resource_avail_sigh(sigh: Cap<Signal>);
        /// Asks for more. Returns at once; `resource_avail_sigh` says when something changed, so check and ask again.
        fn resource_request(wish: Quota);
        /// Sets the signal for requests to yield resources.
        fn yield_sigh(sigh: Cap<Signal>);
        /// How much the parent would like back: a goal, not an order.
        fn yield_request() -> Quota;
        /// The component has freed what it wants to of its account.
        fn yield_response();
        /// Sets the signal for signs of life. Until then the component is not expected to give any.
        fn heartbeat_sigh(sigh: Cap<Signal>);
        /// A sign of life.
        fn heartbeat_response();
    }
}

wire_record! {
    /// An amount of both currencies.
    pub struct Quota {
        /// Bytes of RAM.
        pub ram: u64,
        /// Capabilities.
        pub caps: u64,
    }
}

wire_enum! {
    /// Whether an operation is finished.
    pub enum Progress {
        /// It is.
        Done = 1,
        /// The signal of `session_sigh` will say.
        Pending = 2,
    }
}

wire_enum! {
    /// A server's answer to a request of `session_requests` ROM.
    pub enum Response {
        /// The upgrade is accepted.
        Ok = 1,
        /// The session is closed and what it donated is in the server's account, unused.
        Closed = 2,
        /// The session is refused for good.
        Denied = 3,
        /// The RAM donated is not enough.
        InsufficientRam = 4,
        /// The capabilities donated are not enough.
        InsufficientCaps = 5,
    }
}

wire_enum! {
    /// Why there is no session.
    pub enum SessionError {
        /// By policy or for wrong arguments: final.
        Denied = 1,
        /// The donation is too small in RAM: raise it.
        InsufficientRam = 2,
        /// The donation is too small in capabilities: raise it.
        InsufficientCaps = 3,
        /// The client's own account cannot pay the donation in RAM: ask for resources.
        OutOfRam = 4,
        /// The client's own account cannot pay the donation in capabilities: ask for resources.
        OutOfCaps = 5,
        /// The operation has not finished: wait for the signal.
        StillPending = 6,
    }
}

wire_enum! {
    /// Why a session was not upgraded.
    pub enum UpgradeError {
        /// The client's own account cannot pay in RAM.
        OutOfRam = 1,
        /// The client's own account cannot pay in capabilities.
        OutOfCaps = 2,
        /// There is no such session, or its capability was not handed out.
        NoSession = 3,
    }
}

wire_enum! {
    /// The id names no session.
    pub enum NoSession {
        /// It does not.
        NoSession = 1,
    }
}

wire_enum! {
    /// Why a service was not announced.
    pub enum AnnounceError {
        /// The parent does not expect the component to provide it.
        NotProvided = 1,
    }
}
