//! Calls and replies: messages, nesting, busy handlers, handlers on other CPUs, and what happens when the caller goes.

use crate::kit::context::{Handler, Setup, Thread};
use crate::kit::domain::Domain;
use crate::kit::memory::fresh_cells;
use crate::kit::object::{self, semaphore, up};
use crate::kit::time::{down, down_until, eventually, pause};
use crate::report::{check, holds};
use crate::sys::hypercall::{Message, call};
use crate::sys::memory::cell;
use crate::sys::utcb;
use abi::cap::Sel;
use abi::message::{MAX_WORDS, Tag};
use abi::status::Status;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

/// The topic.
pub fn run() {
    let cpus = information_page().cpu_count as u16;
    let domain = Domain::create(400);
    for cpu in 0..cpus {
        for place in [Setup::on(cpu), Setup::on(cpu).inside(domain)] {
            registers(place);
            words(place);
        }
        nested(cpu);
        busy(cpu);
        helped(cpu);
        without_caller(cpu);
        cycle(cpu);
    }
    domain.destroy();
    all_to_all(cpus);
}

/// Adds one to each word and to the label, and the id to the first word.
extern "sysv64" fn plus_one(message: &mut Message) {
    message.words.iter_mut().for_each(|word| *word = word.wrapping_add(1));
    message.words[0] = message.words[0].wrapping_add(message.id);
    message.tag = Tag::new(message.tag.label().wrapping_add(1), 0, 0);
}

fn registers(place: Setup) {
    let handler = Handler::inside(place, plus_one);
    let portal = handler.portal(1000);
    let words = [0, u64::MAX, 0x1234_5678_9abc_def0, 7];
    let sent = Message { id: 0, tag: Tag::new(0xffff_0001, 0, 0), words };
    let reply = call(portal, sent).map(|reply| (reply.tag.label(), reply.words));
    check("words and label in registers", reply, Ok((0xffff_0002, [1001, 0, 0x1234_5678_9abc_def1, 8])));
    let many = (0..500).filter(|i| call(portal, Message::words([*i; 4])).is_ok_and(|r| r.words[3] == i + 1));
    check("again and again", many.count(), 500);
}

/// Complements each word in the UTCB.
extern "sysv64" fn complement(message: &mut Message) {
    for i in 0..message.tag.words() {
        utcb::write(i, !utcb::read(i));
    }
    message.words = [message.tag.words() as u64; 4];
}

fn words(place: Setup) {
    let handler = Handler::inside(place, complement);
    let portal = handler.portal(0);
    let round = |count: usize| {
        (0..MAX_WORDS).for_each(|i| utcb::write(i, (count * 1000 + i) as u64));
        let sent = Message { tag: Tag::new(5, count, 0), ..Message::default() };
        let counted = call(portal, sent).is_ok_and(|r| r.tag == sent.tag && r.words == [count as u64; 4]);
        let good = |i: usize| {
            let sent = (count * 1000 + i) as u64;
            utcb::read(i) == if i < count { !sent } else { sent }
        };
        counted && (0..MAX_WORDS).all(good)
    };
    check("messages of every size", (0..=MAX_WORDS).filter(|&n| round(n)).count(), MAX_WORDS + 1);
    // Counts in a hostile tag are cut.
    let sent = Message { tag: Tag(0x1ff), ..Message::default() };
    check("a count too high is cut", call(portal, sent).map(|r| r.words[0]), Ok(MAX_WORDS as u64));
}

/// Passes the message on to the portal at the selector in the first word, if that is not 0, after shifting the words.
extern "sysv64" fn forward(message: &mut Message) {
    let next = Sel(message.words[0]);
    message.words.rotate_left(1);
    if next.0 != 0 {
        message.words[3] = 0;
        match call(next, *message) {
            Ok(reply) => message.words = reply.words,
            Err(status) => message.words[0] = status as u64,
        }
    }
    message.words[3] += 1;
}

/// CPUs in turn, beginning with `cpu`.
pub(super) fn cpus_from(cpu: u16) -> impl Iterator<Item = u16> {
    let count = information_page().cpu_count as u16;
    (cpu..count).chain(0..cpu).cycle()
}

