//! LOG: lines of text for humans.

use super::wire::Text;
use crate::rpc;

/// Longest line.
pub const LINE_MAX: usize = 232;

rpc! {
    /// A log, which puts the label of the session before each line.
    pub interface Log {
        const NAME = "LOG";
        const CAP_QUOTA = 2;
        const RAM_QUOTA = 8 * 1024;
        /// Appends one line, given without a newline.
        fn write(line: Text<LINE_MAX>);
    }
}
