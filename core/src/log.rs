//! LOG: lines of components on the log of the machine.

use crate::Core;
use crate::kernel::Machine;
use crate::object::{Handle, Key};
use abi::session::log::{self, LINE_MAX, OneLine};
use abi::session::wire::Text;
use core::fmt;

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

impl<M: Machine> Core<'_, M> {
    /// Writes a line of core's own, in which there may be names that others gave.
    pub fn log(&self, line: fmt::Arguments<'_>) {
        self.kernel.0.log(format_args!("[core] {}", OneLine(line)));
    }
}
