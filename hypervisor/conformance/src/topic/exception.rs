//! Exceptions of threads: what is reported, and how the thread goes on, or not.

use crate::kit::context::{Handler, PRIORITY, Setup, Thread, on_thread};
use crate::kit::events::{Events, Seen};
use crate::kit::memory::fresh_cells;
use crate::kit::object::{self, fresh_range, portal_at};
use crate::kit::time::{eventually, pause};
use crate::report::{check, holds};
use crate::sys::hypercall::Message;
use crate::sys::memory::cell;
use crate::sys::probe::{self, Probe};
use crate::sys::utcb;
use abi::cap::Sel;
use abi::event::host;
use abi::message::Tag;
use abi::state::{Mtd, gpr, word};
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

/// Vectors (SDM vol. 3, table 6-1).
const DE: u64 = 0;
const DB: u64 = 1;
const UD: u64 = 6;
const SS: u64 = 12;
const GP: u64 = 13;
const PF: u64 = 14;

/// Error code of an INT that the gate does not permit (SDM vol. 3, 6.13): vector, and the bit for "in the IDT".
const fn gate(vector: u64) -> u64 {
    vector << 3 | IN_IDT
}
const IN_IDT: u64 = 2;

/// Whether an error code is the expected one. QEMU shifts the vector by one bit too many in 64-bit mode, and reports faults on
/// kernel pages as those of pages that are not present.
fn is_code(vector: u64, got: u64, expected: u64) -> bool {
    match vector {
        PF => got | 1 == expected | 1,
        GP if expected & IN_IDT != 0 => got == expected || got == (expected ^ IN_IDT) << 1 | IN_IDT,
        _ => got == expected,
    }
}

/// First address that is not canonical.
const NOT_CANONICAL: u64 = 1 << 47;

