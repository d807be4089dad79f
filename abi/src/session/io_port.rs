//! `IO_PORT`: a range of I/O ports. Session arguments: `io_port_base`, `io_port_size`.
//!
//! Core puts the ports into the port space of a protection domain, whose threads then use them without further
//! help. Closing the session takes them away.

use super::pd::Pd;
use super::wire::Cap;
use crate::{rpc, wire_enum};

rpc! {
    /// A range of I/O ports.
    pub interface IoPort {
        const NAME = "IO_PORT";
        const CAP_QUOTA = 3;
        const RAM_QUOTA = 8 * 1024;
        /// Lets the threads of a protection domain use the ports.
        fn bind(pd: Cap<Pd>) | BindError;
    }
}

wire_enum! {
    /// Why the ports were not put into the port space.
    pub enum BindError {
        /// The capability names no protection domain.
        InvalidPd = 1,
        /// The protection domain cannot pay for its port space.
        OutOfCaps = 2,
        /// The session has been bound before.
        AlreadyBound = 3,
    }
}
