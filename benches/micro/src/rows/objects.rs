//! Creation of objects, at selectors that follow each other. What was created is destroyed afterwards.

use super::timed;
use crate::asm::{ITERATIONS, LOOP, loops};
use crate::report::Report;
use crate::selectors::CREATED;
use crate::thread::destroy;
use abi::status::Status;

/// UTCBs of the handlers created, in this task.
const UTCBS: u64 = 0x4000_0000;
/// Pages of kernel memory of the domains created: a root of each space, and one that makes room for their slots.
const QUOTA: u64 = 3;

pub fn measure(report: &Report) -> Result<(), Status> {
    timed(report, "create-sm", 6 + LOOP, loops::create_sm)?;
    discard(1)?;
    timed(report, "create-pt", 7 + LOOP, loops::create_pt)?;
    discard(1)?;
    timed(report, "create-ec", 8 + LOOP, || loops::create_ec(UTCBS))?;
    discard(1)?;
    timed(report, "create-pd", 15 + LOOP, loops::create_pd::<QUOTA>)?;
    discard(3)
}

/// Destroys what was created: the first of every `stride` objects, with which the others go.
fn discard(stride: usize) -> Result<(), Status> {
    (0..ITERATIONS * stride).step_by(stride).try_for_each(|index| destroy(CREATED.offset(index as u64)))
}