fn nested(cpu: u16) {
    let handlers: Vec<_> = cpus_from(cpu).take(4).map(|cpu| Handler::create(cpu, forward)).collect();
    let portals: Vec<_> = handlers.iter().map(|handler| handler.portal(0)).collect();
    let rest = [portals[1].0, portals[2].0, portals[3].0, 0];
    let reply = call(portals[0], Message::words(rest)).map(|reply| reply.words[3]);
    check("nested calls", reply, Ok(4));
}

/// Cells of a handler that can be made to wait: entered, finished; semaphore to wait at; portals' ids carry the index.
pub(super) extern "sysv64" fn wait_inside(message: &mut Message) {
    let cells = message.id;
    cell(cells).fetch_add(1, Relaxed);
    let result = down_until(Sel(message.words[0]), 0);
    cell(cells + 1).fetch_add(1, Relaxed);
    message.words = [result.is_ok().into(), 0, 0, message.words[3]];
}

/// A thread that makes one call: cells hold portal, argument and, in the end, the status + 1 and the reply's last word.
extern "sysv64" fn caller(cells: u64) {
    let (portal, word) = (Sel(cell(cells).load(Relaxed)), cell(cells + 1).load(Relaxed));
    let reply = call(portal, Message::words([word, 0, 0, cells]));
    cell(cells + 3).store(reply.map_or(0, |reply| reply.words[3]), Relaxed);
    cell(cells + 2).store(reply.err().map_or(0, |status| status as u64) + 1, Relaxed);
}

/// A thread that calls `portal` with `word`, and its cells.
pub(super) fn start_call(setup: Setup, portal: Sel, word: u64) -> (Thread, u64) {
    let cells = fresh_cells(4);
    cell(cells).store(portal.0, Relaxed);
    cell(cells + 1).store(word, Relaxed);
    (Thread::start(setup, caller, cells), cells)
}

/// Status of a finished call; `None` while it lasts.
pub(super) fn outcome(cells: u64) -> Option<Status> {
    Status::from_raw(cell(cells + 2).load(Relaxed).wrapping_sub(1))
}

/// Several callers of a handler that blocks: one after the other is served, from wherever.
fn busy(cpu: u16) {
    let cells = fresh_cells(2);
    let sm = semaphore(0);
    let handler = Handler::create(cpu, wait_inside);
    let portal = handler.portal(cells);
    let calls: Vec<_> = cpus_from(cpu).take(4).map(|cpu| start_call(Setup::on(cpu), portal, sm.0)).collect();
    holds("one caller is inside", eventually(|| cell(cells).load(Relaxed) == 1));
    pause(3);
    check("only one", cell(cells).load(Relaxed), 1);
    (0..4).for_each(|_| up(sm));
    holds("all are served", calls.iter().all(|(thread, _)| thread.join()));
    let good = calls
        .iter()
        .all(|&(_, cells)| outcome(cells) == Some(Status::Success) && cell(cells + 3).load(Relaxed) == cells);
    holds("each gets its own reply", good);
    object::destroy(sm);
}

/// Works for a while without blocking.
extern "sysv64" fn work(message: &mut Message) {
    cell(message.id).fetch_add(1, Relaxed);
    for _ in 0..3_000_000 {
        core::hint::spin_loop();
    }
    cell(message.id + 1).fetch_add(1, Relaxed);
}

extern "sysv64" fn spin(index: u64) {
    while cell(index).load(Relaxed) == 0 {
        core::hint::spin_loop();
    }
}

/// A caller of high priority gets a handler going that a caller of low priority keeps busy.
fn helped(cpu: u16) {
    let (cells, stop) = (fresh_cells(2), fresh_cells(1));
    let handler = Handler::create(cpu, work);
    let portal = handler.portal(cells);
    let (low, _) = start_call(Setup::on(cpu).priority(10), portal, 0);
    holds("the handler is entered", eventually(|| cell(cells).load(Relaxed) == 1));
    let spinner = Thread::start(Setup::on(cpu).priority(20), spin, stop);
    let (high, results) = start_call(Setup::on(cpu).priority(30), portal, 0);
    holds("the higher caller is served", high.join());
    check("successfully", outcome(results), Some(Status::Success));
    cell(stop).store(1, Relaxed);
    holds("the spinner ends", spinner.join());
    holds("the lower caller is served, too", low.join());
    check("each entered once", (cell(cells).load(Relaxed), cell(cells + 1).load(Relaxed)), (2, 2));
}

