//! Recalls of virtual CPUs that run: by somebody, and at a deadline.

use super::vcpu::event;
use crate::kit::context::{PRIORITY, Setup, Thread};
use crate::kit::exits as code;
use crate::kit::memory::fresh_cells;
use crate::kit::object::{self, try_call};
use crate::kit::time::{self, eventually, pause};
use crate::kit::vcpu::{IRQ_VECTOR, Machine, Maps, has_guests_for};
use crate::report::{check, holds, section};
use crate::sys::context::NEVER;
use crate::sys::guest_code::Code;
use crate::sys::hypercall::now;
use crate::sys::memory::{cell, load};
use abi::cap::Sel;
use abi::event::guest;
use abi::hypercall::CtrlEc;
use abi::state::{EventKind, Injection, Mtd};
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

/// The topic.
pub fn run() {
    if !has_guests_for("vCPUs") {
        return;
    }
    for cpu in 0..information_page().cpu_count as u16 {
        counting(cpu);
        deadline(cpu);
        little(cpu);
        behind_a_thread(cpu);
        beside_a_thread(cpu);
    }
}

pub(super) fn recall(ec: Sel) -> Result<(), Status> {
    try_call(CtrlEc::Recall { ec }.encode())
}

/// The counter of the counting program.
pub(super) fn count(machine: &Machine) -> u64 {
    load(machine.data + 0x500) & 0xffff_ffff
}

fn counting(cpu: u16) {
    section("recall of a running vCPU");
    let machine = Machine::create(cpu, Code::Count, Maps::default());
    holds("it starts", machine.start_and_boot().is_ok());
    holds("a guest without exits runs", eventually(|| count(&machine) > 1000));
    let mut recalled = 0;
    for _ in 0..20 {
        recalled +=
            u64::from(recall(machine.ec).is_ok() && event(machine.exit()) == Ok((guest::RECALL, guest::RECALL)));
        let at_exit = count(&machine);
        pause(1);
        recalled += u64::from(count(&machine) == at_exit);
        machine.go();
        recalled += u64::from(eventually(|| count(&machine) > at_exit));
    }
    check("recalls stop it, and it goes on", (recalled, machine.unexpected()), (60, None));
    let other = Machine::create(cpu, Code::Count, Maps::default());
    holds("another one starts", other.start_and_boot().is_ok());
    let before = (count(&machine), count(&other));
    holds("both run", eventually(|| count(&machine) > before.0 && count(&other) > before.1));
    check("without exits", (machine.unexpected(), other.unexpected()), (None, None));
    object::destroy(machine.ec);
    let at_end = count(&machine);
    pause(2);
    check("a destroyed one has stopped", count(&machine), at_end);
    let before = count(&other);
    holds("the other one has not", eventually(|| count(&other) > before));
}

fn deadline(cpu: u16) {
    section("recall at a deadline");
    let machine = Machine::create(cpu, Code::Count, Maps::default());
    holds("it starts", machine.start_and_boot().is_ok());
    holds("it runs", eventually(|| count(&machine) > 0));
    let stop = || recall(machine.ec).and_then(|()| event(machine.exit()));
    check("and stops", stop(), Ok((guest::RECALL, guest::RECALL)));
    for (us, more) in [(0, Mtd::empty()), (300, Mtd::RIP), (300, Mtd::INJ), (3000, Mtd::empty()), (3000, Mtd::RIP)] {
        let then = time::after(us);
        machine.go_until_with(then, more);
        check("it is recalled", event(machine.exit()), Ok((guest::RECALL, guest::RECALL)));
        holds("not before the deadline", now() >= then);
    }
    machine.go();
    holds("once", machine.runs_for(3000));
    check("another exit", stop(), Ok((guest::RECALL, guest::RECALL)));
    let then = time::after(20_000);
    machine.go_until(then);
    check("an exit before it", stop(), Ok((guest::RECALL, guest::RECALL)));
    machine.go();
    check("does not end it", event(machine.exit()), Ok((guest::RECALL, guest::RECALL)));
    holds("and it is as late", now() >= then);
    let then = time::after(3000);
    machine.go_until(then);
    check("an exit before one", stop(), Ok((guest::RECALL, guest::RECALL)));
    holds("that passes meanwhile", eventually(|| now() > then));
    machine.go_until(0);
    holds("and is withdrawn", machine.runs_for(3000));
    check("so an exit is for itself", stop(), Ok((guest::RECALL, guest::RECALL)));
    machine.go_until(time::after(20_000));
    check("an exit before one", stop(), Ok((guest::RECALL, guest::RECALL)));
    machine.go_until(0);
    holds("that is withdrawn", machine.runs_for(40_000));
    check("which leaves it running", machine.unexpected(), None);
    stop().ok();
    machine.go_until(time::after(5000));
    object::destroy(machine.ec);
    pause(10);
}

