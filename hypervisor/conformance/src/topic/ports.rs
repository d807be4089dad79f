//! I/O ports by delegation.

use crate::kit::context::{PRIORITY, Setup, on_thread};
use crate::kit::domain::Domain;
use crate::kit::events::Events;
use crate::kit::memory::fresh_cells;
use crate::kit::object::{fresh, space, try_call};
use crate::report::{check, holds};
use crate::sys::hypercall::invoke;
use crate::sys::memory::cell;
use crate::sys::probe;
use abi::cap::{Sel, root};
use abi::hypercall::{Delegate, SpaceKind};
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

/// A port that nobody minds: the POST code (a write-only latch on PCs).
const POST: u64 = 0x80;
/// General protection.
const GP: u64 = 13;

fn delegate(from: Sel, to: Sel, src: u64, dst: u64, count: u64, rights: u32) -> Result<u64, Status> {
    let call = Delegate { from, to, src, dst, count, rights };
    invoke(call.encode()).map(|values| values[0])
}

extern "sysv64" fn write_port(cells: u64) {
    let port = cell(cells).load(Relaxed);
    cell(cells + 1).store(probe::run(probe::port_out, port), Relaxed);
    cell(cells + 2).store(probe::run(probe::port_in, port), Relaxed);
}

/// Whether a thread may access a port.
fn allowed(events: &Events, cpu: u16, port: u64) -> bool {
    let cells = fresh_cells(3);
    cell(cells).store(port, Relaxed);
    events.reset();
    holds("a thread tries", on_thread(Setup::on(cpu).events(events.base), write_port, cells));
    let seen = events.seen();
    let faults = [1, 2].map(|i| cell(cells + i).load(Relaxed) == probe::EVENT);
    holds("reading and writing go together", faults[0] == faults[1]);
    holds("a fault is #GP", seen.count == 0 || (seen.reason, seen.info1) == (GP, 0));
    !faults[0]
}

/// The topic.
pub fn run() {
    for cpu in 0..information_page().cpu_count as u16 {
        let events = Events::create(cpu);
        check("not yet", allowed(&events, cpu, POST), false);
        check("given", delegate(root::ALL_PIO, root::PIO, POST, POST, 1, 1), Ok(1));
        check("now", allowed(&events, cpu, POST), true);
        check("not its neighbour", allowed(&events, cpu, POST + 1), false);
        check("taken", delegate(root::ALL_PIO, root::PIO, POST, POST, 1, 0), Ok(1));
        check("no more", allowed(&events, cpu, POST), false);
    }
    let events = Events::create(0);
    check("to another number", delegate(root::ALL_PIO, root::PIO, POST, POST + 1, 1, 1), Err(Status::BadParameter));
    check("beyond the last", delegate(root::ALL_PIO, root::PIO, 0xffff, 0xffff, 2, 1), Err(Status::BadParameter));
    check("the last", delegate(root::ALL_PIO, root::PIO, 0xffff, 0xffff, 1, 1), Ok(1));
    check("can be used", allowed(&events, 0, 0xffff), true);
    check("and taken", delegate(root::ALL_PIO, root::PIO, 0xffff, 0xffff, 1, 0), Ok(1));
    check("no more", allowed(&events, 0, 0xffff), false);
    check("from another type of space", delegate(root::MEM, root::PIO, 0, 0, 1, 1), Err(Status::BadCapability));
    check("all is no destination", delegate(root::ALL_PIO, root::ALL_PIO, 0, 0, 1, 1), Err(Status::BadCapability));
    extra_space(&events);
    domains();
    many();
}

/// A second space of a domain is not that of its threads.
fn extra_space(events: &Events) {
    let extra = space(root::PD, SpaceKind::Pio);
    check("to a second space", delegate(root::ALL_PIO, extra, POST, POST, 1, 1), Ok(1));
    check("which threads do not use", allowed(events, 0, POST), false);
    check(
        "but which can be a source",
        (delegate(extra, root::PIO, POST, POST, 2, 1), allowed(events, 0, POST)),
        (Ok(2), true),
    );
    check("of what it has", allowed(events, 0, POST + 1), false);
    check("taken", delegate(root::ALL_PIO, root::PIO, POST, POST, 1, 0), Ok(1));
    crate::kit::object::destroy(extra);
}

/// A thread in another domain, between one that has the port and is on the same CPU.
fn domains() {
    extern "sysv64" fn read(cells: u64) {
        cell(cells).store(1, Relaxed);
        // Without event portals, a fault ends the thread.
        probe::run(probe::port_in, POST);
        cell(cells).store(2, Relaxed);
    }
    check("given", delegate(root::ALL_PIO, root::PIO, POST, POST, 1, 1), Ok(1));
    let domain = Domain::create(300);
    let cells = fresh_cells(2);
    holds("in one domain", on_thread(Setup::default(), read, cells));
    let thread = crate::kit::context::Thread::start(Setup::default().inside(domain), read, cells + 1);
    // Runs when the other one has stopped.
    holds("others run", on_thread(Setup::default().priority(PRIORITY - 1), read, fresh_cells(1)));
    check("not in the other", (cell(cells).load(Relaxed), cell(cells + 1).load(Relaxed)), (2, 1));
    drop(thread);
    check("given", delegate(root::ALL_PIO, domain.pio, POST, POST, 1, 1), Ok(1));
    holds("in the other", on_thread(Setup::default().inside(domain), read, cells + 1));
    check("taken", delegate(root::ALL_PIO, root::PIO, POST, POST, 1, 0), Ok(1));
    domain.destroy();
}

/// All ports, in several steps.
fn many() {
    let all = space(root::PD, SpaceKind::Pio);
    let mut done = 0;
    while done < 1 << 16 {
        match delegate(root::ALL_PIO, all, done, done, (1 << 16) - done, 1) {
            Ok(step @ 1..) => done += step,
            _ => break,
        }
    }
    check("all ports", done, 1 << 16);
    crate::kit::object::destroy(all);
    let call = Delegate { from: root::ALL_PIO, to: fresh(), src: 0, dst: 0, count: 1, rights: 1 };
    check("not to a destroyed space", try_call(call.encode()), Err(Status::BadCapability));
}
