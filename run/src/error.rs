//! The one error type of the tool: what is wrong, and what the user can do about it.

use std::fmt;
use std::path::Path;

/// A failure as the user reads it: one line with the cause and, where there is one, the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    cause: String,
    remedy: Option<String>,
}

/// Result of everything that can fail in this tool.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its cause, without a full stop.
    pub fn new(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), remedy: None }
    }

    /// Adds what the user can do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// An input/output error: `action` is a verb ("read", "write", "create").
    pub fn io(action: &str, path: &Path, cause: &std::io::Error) -> Self {
        Self::new(format!("cannot {action} {}: {cause}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.cause)?;
        match &self.remedy {
            Some(remedy) => write!(formatter, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
