//! Timer driver: any number of Timer sessions, served by one thread that waits with a deadline.
//!
//! The entrypoint keeps the [`schedule`]; the [`alarm`] thread sleeps until its earliest time and then signals the
//! entrypoint, which signals the clients. There is no device: the kernel's semaphores have deadlines.
#![cfg_attr(kilonova, no_std, no_main)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, missing_docs, reason = "tests state their expectations tersely"))]

extern crate alloc;

mod alarm;
mod schedule;
mod session;

use abi::session::timer::Timer;
use alloc::rc::Rc;
use core::cell::RefCell;
use runtime::{Env, Error};

use crate::alarm::Alarm;
use crate::session::{Driver, TimerService};

runtime::component!(construct);

fn construct(env: &'static Env) -> Result<(), Error> {
    let driver = Rc::new(RefCell::new(Driver::default()));
    let expired = env.entrypoint().signal_handler({
        let driver = Rc::clone(&driver);
        move |_| driver.borrow_mut().expire()
    })?;
    let alarm = Alarm::start(env, expired.cap().clone())?;
    driver.borrow_mut().use_alarm(alarm);
    // The handler lives as long as the driver.
    core::mem::forget(expired);
    env.announce::<Timer, _>(TimerService::new(driver))
}
