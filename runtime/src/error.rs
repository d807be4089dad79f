//! The error type of components: what failed, in words, with what a caller may want to tell apart.

use abi::session::parent::SessionError;
use abi::session::rpc;
use abi::status::Status;
use alloc::string::{String, ToString};
use core::fmt;

/// Why a component cannot go on with something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// A session was refused.
    Session {
        /// Service asked for.
        service: &'static str,
        /// Why.
        reason: SessionError,
    },
    /// A call failed.
    Call(String),
    /// The kernel refused.
    Kernel(Status),
    /// The configuration or another input is wrong.
    Input(String),
}

impl Error {
    /// Wrong input.
    pub fn input(what: impl ToString) -> Self {
        Self::Input(what.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { service, reason } => write!(out, "no {service} session: {reason}"),
            Self::Call(what) | Self::Input(what) => out.write_str(what),
            Self::Kernel(status) => write!(out, "kernel: {status:?}"),
        }
    }
}

impl core::error::Error for Error {}

impl<E: fmt::Display> From<rpc::Error<E>> for Error {
    fn from(error: rpc::Error<E>) -> Self {
        Self::Call(error.to_string())
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Kernel(status)
    }
}
