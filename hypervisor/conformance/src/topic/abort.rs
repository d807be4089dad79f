//! Calls whose other side goes: portals and handlers that are destroyed, and handlers that are stopped, while they are called or
//! wanted.

use super::ipc::{cpus_from, outcome, start_call, wait_inside};
use crate::kit::context::{Handler, Setup, Thread};
use crate::kit::memory::fresh_cells;
use crate::kit::object::{self, fresh_range, portal_at, semaphore, try_destroy, up};
use crate::kit::time::{after, down_until, eventually, pause};
use crate::report::{check, holds, skip};
use crate::sys::context::NEVER;
use crate::sys::hypercall::{Message, call, now};
use crate::sys::memory::cell;
use crate::sys::{probe, utcb};
use abi::cap::{Perms, Sel};
use abi::event::host;
use abi::message::{CapItem, MAX_CAPS, MAX_WORDS, Tag};
use abi::state::Mtd;
use abi::status::Status;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

/// The topic.
pub fn run() {
    let cpus = information_page().cpu_count as u16;
    for cpu in 0..cpus {
        for from in cpus_from(cpu).take(2) {
            // Only time tells whether a thread elsewhere has come to its call. If it was too late, the next attempt waits longer.
            let aborted = |ms| portal_gone(cpu, from, ms) == Some(Status::Aborted);
            holds("a call through a destroyed portal is aborted", [2, 20, 200, 2000].into_iter().any(aborted));
            handler_gone(cpu, from);
            middle_gone(cpu, from);
            handler_stopped(cpu, from);
        }
    }
    if cpus > 2 {
        gone_in_reply();
    } else {
        skip(
            "handlers that are destroyed while they reply",
            "callers, handlers and who destroys them are on three CPUs",
        );
    }
}

/// What became of a caller that waited for a busy handler when its portal was destroyed, if it waited after `ms` milliseconds.
fn portal_gone(cpu: u16, from: u16, ms: u64) -> Option<Status> {
    let cells = fresh_cells(2);
    let sm = semaphore(0);
    let handler = Handler::create(cpu, wait_inside);
    let (portal, other) = (handler.portal(cells), handler.portal(cells));
    let (inside, first) = start_call(Setup::on(from), portal, sm.0);
    holds("the handler is entered", eventually(|| cell(cells).load(Relaxed) == 1));
    let (queued, second) = start_call(Setup::on(from), other, sm.0);
    pause(ms);
    object::destroy(other);
    up(sm);
    holds("both calls end", queued.join() && inside.join());
    check("the other one with success", outcome(first), Some(Status::Success));
    object::destroy(sm);
    outcome(second)
}

fn handler_gone(cpu: u16, from: u16) {
    let cells = fresh_cells(2);
    let never = semaphore(0);
    let handler = Handler::create(cpu, wait_inside);
    let portal = handler.portal(cells);
    let (inside, results) = start_call(Setup::on(from), portal, never.0);
    holds("the handler is entered", eventually(|| cell(cells).load(Relaxed) == 1));
    object::destroy(handler.ec);
    holds("a call ends with its handler", inside.join());
    check("by abortion", outcome(results), Some(Status::Aborted));
    check("a portal without handler", call(portal, Message::default()), Err(Status::Aborted));
    check("can be destroyed", try_destroy(portal), Ok(1));
    check("and is gone", call(portal, Message::default()), Err(Status::BadCapability));
    object::destroy(never);
}

/// Calls the portal in the first word, whose handler never replies.
extern "sysv64" fn call_inside(message: &mut Message) {
    let _never = call(Sel(message.words[0]), Message::words([NEVER.0, 0, 0, 0]));
}

/// A handler is destroyed that has itself called one, which blocks for ever: its callers do not wait for that.
fn middle_gone(cpu: u16, from: u16) {
    let cells = fresh_cells(2);
    let inner = Handler::create(cpus_from(cpu).nth(1).unwrap_or(cpu), wait_inside);
    let middle = Handler::create(cpu, call_inside);
    let (portal, next) = (middle.portal(0), inner.portal(cells));
    let calls = [(); 2].map(|()| start_call(Setup::on(from), portal, next.0));
    holds("the inner handler is entered", eventually(|| cell(cells).load(Relaxed) == 1));
    pause(2);
    object::destroy(middle.ec);
    holds("calls end with a handler that has called another one", calls.iter().all(|(thread, _)| thread.join()));
    check("by abortion", calls.each_ref().map(|&(_, cells)| outcome(cells)), [Some(Status::Aborted); 2]);
    check("the inner one blocks", cell(cells + 1).load(Relaxed), 0);
}

/// Vector of an undefined opcode (SDM vol. 3, table 6-1).
const UNDEFINED_OPCODE: u64 = 6;

/// Waits at the semaphore in the first word, then does what it is stopped for.
extern "sysv64" fn fail_inside(message: &mut Message) {
    wait_inside(message);
    probe::run(probe::ud2, 0);
}

extern "sysv64" fn stop(message: &mut Message) {
    message.tag = Tag(u64::from(Mtd::KILL.bits()));
}

