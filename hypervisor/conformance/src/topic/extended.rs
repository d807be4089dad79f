//! Extended state: kept over everything but hypercalls, and never shown to others.

use crate::kit::context::{Handler, Setup, Thread, on_thread};
use crate::kit::domain::{Domain, ROOT};
use crate::kit::events::Events;
use crate::kit::memory::fresh_cells;
use crate::kit::time::{eventually, pause};
use crate::report::{check, holds};
use crate::sys::extended::{has_avx, hold, leftovers};
use crate::sys::hypercall::{Message, call};
use crate::sys::memory::{CELLS_AT, cell};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

/// Cells: stop, damaged registers + 1, mode (1: AVX, 2: with exceptions).
extern "sysv64" fn keep(cells: u64) {
    let mode = cell(cells + 2).load(Relaxed);
    let damaged = hold(cells * 0x0101_0101_0101_0101, CELLS_AT + cells * 8, mode & 1 != 0, mode & 2 != 0);
    cell(cells + 1).store(damaged + 1, Relaxed);
}

/// Threads that hold patterns, on all CPUs, while others come and go.
fn patterns(trap: bool, avx: bool) {
    let cpus = information_page().cpu_count as u16;
    let events: Vec<_> = (0..cpus).map(Events::create).collect();
    let threads: Vec<_> = events
        .iter()
        .zip(0..)
        .flat_map(|(events, cpu)| [0, 1, 2].map(|_| (events, cpu)))
        .map(|(events, cpu)| {
            let cells = fresh_cells(3);
            cell(cells + 2).store(u64::from(avx) | u64::from(trap) << 1, Relaxed);
            let setup = Setup { budget_us: 100, ..Setup::on(cpu).events(events.base) };
            (Thread::start(setup, keep, cells), cells)
        })
        .collect();
    // Preemptions by time, and by a thread of higher priority that also uses vector registers.
    for _ in 0..200 {
        pause(1);
    }
    if trap {
        holds("there were exceptions", events.iter().all(|events| eventually(|| events.seen().count > 1000)));
    }
    for (_, cells) in &threads {
        cell(*cells).store(1, Relaxed);
    }
    holds("all end", threads.iter().all(|(thread, _)| thread.join()));
    let damaged: u64 = threads.iter().map(|&(_, cells)| cell(cells + 1).load(Relaxed) - 1).sum();
    check("no register has changed", damaged, 0);
}

/// The topic.
pub fn run() {
    for trap in [false, true] {
        patterns(trap, false);
        if has_avx() {
            patterns(trap, true);
        }
    }
    if !has_avx() {
        crate::report::skip("AVX state", "the machine has none");
    }
    leaks();
}

extern "sysv64" fn look(message: &mut Message) {
    message.words[0] = leftovers();
}

/// Cells: what it found + 1.
extern "sysv64" fn look_and_end(cells: u64) {
    cell(cells).store(leftovers() + 1, Relaxed);
}

/// Nobody else sees anything of it: neither a handler of another domain, nor a thread that is new, whatever ran before it.
fn leaks() {
    for cpu in 0..information_page().cpu_count as u16 {
        let (one, other) = (Domain::create(300), Domain::create(300));
        let handler = Handler::inside(Setup::on(cpu).inside(one), look);
        let portal = handler.portal(0);
        let own = hold(0x5555_5555_5555_5555, CELLS_AT + busy_cell() * 8, false, false);
        check("a pattern is there", own, 0);
        check("a handler in another domain", call(portal, Message::default()).map(|r| r.words[0]), Ok(0));
        for domain in [one, other, ROOT] {
            new_thread(Setup::on(cpu).inside(domain));
        }
        // Beside one that still holds a pattern.
        let cells = fresh_cells(3);
        let keeper = Thread::start(Setup { budget_us: 100, ..Setup::on(cpu) }, keep, cells);
        for domain in [one, other, ROOT] {
            new_thread(Setup::on(cpu).inside(domain));
        }
        cell(cells).store(1, Relaxed);
        holds("the keeper ends", keeper.join());
        check("undamaged", cell(cells + 1).load(Relaxed), 1);
        drop(handler);
        one.destroy();
        other.destroy();
    }
}

fn new_thread(setup: Setup) {
    // One that ends in a hypercall, with its pattern in the registers.
    let cells = fresh_cells(3);
    cell(cells).store(1, Relaxed);
    holds("a thread leaves a pattern", on_thread(setup, keep, cells));
    let found = fresh_cells(1);
    holds("a new thread", on_thread(setup, look_and_end, found));
    check("sees nothing", cell(found).load(Relaxed), 1);
}

/// A cell that is not 0.
fn busy_cell() -> u64 {
    let index = fresh_cells(1);
    cell(index).store(1, Relaxed);
    index
}
