//! Events of virtual CPUs that cannot be delivered, or not at once.

use crate::kit::exits::{self, CALL_BYTES};
use crate::kit::memory::{map, pages};
use crate::kit::vcpu::{CODE_AT, IRQ_VECTOR, Machine, Maps, has_guests_for};
use crate::report::{check, fatal, holds, section};
use crate::sys::guest_code::Code;
use crate::sys::memory::{load, store};
use abi::cap::MemRights;
use abi::event::guest;
use abi::state::{EventKind, Injection};
use runtime::sys::physical::information_page;

/// The page of the guest's stack.
const STACK: u64 = 0x90000;
const PAGE: u64 = abi::PAGE_SIZE;

/// The topic.
pub fn run() {
    if !has_guests_for("vCPUs") {
        return;
    }
    for cpu in 0..information_page().cpu_count as u16 {
        interrupted(cpu);
        impossible(cpu);
        from_user_mode(cpu);
        breakpoints(cpu);
    }
}

fn next(machine: &Machine) -> Option<u64> {
    machine.exit().ok().map(|exit| exit.event)
}

/// A nested page fault while an event is delivered: the frame is to be pushed to a page that is not there.
fn interrupted(cpu: u16) {
    section("nested page faults in the delivery of events");
    let machine = Machine::create(cpu, Code::Stack, Maps::default());
    let stack = pages(1);
    let give = || map(machine.guest, stack, STACK, 1, MemRights::READ | MemRights::WRITE);
    let take = || crate::kit::memory::unmap(machine.guest, STACK, 1);
    holds("it starts", machine.start_and_boot().is_ok());
    check("a guest without a stack", next(&machine), Some(exits::call()));
    check("interrupts nothing", machine.interrupted().is_valid(), false);
    let interrupt = Injection::event(EventKind::Interrupt, IRQ_VECTOR);
    machine.go_with(CALL_BYTES, None, Some(interrupt.0));
    check("an interrupt", next(&machine), Some(guest::NESTED_FAULT));
    check("at the stack", machine.last().info2 & !(PAGE - 1), STACK);
    check("is told", machine.interrupted(), interrupt);
    give();
    machine.go_with(0, None, Some(machine.interrupted().0));
    check("and delivered again", (next(&machine), machine.rax() & 0xff), (Some(exits::port()), 3));
    take();
    // The handler's IRET pops from there, too: a fault of an instruction.
    machine.skip(2);
    check("a fault of an instruction", next(&machine), Some(guest::NESTED_FAULT));
    check("interrupts no event", machine.interrupted().is_valid(), false);
    give();
    machine.go();
    check("and is repeated", next(&machine), Some(exits::call()));
    take();
    machine.skip(CALL_BYTES);
    check("INT n", next(&machine), Some(guest::NESTED_FAULT));
    let at = machine.last().rip;
    check("is told as such", machine.interrupted().kind(), Some(EventKind::Software));
    // Not delivered again: the instruction does that.
    give();
    machine.go();
    check("and raised again", (next(&machine), machine.rax() & 0xff), (Some(exits::port()), 3));
    machine.skip(2);
    check("once", (next(&machine), machine.last().rip), (Some(exits::call()), at + 2));
}

/// User mode: what faults there does not exit, and what exits does so from there, too. #AC exits with VMX, and is delivered again.
fn from_user_mode(cpu: u16) {
    section("exceptions and exits of user mode");
    const CODE: u64 = 0x00cf_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    const USER: u64 = 3 << 45;
    /// Available, at 0x900.
    const TASK: u64 = 0x0000_8900_0900_0067;
    let gate = |offset: u64| (CODE_AT + offset) | 0x08 << 16 | 0x8e << 40;
    let words = [
        (0x700, 0x2f | 0x710 << 16),
        (0x718, CODE),
        (0x720, DATA),
        (0x728, CODE | USER),
        (0x730, DATA | USER),
        (0x738, TASK),
        (0x748, 0x8f | 0x800 << 16),
        (0x868, gate(0xa0)),
        (0x888, gate(0xc0)),
        // Stack pointer and segment for handlers.
        (0x900, 0x6f0 << 32),
        (0x908, 0x10),
        // No map of ports.
        (0x960, 0x68 << 48),
    ];
    let machine = Machine::create(cpu, Code::User, Maps::default());
    words.into_iter().for_each(|(at, word)| store(machine.data + at, word));
    holds("it starts", machine.start_and_boot().is_ok());
    const ALIGNMENT: &str = "an alignment check";
    let mut exit = next(&machine);
    // Where there are none, the next exception is the first.
    let checks = machine.rax() == 17;
    check(ALIGNMENT, (exit, machine.rax()), (Some(exits::call()), 17));
    if checks {
        machine.skip(CALL_BYTES);
        exit = next(&machine);
    }
    check("HLT", (exit, machine.rax()), (Some(exits::call()), 13));
    machine.skip(CALL_BYTES);
    check("IN", (next(&machine), machine.rax()), (Some(exits::call()), 13));
    machine.skip(CALL_BYTES);
    check("CPUID", next(&machine), Some(exits::cpuid()));
    machine.skip(2);
    check("VMMCALL", next(&machine), Some(exits::call()));
}

/// Two vCPUs of one CPU, each with a breakpoint of its own, and one with none.
fn breakpoints(cpu: u16) {
    section("breakpoints");
    const NAME: &str = "each stops at its own";
    let counts = Machine::create(cpu, Code::Count, Maps::default());
    counts.watch(0x500);
    let stores = Machine::create(cpu, Code::Xmm, Maps::default());
    stores.watch(0x600);
    let free = Machine::create(cpu, Code::Xmm, Maps::default());
    let exits_of = |machine: &Machine, name| machine.exit_of(name).ok().map(|exit| exit.event);
    const ROUNDS: u64 = 5;
    let mut rounds = 0;
    holds("they start", [&counts, &stores, &free].iter().all(|machine| machine.start_and_boot().is_ok()));
    while rounds < ROUNDS && exits_of(&counts, NAME) == Some(exits::port()) {
        let others = [exits_of(&stores, NAME), exits_of(&free, NAME)];
        if others != [Some(exits::port()), Some(exits::call())] || load(counts.data + 0x500) & 0xffff_ffff != rounds + 1
        {
            break;
        }
        stores.skip(2);
        if exits_of(&stores, NAME) != Some(exits::call()) {
            break;
        }
        [(&counts, 2), (&stores, CALL_BYTES), (&free, CALL_BYTES)]
            .iter()
            .for_each(|(machine, bytes)| machine.skip(*bytes));
        rounds += 1;
    }
    check(NAME, rounds, ROUNDS);
}

/// Exceptions that lead to others, and to the end.
fn impossible(cpu: u16) {
    section("triple fault");
    const NAME: &str = "a triple fault";
    if fatal(NAME) {
        return;
    }
    let machine = Machine::create(cpu, Code::Triple, Maps::default());
    // An empty interrupt table.
    store(machine.data + 0x700, 0);
    holds("it starts", machine.start_and_boot().is_ok());
    check(NAME, next(&machine), Some(exits::shutdown()));
}