/// A handler is stopped while it serves one caller and another one waits for it. Who stops it is on the callers' CPU.
fn handler_stopped(cpu: u16, from: u16) {
    let cells = fresh_cells(2);
    let sm = semaphore(0);
    let (stopper, base) = (Handler::create(from, stop), fresh_range(host::COUNT));
    portal_at(base.offset(UNDEFINED_OPCODE), stopper.ec, 0, Mtd::empty());
    let handler = Handler::inside(Setup::on(cpu).events(base), fail_inside);
    let portal = handler.portal(cells);
    let (inside, first) = start_call(Setup::on(from), portal, sm.0);
    holds("the handler is entered", eventually(|| cell(cells).load(Relaxed) == 1));
    let (queued, second) = start_call(Setup::on(from), portal, sm.0);
    pause(2);
    up(sm);
    holds("calls end when their handler is stopped", inside.join() && queued.join());
    check("by abortion", [first, second].map(outcome), [Some(Status::Aborted); 2]);
    check("so do later ones", call(portal, Message::default()), Err(Status::Aborted));
    check("it can be destroyed", try_destroy(handler.ec), Ok(1));
    object::destroy(base.offset(UNDEFINED_OPCODE));
    object::destroy(sm);
}

/// Cells of [`gone_in_reply`].
mod at {
    /// Selector of the portal to call at the moment.
    pub const PORTAL: u64 = 0;
    /// Not 0: that is enough.
    pub const STOP: u64 = 1;
    /// Replies that came, and calls that were aborted.
    pub const REPLIES: u64 = 2;
    pub const ABORTED: u64 = 3;
    /// Waits that ended otherwise than by their deadline, and calls with an impossible status.
    pub const WRONG: u64 = 4;
    /// Where the relay is called.
    pub const RELAY: u64 = 5;
    /// First selector of the relay's window.
    pub const WINDOW: u64 = 6;
    pub const TOTAL: u64 = 7;
}

/// How long handlers are made and destroyed, some hundreds in a second.
const DURATION_US: u64 = 5_000_000;
/// TSC ticks: some microseconds.
const SHORT: u64 = 20_000;

fn spin(ticks: u64) {
    let end = now() + ticks;
    while now() < end {
        core::hint::spin_loop();
    }
}

/// As much as a message has room for, so that sending it takes long.
fn much() -> Message {
    (0..MAX_CAPS).for_each(|i| utcb::set_cap(i, CapItem::send(NEVER, Perms::SM_DOWN)));
    Message { tag: Tag::new(0, MAX_WORDS, MAX_CAPS), ..Message::default() }
}

extern "sysv64" fn reply_much(message: &mut Message) {
    *message = much();
}

/// Calls the handler of the moment. If that is gone, waits for something else, which nobody but the deadline may end.
extern "sysv64" fn relay(message: &mut Message) {
    let get = |index| cell(message.id + index).load(Relaxed);
    let add = |index| cell(message.id + index).fetch_add(1, Relaxed);
    utcb::set_window(get(at::WINDOW), MAX_CAPS as u64);
    match call(Sel(get(at::PORTAL)), much()) {
        Ok(_) => add(at::REPLIES),
        Err(Status::Aborted | Status::BadCapability) => {
            let deadline = now() + SHORT;
            let ended = down_until(NEVER, deadline);
            add(if ended == Err(Status::Timeout) && now() >= deadline { at::ABORTED } else { at::WRONG })
        }
        Err(_) => add(at::WRONG),
    };
    *message = Message::default();
}

extern "sysv64" fn call_relay(cells: u64) {
    let get = |index| cell(cells + index).load(Relaxed);
    let mut random = 1;
    while get(at::STOP) == 0 {
        // There is always one that is about to call.
        random = random * 5 % 37;
        spin(random * SHORT / 8);
        if call(Sel(get(at::RELAY)), Message::default()).is_err() {
            cell(cells + at::WRONG).fetch_add(1, Relaxed);
        }
    }
}

/// Makes handlers on CPU 1, and destroys them, or their portals first, while they are called and reply.
extern "sysv64" fn make_and_destroy(cells: u64) {
    let replies = || cell(cells + at::REPLIES).load(Relaxed);
    let end = after(DURATION_US);
    for round in (0..).take_while(|_| now() < end) {
        let handler = Handler::create(1, reply_much);
        let portal = handler.portal(0);
        let before = replies();
        cell(cells + at::PORTAL).store(portal.0, Relaxed);
        while replies() == before {
            core::hint::spin_loop();
        }
        // At another moment each time.
        spin(round % 40 * SHORT / 20);
        if round % 2 == 0 {
            object::destroy(handler.ec);
        }
        object::destroy(portal);
    }
    cell(cells + at::STOP).store(1, Relaxed);
}

/// Threads of CPU 0 call a handler there, which calls handlers on CPU 1, which CPU 2 destroys meanwhile. CPU 0 may find that the callee
/// is gone while CPU 1 still replies: whatever comes first, the call ends once.
fn gone_in_reply() {
    let cells = fresh_cells(at::TOTAL);
    let relay = Handler::create(0, relay);
    cell(cells + at::WINDOW).store(fresh_range(MAX_CAPS as u64).0, Relaxed);
    cell(cells + at::RELAY).store(relay.portal(cells).0, Relaxed);
    let callers: Vec<_> = (0..12).map(|_| Thread::start(Setup::on(0), call_relay, cells)).collect();
    let destroyer = Thread::start(Setup::on(2), make_and_destroy, cells);
    holds("handlers are destroyed while they reply", destroyer.join());
    holds("their callers go on", callers.iter().all(Thread::join));
    check("and never twice", cell(cells + at::WRONG).load(Relaxed), 0);
    holds("some were aborted", cell(cells + at::ABORTED).load(Relaxed) > 0);
}
