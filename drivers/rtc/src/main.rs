//! RTC driver: the wall clock of the machine, by the registers of the MC146818 at ports 0x70 and 0x71. Any number of clients.
#![cfg_attr(kilonova, no_std, no_main)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, missing_docs, reason = "tests state their expectations tersely"))]

extern crate alloc;

mod clock;

use abi::session::io_port::IoPort;
use abi::session::rtc::{self, Rtc, RtcError};
use alloc::format;
use alloc::rc::Rc;
use core::cell::RefCell;
use runtime::capability::Capability;
use runtime::env::Connection;
use runtime::root::{NewSession, Refused, Service};
use runtime::sys::port::PortRange;
use runtime::{Env, Error};

use crate::clock::Registers;

runtime::component!(construct);

/// Index and data port.
const BASE: u16 = 0x70;
const PORTS: u16 = 2;

/// The chip behind its ports.
#[derive(Debug)]
struct Chip {
    range: PortRange,
    // Held open as long as the ports are used.
    _session: Connection<IoPort>,
}

impl Registers for Chip {
    fn read(&mut self, index: u8) -> u8 {
        // The range covers both ports.
        let _selected = self.range.out8(0, index);
        self.range.in8(1).unwrap_or_default()
    }
}

/// A client. All see the same clock.
#[derive(Debug)]
struct Session(Rc<RefCell<Chip>>);

impl rtc::Server<Capability> for Session {
    fn unix_seconds(&mut self) -> Result<u64, RtcError> {
        clock::read(&mut *self.0.borrow_mut()).ok_or(RtcError::Invalid)
    }
}

#[derive(Debug)]
struct Driver(Rc<RefCell<Chip>>);

impl Service<Rtc> for Driver {
    type Session = Session;

    fn create(&mut self, _request: &NewSession<'_>) -> Result<Rc<RefCell<Session>>, Refused> {
        Ok(Rc::new(RefCell::new(Session(Rc::clone(&self.0)))))
    }
}

fn construct(env: &'static Env) -> Result<(), Error> {
    let range = PortRange::new(BASE, PORTS).ok_or_else(|| Error::input("I/O ports out of range"))?;
    let session = env.connect::<IoPort>(&format!("io_port_base={BASE}, io_port_size={PORTS}"))?;
    session.bind(env.pd_cap())?;
    let chip = Rc::new(RefCell::new(Chip { range, _session: session }));
    env.announce::<Rtc, _>(Driver(chip))
}