/// What a decision about interrupts takes, and a reply that only injects one.
fn little(cpu: u16) {
    const INTERRUPTS_ON: u64 = 1 << 9;
    section("recall that delivers little");
    let machine = Machine::create(cpu, Code::Count, Maps::default());
    machine.select(guest::RECALL, Mtd::RFLAGS | Mtd::STA | Mtd::INJ);
    holds("it starts", machine.start_and_boot().is_ok());
    for _ in 0..2 {
        let before = count(&machine);
        holds("it runs", eventually(|| count(&machine) > before));
        let stopped = recall(machine.ec).and_then(|()| event(machine.exit()));
        check("and stops", stopped, Ok((guest::RECALL, guest::RECALL)));
        check("with its flags", machine.rflags() & INTERRUPTS_ON, INTERRUPTS_ON);
        check("and nothing interrupted", machine.interrupted().is_valid(), false);
        machine.inject(Injection::event(EventKind::Interrupt, IRQ_VECTOR).0);
        check("it takes an interrupt", event(machine.exit()).map(|e| e.0), Ok(code::port()));
        machine.skip(2);
    }
}

/// Cells: a time, and when the work that begins then was done.
extern "sysv64" fn work_at(cells: u64) {
    let then = cell(cells).load(Relaxed);
    let _timeout = time::down_until(NEVER, then);
    while now() < then + time::ticks(2000) {}
    cell(cells + 1).store(now(), Relaxed);
}

/// Of a thread and a virtual CPU with the same deadline the one of higher priority has its turn first.
fn behind_a_thread(cpu: u16) {
    section("recall at the time of a thread's timeout");
    let machine = Machine::create(cpu, Code::Count, Maps::default());
    holds("it starts", machine.start_and_boot().is_ok());
    for _ in 0..3 {
        let stopped = recall(machine.ec).and_then(|()| event(machine.exit()));
        check("it stops", stopped, Ok((guest::RECALL, guest::RECALL)));
        let (cells, then) = (fresh_cells(2), time::after(20_000));
        cell(cells).store(then, Relaxed);
        let thread = Thread::start(Setup::on(cpu).priority(PRIORITY + 1), work_at, cells);
        machine.go_until_with(then, Mtd::RIP);
        check("it is recalled", event(machine.exit()), Ok((guest::RECALL, guest::RECALL)));
        holds("the thread works", thread.join());
        holds("before the handler does", cell(cells + 1).load(Relaxed) <= machine.time());
        machine.go();
    }
}

extern "sysv64" fn spin(index: u64) {
    loop {
        cell(index).fetch_add(1, Relaxed);
    }
}

/// A thread of the same priority gets its share of a virtual CPU that is recalled all the time, whose budget ends at any point of that.
fn beside_a_thread(cpu: u16) {
    section("recalls beside a thread");
    let machine = Machine::create(cpu, Code::Count, Maps::default());
    holds("it starts", machine.start_and_boot().is_ok());
    let cells = fresh_cells(1);
    let thread = Thread::start(Setup { budget_us: 1000, ..Setup::on(cpu) }, spin, cells);
    let (mut recalled, before) = (0, cell(cells).load(Relaxed));
    let stopped = recall(machine.ec).and_then(|()| event(machine.exit()));
    check("it stops", stopped, Ok((guest::RECALL, guest::RECALL)));
    for round in 0..20 {
        let then = time::after(2500 + 130 * round);
        machine.go_until_with(then, Mtd::RIP);
        recalled += u64::from(event(machine.exit()) == Ok((guest::RECALL, guest::RECALL)) && machine.time() >= then);
    }
    check("each comes, and not too early", recalled, 20);
    // Not in each round: an emulator may itself be preempted.
    holds("the thread has its share", cell(cells).load(Relaxed) > before);
    drop(thread);
}
