//! The parent that a child sees.

use super::Shared;
use crate::backend::ChildId;
use crate::sandbox::Sandbox;
use abi::session::affinity::Affinity;
use abi::session::args::Args;
use abi::session::parent::{
    self, ARGS_MAX, AnnounceError, NoSession, Progress, Quota, Response, SERVICE_MAX, SessionError, UpgradeError,
};
use abi::session::wire::{AnyObject, Signal, Text, Typed};
use alloc::rc::Weak;
use runtime::capability::Capability;

/// The parent of one child.
pub struct ChildParent {
    sandbox: Weak<Shared>,
    child: ChildId,
}

impl ChildParent {
    /// The parent of `child`.
    pub const fn new(sandbox: Weak<Shared>, child: ChildId) -> Self {
        Self { sandbox, child }
    }

    /// The sandbox is gone only with the whole component.
    fn with<R>(&self, gone: R, act: impl FnOnce(&mut Sandbox<super::Component>, ChildId) -> R) -> R {
        match self.sandbox.upgrade() {
            Some(sandbox) => act(&mut sandbox.borrow_mut(), self.child),
            None => gone,
        }
    }
}

type Cap<K> = Typed<K, Capability>;

impl parent::Server<Capability> for ChildParent {
    fn exit(&mut self, value: i64) {
        self.with((), |sandbox, child| sandbox.child_exited(child, value));
    }

    fn announce(&mut self, service: Text<SERVICE_MAX>) -> Result<(), AnnounceError> {
        self.with(Err(AnnounceError::NotProvided), |sandbox, child| sandbox.announce(child, &service))
    }

    fn session_sigh(&mut self, sigh: Cap<Signal>) {
        self.with((), |sandbox, child| sandbox.set_session_sigh(child, sigh));
    }

    fn session(
        &mut self,
        id: u64,
        service: Text<SERVICE_MAX>,
        args: Text<ARGS_MAX>,
        affinity: Affinity,
    ) -> Result<Option<Cap<AnyObject>>, SessionError> {
        self.with(Err(SessionError::Denied), |sandbox, child| {
            sandbox.request_session(child, id, &service, Args(&args), &affinity)
        })
    }

    fn session_cap(&mut self, id: u64) -> Result<Cap<AnyObject>, SessionError> {
        self.with(Err(SessionError::Denied), |sandbox, child| sandbox.session_cap(child, id))
    }

    fn upgrade(&mut self, id: u64, quota: Quota) -> Result<Progress, UpgradeError> {
        self.with(Err(UpgradeError::NoSession), |sandbox, child| sandbox.upgrade_session(child, id, quota))
    }

    fn close(&mut self, id: u64) -> Result<Progress, NoSession> {
        self.with(Err(NoSession::NoSession), |sandbox, child| sandbox.close_session(child, id))
    }

    fn deliver_session_cap(&mut self, id: u64, cap: Cap<AnyObject>) {
        self.with((), |sandbox, child| sandbox.deliver_session_cap(child, id, cap));
    }

    fn session_response(&mut self, id: u64, response: Response) {
        self.with((), |sandbox, child| sandbox.session_response(child, id, response));
    }

    /// Never submitted: budgets are those of the configuration, which is read once.
    fn resource_avail_sigh(&mut self, _: Cap<Signal>) {}

    fn resource_request(&mut self, wish: Quota) {
        self.with((), |sandbox, child| sandbox.resource_request(child, wish));
    }

    /// Never submitted: nothing is wanted back.
    fn yield_sigh(&mut self, _: Cap<Signal>) {}

    fn yield_request(&mut self) -> Quota {
        Quota::default()
    }

    fn yield_response(&mut self) {}

    /// Never submitted: nobody asks for signs of life.
    fn heartbeat_sigh(&mut self, _: Cap<Signal>) {}

    fn heartbeat_response(&mut self) {}
}
