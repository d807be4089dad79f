//! Core as the parent of init. It answers every request at once.

use crate::Core;
use crate::account::AccountError;
use crate::kernel::Machine;
use crate::launcher::INIT;
use crate::object::Handle;
use crate::session::Session;
use abi::session::affinity::Affinity;
use abi::session::args::{Args, LABEL, LABEL_SEPARATOR};
use abi::session::initial::session_id;
use abi::session::parent::{
    self, ARGS_MAX, AnnounceError, NoSession, Progress, Quota, Response, SERVICE_MAX, SessionError, UpgradeError,
};
use abi::session::wire::{AnyObject, Signal, Text, Typed};
use alloc::collections::BTreeMap;
use alloc::format;
use core::fmt;

/// The end of the system, in the log. Whoever has booted it waits for this line (`run/src/session/end.rs`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SystemExit(pub i64);

impl fmt::Display for SystemExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system exit: {}", self.0)
    }
}

/// The child of core.
#[derive(Clone, Debug)]
pub struct Child {
    /// Its PD session, whose account pays for all its sessions.
    pub pd: Session,
    /// Sessions by the child's ids.
    pub sessions: BTreeMap<u64, Session>,
}

/// The child that a call comes from.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
}

impl<M: Machine> Call<'_, '_, M> {
    fn existing(&self, id: u64) -> Option<Session> {
        self.core.child.as_ref()?.sessions.get(&id).copied()
    }
}

impl<M: Machine> parent::Server<Handle> for Call<'_, '_, M> {
    fn exit(&mut self, value: i64) {
        self.core.log(format_args!("{}", SystemExit(value)));
    }

    fn announce(&mut self, _: Text<SERVICE_MAX>) -> Result<(), AnnounceError> {
        Err(AnnounceError::NotProvided)
    }

    /// Never submitted: nothing is ever pending.
    fn session_sigh(&mut self, _: Typed<Signal, Handle>) {}

    fn session(
        &mut self,
        id: u64,
        service: Text<SERVICE_MAX>,
        args: Text<ARGS_MAX>,
        affinity: Affinity,
    ) -> Result<Option<Typed<AnyObject, Handle>>, SessionError> {
        let child = self.core.child.as_ref().ok_or(SessionError::Denied)?;
        if id < session_id::FREE || child.sessions.contains_key(&id) {
            return Err(SessionError::Denied);
        }
        let payer = child.pd.account;
        let label = format!("{INIT}{LABEL_SEPARATOR}{}", Args(&args).label());
        let args = Args(&args).with(LABEL, &label).map_err(|_| {
            self.core.log(format_args!("{INIT}: session arguments too long: {args}"));
            SessionError::Denied
        })?;
        let session = self.core.open_session(payer, &service, Args(&args), &affinity)?;
        if let Some(child) = self.core.child.as_mut() {
            child.sessions.insert(id, session);
        }
        Ok(Some(Typed::new(Handle::Own(session.key))))
    }

    fn session_cap(&mut self, id: u64) -> Result<Typed<AnyObject, Handle>, SessionError> {
        self.existing(id).map(|session| Typed::new(Handle::Own(session.key))).ok_or(SessionError::Denied)
    }

    fn upgrade(&mut self, id: u64, quota: Quota) -> Result<Progress, UpgradeError> {
        let session = self.existing(id).filter(|_| id >= session_id::FREE).ok_or(UpgradeError::NoSession)?;
        self.core.upgrade_session(session, quota.into()).map_err(|error| match error {
            AccountError::OutOfRam => UpgradeError::OutOfRam,
            AccountError::OutOfCaps => UpgradeError::OutOfCaps,
            AccountError::Invalid | AccountError::InUse => UpgradeError::NoSession,
        })?;
        Ok(Progress::Done)
    }

    fn close(&mut self, id: u64) -> Result<Progress, NoSession> {
        let child = self.core.child.as_mut().filter(|_| id >= session_id::FREE).ok_or(NoSession::NoSession)?;
        let session = child.sessions.remove(&id).ok_or(NoSession::NoSession)?;
        self.core.close_session(session);
        Ok(Progress::Done)
    }

    /// Init serves nobody outside.
    fn deliver_session_cap(&mut self, _: u64, _: Typed<AnyObject, Handle>) {}

    /// Init serves nobody outside.
    fn session_response(&mut self, _: u64, _: Response) {}

    /// Never submitted: init has everything from the start.
    fn resource_avail_sigh(&mut self, _: Typed<Signal, Handle>) {}

    fn resource_request(&mut self, wish: Quota) {
        let Quota { ram, caps } = wish;
        self.core.log(format_args!("{INIT} wants {ram} bytes of RAM and {caps} caps, but has all there is"));
    }

    /// Never submitted: core wants nothing back.
    fn yield_sigh(&mut self, _: Typed<Signal, Handle>) {}

    fn yield_request(&mut self) -> Quota {
        Quota::default()
    }

    fn yield_response(&mut self) {}

    /// Never submitted: without init there is nobody to restart it.
    fn heartbeat_sigh(&mut self, _: Typed<Signal, Handle>) {}

    fn heartbeat_response(&mut self) {}
}
