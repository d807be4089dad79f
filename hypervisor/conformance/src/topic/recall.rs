//! Recall: a thread raises its recall event before it goes on.

use crate::kit::context::{Handler, Setup, Thread};
use crate::kit::events::Events;
use crate::kit::memory::fresh_cells;
use crate::kit::object::{copy, fresh_range, portal_at, semaphore, try_call, up};
use crate::kit::time::{down_until, eventually, pause};
use crate::report::{check, holds};
use crate::sys::hypercall::{Message, call};
use crate::sys::memory::{CELLS_AT, cell};
use crate::sys::probe;
use abi::cap::{Perms, Sel};
use abi::event::host;
use abi::hypercall::CtrlEc;
use abi::state::Mtd;
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

fn recall(ec: Sel) -> Result<(), Status> {
    try_call(CtrlEc::Recall { ec }.encode())
}

/// Spins with known registers until the first cell is set; the second one tells whether they were intact.
extern "sysv64" fn spin(cells: u64) {
    cell(cells + 2).store(1, Relaxed);
    let damaged = probe::spin_with_pattern(CELLS_AT + cells * 8);
    cell(cells + 1).store(damaged + 1, Relaxed);
}

/// The topic.
pub fn run() {
    for cpu in 0..information_page().cpu_count as u16 {
        running(cpu);
        blocked(cpu);
        oneself(cpu);
        during_call(cpu);
        without_portal(cpu);
    }
    let weak = copy(abi::cap::root::EC, Perms::ALL.difference(Perms::EC_CTRL));
    check("without permission", recall(weak), Err(Status::BadCapability));
}

fn running(cpu: u16) {
    let events = Events::create(cpu);
    let cells = fresh_cells(3);
    let thread = Thread::start(Setup::on(cpu).events(events.base), spin, cells);
    holds("a thread spins", eventually(|| cell(cells + 2).load(Relaxed) == 1));
    let mut seen = true;
    for round in 1..=100 {
        check_quietly(&mut seen, recall(thread.ec) == Ok(()));
        check_quietly(&mut seen, eventually(|| events.seen().count == round));
    }
    holds("it is recalled 100 times", seen);
    check("by the event for it", events.seen().event, host::RECALL);
    cell(cells).store(1, Relaxed);
    holds("it goes on each time", thread.join());
    check("with all registers", cell(cells + 1).load(Relaxed), 1);
}

fn check_quietly(all: &mut bool, one: bool) {
    *all &= one;
}

extern "sysv64" fn wait(argument: u64) {
    let (sm, index) = (Sel(argument >> 16), argument & 0xffff);
    cell(index).store(1, Relaxed);
    let result = down_until(sm, 0);
    cell(index).store(if result == Ok([0, 1]) { 2 } else { 3 }, Relaxed);
}

/// A blocked thread stays blocked, and raises the event when it goes on; the result of its hypercall is not lost.
fn blocked(cpu: u16) {
    let events = Events::create(cpu);
    let (sm, index) = (semaphore(0), fresh_cells(1));
    let thread = Thread::start(Setup::on(cpu).events(events.base), wait, sm.0 << 16 | index);
    holds("a thread waits", eventually(|| cell(index).load(Relaxed) == 1));
    pause(3);
    check("recall", recall(thread.ec), Ok(()));
    pause(2);
    check("does not wake it", cell(index).load(Relaxed), 1);
    up(sm);
    holds("an up does", thread.join());
    check("with the event", events.seen().count, 1);
    check("and its result", cell(index).load(Relaxed), 2);
    crate::kit::object::destroy(sm);
}

/// Cells: own EC, status + 1, events seen by then, cell of the count.
extern "sysv64" fn recall_self(cells: u64) {
    let result = recall(Sel(cell(cells).load(Relaxed)));
    cell(cells + 2).store(cell(cell(cells + 3).load(Relaxed)).load(Relaxed), Relaxed);
    cell(cells + 1).store(result.err().map_or(0, |status| status as u64) + 1, Relaxed);
}

fn oneself(cpu: u16) {
    let count = fresh_cells(1);
    let handler = Handler::create(cpu, note);
    let base = fresh_range(host::COUNT);
    portal_at(base.offset(host::RECALL), handler.ec, count, Mtd::empty());
    let cells = fresh_cells(4);
    let thread = Thread::prepare(Setup::on(cpu).events(base), recall_self, cells);
    cell(cells).store(thread.ec.0, Relaxed);
    cell(cells + 3).store(count, Relaxed);
    thread.run(Setup::on(cpu));
    holds("a thread recalls itself", thread.join());
    let values = [1, 2].map(|i| cell(cells + i).load(Relaxed));
    check("and has the event before the call returns", values, [1, 1]);
}

extern "sysv64" fn note(message: &mut Message) {
    cell(message.id).fetch_add(1, Relaxed);
    message.tag = abi::message::Tag(0);
}

/// Recalls the EC at the selector in the first word and replies at once.
extern "sysv64" fn recall_caller(message: &mut Message) {
    let result = recall(Sel(message.words[0]));
    message.words[0] = result.err().map_or(0, |status| status as u64);
}

/// Cells: own EC, portal, cell of the count, count when the call returned, result.
extern "sysv64" fn be_recalled(cells: u64) {
    let word = |i| cell(cells + i).load(Relaxed);
    let reply = call(Sel(word(1)), Message::words([word(0), 1, 2, 3]));
    cell(cells + 3).store(cell(word(2)).load(Relaxed), Relaxed);
    cell(cells + 4).store(reply.map_or(99, |r| r.words[0] + r.words[3]), Relaxed);
}

/// A handler recalls its caller: the event comes before the call returns, and the reply is not lost.
fn during_call(cpu: u16) {
    let count = fresh_cells(1);
    let (events, callee) = (Handler::create(cpu, note), Handler::create(cpu, recall_caller));
    let base = fresh_range(host::COUNT);
    portal_at(base.offset(host::RECALL), events.ec, count, Mtd::empty());
    let cells = fresh_cells(5);
    let thread = Thread::prepare(Setup::on(cpu).events(base), be_recalled, cells);
    for (i, value) in (0..).zip([thread.ec.0, callee.portal(0).0, count]) {
        cell(cells + i).store(value, Relaxed);
    }
    thread.run(Setup::on(cpu));
    holds("a handler recalls its caller", thread.join());
    check("the event comes first", cell(cells + 3).load(Relaxed), 1);
    check("the reply after it", cell(cells + 4).load(Relaxed), 3);
}

fn without_portal(cpu: u16) {
    let cells = fresh_cells(3);
    let thread = Thread::start(Setup::on(cpu), spin, cells);
    holds("a thread without portals spins", eventually(|| cell(cells + 2).load(Relaxed) == 1));
    check("recall", recall(thread.ec), Ok(()));
    cell(cells).store(1, Relaxed);
    holds("is nothing to it", thread.join());
}
