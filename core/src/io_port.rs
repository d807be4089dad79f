//! `IO_PORT`: I/O ports. Each is handed out once.

use crate::Core;
use crate::account::{AccountError, AccountId};
use crate::kernel::Machine;
use crate::object::{Handle, Key, Kind};
use crate::ranges::Range;
use abi::cap::Sel;
use abi::session::args::Args;
use abi::session::io_port::{self, BindError};
use abi::session::pd::Pd;
use abi::session::wire::Typed;

/// Number of I/O ports.
pub const PORTS: u64 = 1 << 16;

/// A session.
#[derive(Clone, Copy, Debug)]
pub struct IoPort {
    /// The ports.
    pub ports: Range,
    /// Protection domain whose threads use them.
    pub pd: Option<Key>,
}

/// The session that a call is for.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> io_port::Server<Handle> for Call<'_, '_, M> {
    fn bind(&mut self, pd: Typed<Pd, Handle>) -> Result<(), BindError> {
        let pd = pd.into_name().own().ok_or(BindError::InvalidPd)?;
        let session = self.core.io_ports.get(&self.key).ok_or(BindError::AlreadyBound)?;
        let ports = session.ports;
        if session.pd.is_some() {
            return Err(BindError::AlreadyBound);
        }
        self.core.give_ports(pd, ports)?;
        if let Some(session) = self.core.io_ports.get_mut(&self.key) {
            session.pd = Some(pd);
        }
        Ok(())
    }
}

impl<M: Machine> Core<'_, M> {
    fn give_ports(&self, pd: Key, ports: Range) -> Result<(), BindError> {
        let space = self.pds.get(&pd).ok_or(BindError::InvalidPd)?.ports;
        self.kernel.give_ports(ports, space, true).map_err(|_| {
            self.take_ports(space, ports);
            BindError::OutOfCaps
        })
    }

    fn take_ports(&self, space: Sel, ports: Range) {
        let taken = self.kernel.give_ports(ports, space, false);
        debug_assert!(taken.is_ok(), "removal needs no memory");
    }

    /// Opens a session, or `None` if the ports are not to be had.
    pub(crate) fn open_io_port(&mut self, args: Args<'_>, account: AccountId) -> Option<Result<Key, AccountError>> {
        let ports = Range::new(args.number("io_port_base")?, args.number("io_port_size")?)?;
        self.ports.take(ports).ok()?;
        let made = self.create_object(Kind::IoPort, account);
        match made {
            Ok(key) => {
                self.io_ports.insert(key, IoPort { ports, pd: None });
            }
            Err(_) => self.return_ports(ports),
        }
        Some(made)
    }

    fn return_ports(&mut self, ports: Range) {
        let freed = self.ports.free(ports);
        debug_assert!(freed.is_ok(), "{ports:?} freed twice");
    }

    /// Closes a session.
    pub(crate) fn destroy_io_port(&mut self, key: Key) {
        if let Some(session) = self.io_ports.remove(&key) {
            let space = session.pd.and_then(|pd| self.pds.get(&pd)).map(|pd| pd.ports);
            if let Some(space) = space {
                self.take_ports(space, session.ports);
            }
            self.return_ports(session.ports);
        }
        self.destroy_object(key);
    }
}