/// Name, instruction, argument, vector, error code.
type Case = (&'static str, Probe, u64, u64, u64);

const CASES: &[Case] = &[
    ("ud2", probe::ud2, 0, UD, 0),
    ("hlt", probe::hlt, 0, GP, 0),
    ("cli", probe::cli, 0, GP, 0),
    ("sti", probe::sti, 0, GP, 0),
    ("mov cr3", probe::mov_cr3, 0, GP, 0),
    ("mov from cr0", probe::mov_from_cr0, 0, GP, 0),
    ("mov dr7", probe::mov_dr7, 0, GP, 0),
    ("wrmsr", probe::wrmsr, 0, GP, 0),
    ("rdmsr", probe::rdmsr, 0, GP, 0),
    ("invlpg", probe::invlpg, 0, GP, 0),
    ("lgdt", probe::lgdt, 0, GP, 0),
    ("sysret", probe::sysret, 0, GP, 0),
    ("int 0x80", probe::int_80, 0, GP, gate(0x80)),
    ("int of the kernel's own vector", probe::int_remote, 0, GP, gate(0xf0)),
    ("int 14", probe::int_14, 0, GP, gate(14)),
    ("int3", probe::int3, 0, GP, gate(3)),
    ("in", probe::port_in, 0x80, GP, 0),
    ("out", probe::port_out, 0xcf9, GP, 0),
    ("division by zero", probe::divide, 0, DE, 0),
    ("single step", probe::single_step, 0, DB, 0),
    ("load from a non-canonical address", probe::load, NOT_CANONICAL, GP, 0),
    ("jump to a non-canonical address", probe::jump, NOT_CANONICAL, GP, 0),
    ("load from the kernel", probe::load, 0xffff_ffff_8020_0000, PF, 5),
    ("store to the kernel", probe::store, 0xffff_8000_0010_0000, PF, 7),
    ("jump to the kernel", probe::jump, 0xffff_ffff_8020_0000, PF, 0x15),
    ("load from the last page of user space", probe::load, abi::USER_TOP, PF, 4),
    ("load from the device windows", probe::load, 0xffff_ff00_0000_0000, PF, 5),
    ("load from address 0", probe::load, 0, PF, 4),
];

/// Cells: result, case.
extern "sysv64" fn execute(cells: u64) {
    if let Some(case) = CASES.get(cell(cells + 1).load(Relaxed) as usize) {
        cell(cells).store(probe::run(case.1, case.2), Relaxed);
    }
}

/// The topic.
pub fn run() {
    for cpu in 0..information_page().cpu_count as u16 {
        let events = Events::create(cpu);
        (0..).zip(CASES).for_each(|(i, case)| one(&events, cpu, i, case));
        overflow(cpu);
        privileged(&events, cpu);
        changed(cpu);
        unhandled(cpu);
        killed(cpu);
    }
    elsewhere();
}

fn one(events: &Events, cpu: u16, index: u64, case: &Case) {
    let &(name, _, argument, vector, code) = case;
    let cells = fresh_cells(2);
    cell(cells + 1).store(index, Relaxed);
    events.reset();
    holds("the thread goes on", on_thread(Setup::on(cpu).events(events.base), execute, cells));
    let seen = events.seen();
    let good = cell(cells).load(Relaxed) == probe::EVENT && is_code(vector, seen.info1, code) && seen.rip != 0;
    let expected = Seen {
        count: 1,
        event: vector,
        reason: vector,
        info1: seen.info1,
        info2: if vector == PF { argument } else { 0 },
        rip: seen.rip,
    };
    check(name, (seen, good), (expected, true));
}

/// Recurses until its stack ends.
fn dig(depth: u64) -> u64 {
    let room = [depth; 64];
    if core::hint::black_box(&room).is_empty() {
        return depth;
    }
    dig(depth + 1) + room[(depth % 64) as usize]
}

extern "sysv64" fn overflow_stack(_: u64) {
    core::hint::black_box(dig(0));
}

/// Notes vector and address, and stops the thread.
extern "sysv64" fn note_and_kill(message: &mut Message) {
    cell(message.id + 1).store(message.words[2], Relaxed);
    cell(message.id).store(message.words[0] + 1, Relaxed);
    message.tag = Tag(u64::from(Mtd::KILL.bits()));
}

/// What lies below the stack faults. There is nowhere to go on.
fn overflow(cpu: u16) {
    let handler = Handler::create(cpu, note_and_kill);
    let (base, cells) = (fresh_range(host::COUNT), fresh_cells(2));
    portal_at(base.offset(PF), handler.ec, cells, Mtd::empty());
    let thread = Thread::start(Setup::on(cpu).events(base), overflow_stack, 0);
    holds("a stack overflow is a page fault", eventually(|| cell(cells).load(Relaxed) == PF + 1));
    let slot = thread.slot();
    let below = crate::sys::context::slot_base(slot)..crate::sys::context::stack_at(slot);
    holds("below the stack", below.contains(&cell(cells + 1).load(Relaxed)));
    object::destroy(base.offset(PF));
}

/// What CPUs and their emulators do not agree about in every detail.
fn privileged(events: &Events, cpu: u16) {
    extern "sysv64" fn try_all(cells: u64) {
        for (i, probe) in (0..).zip([probe::vmrun as Probe, probe::swapgs]) {
            cell(cells + i).store(probe::run(probe, 0), Relaxed);
        }
    }
    extern "sysv64" fn push(_: u64) {
        probe::run(probe::push_at, NOT_CANONICAL + 64);
    }
    events.reset();
    holds("the thread goes on", on_thread(Setup::on(cpu).events(events.base), push, 0));
    // The SDM says #SS, QEMU #GP.
    let reason = events.seen().reason;
    holds("push to a non-canonical address", [SS, GP].contains(&reason));
    let cells = fresh_cells(2);
    events.reset();
    holds("the thread goes on", on_thread(Setup::on(cpu).events(events.base), try_all, cells));
    check("VMRUN and SWAPGS", [0, 1].map(|i| cell(cells + i).load(Relaxed)), [probe::EVENT; 2]);
    holds("are #GP or #UD", [UD, GP].contains(&events.seen().reason));
}

/// Sets registers by the reply: RAX from the reason, R15 and flags; the thread goes on behind the instruction.
extern "sysv64" fn change(message: &mut Message) {
    let reason = message.words[0];
    utcb::write(word::RIP, utcb::read(word::GPR + gpr::R12));
    utcb::write(word::GPR + gpr::RAX, reason + 1000);
    // Flags that a thread must not have: IOPL 3, no interrupts, VM.
    utcb::write(word::RFLAGS, 0x2_3001);
    message.tag = Tag(u64::from((Mtd::GPR | Mtd::RIP | Mtd::RFLAGS).bits()));
}

fn changed(cpu: u16) {
    let handler = Handler::create(cpu, change);
    let base = fresh_range(host::COUNT);
    for event in [UD, GP] {
        portal_at(base.offset(event), handler.ec, event, Mtd::GPR | Mtd::RIP | Mtd::RFLAGS);
    }
    extern "sysv64" fn body(cells: u64) {
        cell(cells).store(probe::run(probe::ud2, 0), Relaxed);
        // Were IOPL 3, this would not fault.
        cell(cells + 1).store(probe::run(probe::cli, 0), Relaxed);
    }
    let cells = fresh_cells(2);
    holds("a changed thread goes on", on_thread(Setup::on(cpu).events(base), body, cells));
    let results = [0, 1].map(|i| cell(cells + i).load(Relaxed));
    check("with the registers of the reply, but not all flags", results, [UD + 1000, GP + 1000]);
}

extern "sysv64" fn fault_at_once(cells: u64) {
    cell(cells).store(1, Relaxed);
    probe::run(probe::ud2, 0);
    cell(cells).store(2, Relaxed);
}

extern "sysv64" fn fine(cells: u64) {
    cell(cells).fetch_add(1, Relaxed);
}

/// Without a portal, or with one that must not be used for events, the thread stops; nobody else does.
fn unhandled(cpu: u16) {
    let handler = Handler::create(cpu, change);
    let base = fresh_range(host::COUNT);
    portal_at(base.offset(UD), handler.ec, 0, Mtd::empty());
    let weak = object::copy(base.offset(UD), abi::cap::Perms::PT_CALL);
    for events in [Sel(Sel::COUNT), Sel(Sel::COUNT - 3), Sel(weak.0 - UD), Sel(abi::cap::root::PD.0)] {
        let cells = fresh_cells(2);
        let thread = Thread::start(Setup::on(cpu).events(events), fault_at_once, cells);
        // The kernel reports the fault on the same line as these checks: they must not write meanwhile.
        let started = eventually(|| cell(cells).load(Relaxed) == 1);
        let another = on_thread(Setup::on(cpu).priority(PRIORITY - 1), fine, cells + 1);
        holds("it starts", started);
        holds("another one, which has its turn when it has stopped, runs", another);
        check("it has stopped", cell(cells).load(Relaxed), 1);
        drop(thread);
    }
}

extern "sysv64" fn kill(message: &mut Message) {
    message.tag = Tag(u64::from(Mtd::KILL.bits()));
}

fn killed(cpu: u16) {
    let handler = Handler::create(cpu, kill);
    let base = fresh_range(host::COUNT);
    portal_at(base.offset(UD), handler.ec, 0, Mtd::empty());
    let cells = fresh_cells(2);
    let thread = Thread::start(Setup::on(cpu).events(base), fault_at_once, cells);
    holds("it starts", eventually(|| cell(cells).load(Relaxed) == 1));
    holds("another one runs", on_thread(Setup::on(cpu), fine, cells + 1));
    check("it is stopped", (cell(cells).load(Relaxed), thread.ec == Sel(0)), (1, false));
    drop(thread);
    // The handler goes while it handles.
    extern "sysv64" fn stay(message: &mut Message) {
        cell(message.id).store(1, Relaxed);
        pause(100_000);
    }
    let cells = fresh_cells(2);
    let handler = Handler::create(cpu, stay);
    let base = fresh_range(host::COUNT);
    portal_at(base.offset(UD), handler.ec, cells, Mtd::empty());
    let thread = Thread::start(Setup::on(cpu).events(base), fault_at_once, cells + 1);
    holds("the handler is entered", eventually(|| cell(cells).load(Relaxed) == 1));
    drop(handler);
    holds("others run when it goes", on_thread(Setup::on(cpu), fine, cells));
    check("its thread has stopped", cell(cells + 1).load(Relaxed), 1);
    drop(thread);
}

/// Events handled on another CPU.
fn elsewhere() {
    let cpus = information_page().cpu_count as u16;
    for cpu in 1..cpus {
        let events = Events::create(cpu);
        let case = &CASES[0];
        for from in 0..cpus {
            one(&events, from, 0, case);
        }
    }
}
