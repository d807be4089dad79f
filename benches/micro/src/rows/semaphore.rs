//! Semaphores.

use super::timed;
use crate::asm::{LOOP, loops};
use crate::report::Report;
use crate::thread::{Place, Thread};
use abi::status::Status;

pub fn measure(report: &Report) -> Result<(), Status> {
    timed(report, "sm-up-down", 5 + LOOP, loops::up_down)?;
    let other = Thread::start(Place { index: 1, ..Place::default() }, loops::pong)?;
    timed(report, "sm-ping-pong", 5 + LOOP + 5, loops::ping)?;
    other.stop()
}
