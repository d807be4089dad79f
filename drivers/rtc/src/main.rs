//! RTC driver: the wall clock of the machine, by the registers of the MC146818 at ports 0x70 and 0x71. Any number of clients.
#![cfg_attr(kilonova, no_std, no_main)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, missing_docs, reason = "tests state their expectations tersely"))]

extern crate alloc;

mod clock;

use abi::session::rtc::{self, Rtc, RtcError};
use alloc::rc::Rc;
use core::cell::RefCell;
use runtime::capability::Capability;
use runtime::io_ports::IoPorts;
use runtime::root::{NewSession, Refused, Service};
use runtime::{Env, Error};

use crate::clock::Registers;

runtime::component!(construct);

/// Index and data port.
const BASE: u16 = 0x70;
const PORTS: u16 = 2;

impl Registers for IoPorts {
    fn read(&mut self, index: u8) -> u8 {
        // Both ports are there.
        let _selected = self.out8(0, index);
        self.in8(1).unwrap_or_default()
    }
}

/// A client. All see the same clock.
#[derive(Debug)]
struct Session(Rc<RefCell<IoPorts>>);

impl rtc::Server<Capability> for Session {
    fn unix_seconds(&mut self) -> Result<u64, RtcError> {
        clock::read(&mut *self.0.borrow_mut()).ok_or(RtcError::Invalid)
    }
}

#[derive(Debug)]
struct Driver(Rc<RefCell<IoPorts>>);

impl Service<Rtc> for Driver {
    type Session = Session;

    fn create(&mut self, _request: &NewSession<'_>) -> Result<Rc<RefCell<Session>>, Refused> {
        Ok(Rc::new(RefCell::new(Session(Rc::clone(&self.0)))))
    }
}

fn construct(env: &'static Env) -> Result<(), Error> {
    let chip = Rc::new(RefCell::new(IoPorts::open(env, BASE, PORTS)?));
    env.announce::<Rtc, _>(Driver(chip))
}
