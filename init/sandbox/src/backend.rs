//! What a sandbox acts upon: accounts, the parent's sessions, children's programs. A trait, so that all policy is tested without any.

use abi::session::affinity::Affinity;
use abi::session::parent::{Progress, Quota, SessionError};
use alloc::string::String;
use core::fmt;
use runtime::requests::Request;

/// Which currency is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shortage {
    /// RAM.
    Ram,
    /// Capabilities.
    Caps,
}

impl Shortage {
    /// For the one whose account it is.
    #[must_use]
    pub const fn own(self) -> SessionError {
        match self {
            Self::Ram => SessionError::OutOfRam,
            Self::Caps => SessionError::OutOfCaps,
        }
    }
}

/// Names a child; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ChildId(pub u64);

/// The sessions that a child needs to run.
#[derive(Debug)]
pub struct Environment<'a, C> {
    /// Its PD session.
    pub pd: &'a C,
    /// Its CPU session.
    pub cpu: &'a C,
    /// ROM session of its program.
    pub binary: &'a C,
}

/// What a sandbox acts upon.
pub trait Backend {
    /// A capability to a session.
    type Cap: Clone;
    /// A signal context of a child.
    type Signal;
    /// The account of a child.
    type Account;
    /// The running program of a child. Dropping it takes the child's capability to its parent away.
    type Program;
    /// A ROM session that the sandbox serves itself. Dropping it ends it.
    type Rom;

    /// What is left in the own account.
    fn available(&self) -> Quota;
    /// Makes the account of a PD session trade with the own one; `None` if it is no PD session.
    fn adopt(&self, pd: &Self::Cap) -> Option<Self::Account>;
    /// Moves quota from a child to the own account, all or nothing.
    ///
    /// # Errors
    /// The child lacks it.
    fn take(&self, from: &Self::Account, amount: Quota) -> Result<(), Shortage>;
    /// Moves quota from the own account to a child, all or nothing.
    ///
    /// # Errors
    /// The own account lacks it.
    fn give(&self, to: &Self::Account, amount: Quota) -> Result<(), Shortage>;

    /// A new id for sessions at the parent.
    fn new_session_id(&self) -> u64;
    /// Opens a session at the parent; `None`: pending.
    ///
    /// # Errors
    /// As the parent says.
    fn open(&self, id: u64, service: &str, args: &str, affinity: &Affinity) -> Result<Option<Self::Cap>, SessionError>;
    /// The capability of a session at the parent.
    ///
    /// # Errors
    /// As the parent says.
    fn session_cap(&self, id: u64) -> Result<Self::Cap, SessionError>;
    /// Adds to the donation of a session at the parent.
    ///
    /// # Errors
    /// The own account lacks it.
    fn upgrade(&self, id: u64, amount: Quota) -> Result<Progress, Shortage>;
    /// Closes a session at the parent.
    fn close(&self, id: u64) -> Progress;

    /// Submits a signal to a child.
    fn submit(&self, signal: &Self::Signal);
    /// Lets [`Sandbox::reap`](crate::sandbox::Sandbox::reap) be called soon.
    fn wake(&self);
    /// Microseconds since some time in the past.
    fn now(&self) -> u64;
    /// Lets [`Sandbox::reap`](crate::sandbox::Sandbox::reap) be called when [`now`](Self::now) reaches `time`. The last
    /// wish counts.
    fn wake_at(&self, time: u64);
    /// Serves a text as ROM.
    ///
    /// # Errors
    /// The own account lacks something.
    fn serve_text(&self, text: &str) -> Result<(Self::Rom, Self::Cap), Shortage>;
    /// Renews the text of a ROM of session requests.
    fn update_requests(&self, rom: &Self::Rom, requests: &[Request]);
    /// Loads the program of a child and starts it.
    ///
    /// # Errors
    /// Why not, in words.
    fn start(
        &self,
        child: ChildId,
        name: &str,
        environment: &Environment<'_, Self::Cap>,
    ) -> Result<Self::Program, String>;
    /// Tells the own parent that the sandbox has finished.
    fn exit(&self, value: i64);
    /// Writes a line to the log: one, whatever is in the names that children have given.
    fn log(&self, line: fmt::Arguments<'_>);
}
