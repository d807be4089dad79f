//! I/O ports of a device.

use alloc::format;
use core::ops::Deref;

use abi::session::io_port::IoPort;

use crate::env::{Connection, Env};
use crate::error::Error;
use crate::sys::port::PortRange;

/// I/O ports that the component may use as long as this exists.
#[derive(Debug)]
pub struct IoPorts {
    range: PortRange,
    _session: Connection<IoPort>,
}

impl IoPorts {
    /// Asks for `count` ports from `base`.
    ///
    /// # Errors
    /// They are not to be had.
    pub fn open(env: &'static Env, base: u16, count: u16) -> Result<Self, Error> {
        let range = PortRange::new(base, count).ok_or_else(|| Error::input("I/O ports out of range"))?;
        let session = env.connect::<IoPort>(&format!("io_port_base={base}, io_port_size={count}"))?;
        session.bind(env.pd_cap())?;
        Ok(Self { range, _session: session })
    }
}

impl Deref for IoPorts {
    type Target = PortRange;
    fn deref(&self) -> &PortRange {
        &self.range
    }
}
