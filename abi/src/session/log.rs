//! LOG: lines of text for humans.

use core::fmt::{self, Write};

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

/// Something in words, without control characters, so that nobody can start a line in someone else's name or move the
/// cursor.
#[derive(Clone, Copy, Debug)]
pub struct OneLine<T>(pub T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Printable(f), "{}", self.0)
    }
}

struct Printable<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Printable<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.0.write_char(if c.is_control() && c != '\t' { '.' } else { c }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::wire::Text;

    #[test]
    fn a_line_stays_a_line() {
        let mut text = Text::<40>::new();
        write!(text, "{}", OneLine("a\n[core] b\r\x1b[2J\tc")).unwrap();
        assert_eq!(text.as_str(), "a.[core] b..[2J\tc");
    }
}
