//! LOG: lines of components on the log of the machine.

use crate::Core;
use crate::kernel::Machine;
use crate::object::{Handle, Key};
use abi::session::log::{self, LINE_MAX};
use abi::session::wire::Text;
use core::fmt::{self, Write};

/// The session that a call is for.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> log::Server<Handle> for Call<'_, '_, M> {
    fn write(&mut self, line: Text<LINE_MAX>) {
        let label = self.core.logs.get(&self.key).map_or("", |label| label.as_str());
        self.core.kernel.0.log(format_args!("[{}] {}", OneLine(label), OneLine(&line)));
    }
}

/// Something in words, without control characters, so that nobody can start a line in someone else's name or move the
/// cursor.
struct OneLine<T>(T);

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

impl<M: Machine> Core<'_, M> {
    /// Writes a line of core's own, in which there may be names that others gave.
    pub fn log(&self, line: fmt::Arguments<'_>) {
        self.kernel.0.log(format_args!("[core] {}", OneLine(line)));
    }
}

#[cfg(test)]
mod tests {
    use super::OneLine;
    use alloc::string::ToString;

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(OneLine("a\n[core] b\r\x1b[2J\tc").to_string(), "a.[core] b..[2J\tc");
    }
}