/// The caller is destroyed, the handler replies to nobody and serves on.
fn without_caller(cpu: u16) {
    for from in cpus_from(cpu).take(2) {
        let cells = fresh_cells(2);
        let sm = semaphore(0);
        let handler = Handler::create(cpu, wait_inside);
        let portal = handler.portal(cells);
        let (thread, _) = start_call(Setup::on(from), portal, sm.0);
        holds("the handler is entered", eventually(|| cell(cells).load(Relaxed) == 1));
        drop(thread);
        up(sm);
        // The next caller's time is what gets the handler to its reply.
        up(sm);
        let reply = call(portal, Message::words([sm.0, 0, 0, 5]));
        check("the next caller is served", reply.map(|r| r.words), Ok([1, 0, 0, 5]));
        check("after the reply to nobody", cell(cells + 1).load(Relaxed), 2);
        object::destroy(sm);
    }
}

/// Two handlers that call each other wait for ever, and nobody else does.
fn cycle(cpu: u16) {
    let handlers = [(); 2].map(|()| Handler::create(cpu, forward));
    let portals = handlers.each_ref().map(|handler| handler.portal(0));
    let cells = fresh_cells(4);
    cell(cells).store(portals[0].0, Relaxed);
    let count = fresh_cells(2);
    let spinner = Thread::start(Setup::on(cpu).priority(20), spin, count);
    let path = [portals[0].0, portals[1].0, portals[0].0];
    // The first word is dropped at each station.
    extern "sysv64" fn call_around(cells: u64) {
        let word = |i| cell(cells + i).load(Relaxed);
        let reply = call(Sel(word(0)), Message::words([word(1), word(2), 0, 0]));
        cell(cells + 3).store(reply.err().map_or(1, |status| status as u64 + 1), Relaxed);
    }
    for (i, portal) in (0..).zip(path) {
        cell(cells + i).store(portal, Relaxed);
    }
    let stuck = Thread::start(Setup::on(cpu).priority(40), call_around, cells);
    let reply = down_until(stuck.done, crate::kit::time::after(30_000));
    check("a cycle does not end", reply, Err(Status::Timeout));
    cell(count).store(1, Relaxed);
    holds("threads of lower priority run meanwhile", spinner.join());
    object::destroy(handlers[1].ec);
    holds("a cycle that is cut ends", down(stuck.done).is_ok());
    holds("with a status", cell(cells + 3).load(Relaxed) != 0);
}

const CALLS: u64 = 500;

extern "sysv64" fn call_often(cells: u64) {
    let (first, count) = (cell(cells).load(Relaxed), cell(cells + 1).load(Relaxed));
    let mut good = 0;
    for i in 0..CALLS {
        let reply = call(Sel(first + i % count), Message::words([i, cells, 2, 3]));
        good += u64::from(reply.is_ok_and(|r| r.words == [i + 1, cells + 1, 3, 4]));
    }
    cell(cells + 2).store(good, Relaxed);
}

/// Threads on all CPUs call handlers on all CPUs.
fn all_to_all(cpus: u16) {
    let handlers: Vec<_> = (0..cpus).map(|cpu| Handler::create(cpu, plus_one)).collect();
    let first = object::fresh_range(u64::from(cpus));
    for (i, handler) in (0..).zip(&handlers) {
        object::portal_at(first.offset(i), handler.ec, 0, abi::state::Mtd::empty());
    }
    let threads: Vec<_> = (0..cpus * 3)
        .map(|i| {
            let cells = fresh_cells(3);
            cell(cells).store(first.0, Relaxed);
            cell(cells + 1).store(u64::from(cpus), Relaxed);
            (Thread::start(Setup::on(i % cpus), call_often, cells), cells)
        })
        .collect();
    holds("all calls from all CPUs to all CPUs return", threads.iter().all(|(thread, _)| thread.join()));
    holds("with the right words", threads.iter().all(|&(_, cells)| cell(cells + 2).load(Relaxed) == CALLS));
}
