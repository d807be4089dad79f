//! What is measured, by kind.

mod delegation;
mod guest;
mod interrupt;
mod ipc;
mod objects;
mod semaphore;

use crate::asm::stack::Body;
use crate::asm::{self, handlers};
use crate::report::{self, Report, Row};
use crate::selectors;
use crate::thread::{Place, Thread};
use crate::{domain, memory};
use abi::status::Status;

/// Measures everything. Objects that several rows use are made first and stay.
pub fn all(report: &Report) -> Result<(), Status> {
    for sm in [selectors::DONE, selectors::NEVER, selectors::PING, selectors::PONG] {
        report::semaphore(sm)?;
    }
    memory::open()?;
    domain::create(&[handlers::short, handlers::long::<{ ipc::WORDS }>, handlers::open_window])?;
    ipc::measure(report)?;
    semaphore::measure(report)?;
    objects::measure(report)?;
    delegation::measure(report)?;
    interrupt::measure(report)?;
    guest::measure(report)
}

/// Times a loop, whose operation has `user` instructions with those of the loop, on a thread of its own.
fn timed(report: &Report, name: &'static str, user: u64, body: Body) -> Result<(), Status> {
    Thread::run(Place::default(), body)?;
    let row = Row { name, user, overhead: report.stamp };
    report.row(row, asm::intervals());
    Ok(())
}
