//! Hypercalls, calls and exceptions.

use super::timed;
use crate::asm::{self, LOOP, SUCCESS, expect, handlers, loops};
use crate::domain::{ELSEWHERE, EVENTS, HERE, THERE};
use crate::report::{Report, Row};
use crate::selectors::{
    NOTHING, OTHER_CPU, OTHER_DOMAIN, OTHER_DOMAIN_LONG, OTHER_DOMAIN_OPEN, SAME_DOMAIN, THREAD_EVENTS,
};
use crate::thread::{self, Place, Thread};
use abi::message::Tag;
use abi::state::Mtd;
use abi::status::Status;

/// Words of a long message.
pub const WORDS: u64 = 64;
/// Exception of an invalid opcode.
const INVALID_OPCODE: u64 = 6;

/// Instructions of the caller and of the handler.
const CALL: u64 = 3 + LOOP;
const CALL_WITH_WORDS: u64 = 7 + LOOP;
const REPLY: u64 = 3;

pub fn measure(report: &Report) -> Result<(), Status> {
    HERE.create()?.portal(SAME_DOMAIN, handlers::short, Mtd::empty())?;
    let there = THERE.create()?;
    there.portal(OTHER_DOMAIN, handlers::short, Mtd::empty())?;
    there.portal(OTHER_DOMAIN_LONG, handlers::long::<WORDS>, Mtd::empty())?;
    there.portal(OTHER_DOMAIN_OPEN, handlers::open_window, Mtd::empty())?;
    timed(report, "null-hypercall", 2 + LOOP, || expect(loops::null(), Status::BadHypercall))?;
    timed(report, "call-nothing", CALL, || expect(loops::call::<{ NOTHING.0 }, 0>(), Status::BadCapability))?;
    timed(report, "ipc-same-pd-1", CALL + REPLY, loops::call::<{ SAME_DOMAIN.0 }, 0>)?;
    timed(report, "ipc-other-pd-1", CALL + REPLY, loops::call::<{ OTHER_DOMAIN.0 }, 0>)?;
    timed(report, "ipc-other-pd-4", CALL_WITH_WORDS + REPLY, loops::call_with_words::<{ OTHER_DOMAIN.0 }>)?;
    timed(report, "ipc-other-pd-64", CALL + REPLY, loops::call::<{ OTHER_DOMAIN_LONG.0 }, WORDS>)?;
    timed(report, "ipc-other-pd-cap", CALL + REPLY, pass_capability)?;
    if report.cpus > 1 {
        ELSEWHERE.create()?.portal(OTHER_CPU, handlers::short, Mtd::empty())?;
        timed(report, "ipc-cross-cpu", CALL + REPLY, loops::call::<{ OTHER_CPU.0 }, 0>)?;
    } else {
        report.skip("ipc-cross-cpu", "one CPU");
    }
    exception(report)
}

fn pass_capability() -> u64 {
    const ONE_CAP: u64 = Tag::new(0, 0, 1).0;
    loops::call::<{ OTHER_DOMAIN_OPEN.0 }, 0>();
    loops::pass_capability(thread::utcb(0));
    loops::call::<{ OTHER_DOMAIN.0 }, ONE_CAP>()
}

fn exception(report: &Report) -> Result<(), Status> {
    let portal = THREAD_EVENTS.offset(INVALID_OPCODE);
    EVENTS.create()?.portal(portal, handlers::skip, Mtd::RIP)?;
    let place = Place { events: THREAD_EVENTS, ..Place::default() };
    Thread::run(place, || {
        loops::invalid_instruction();
        SUCCESS
    })?;
    let row = Row { name: "exception", user: 1 + LOOP + 4, overhead: report.stamp };
    report.row(row, asm::intervals());
    Ok(())
}
