//! Several virtual CPUs of one guest space, on one CPU and on two.

use super::running::recall;
use super::vcpu::event;
use crate::kit::exits::{self as code, CALL_BYTES};
use crate::kit::memory::{map, pages, unmap, window};
use crate::kit::object::{self, figures, try_destroy};
use crate::kit::time::eventually;
use crate::kit::vcpu::{Machine, Maps, has_guests_for};
use crate::report::{check, holds, section};
use crate::sys::guest_code::Code;
use crate::sys::memory::{load, store};
use abi::cap::{MemRights, root};
use abi::event::guest;
use abi::status::Status;
use runtime::sys::physical::information_page;

/// The page that the programs read.
const SHARED: u64 = 0x90000;
const PAGE: u64 = abi::PAGE_SIZE;

/// The topic.
pub fn run() {
    if !has_guests_for("vCPUs") {
        return;
    }
    let last = information_page().cpu_count as u16 - 1;
    for (one, other) in [(0, 0), (0, last), (last, 0)] {
        memory(one, other);
        translations(one, other);
        destruction(one, other);
    }
}

/// Words where the two programs put what they read.
const SEEN: [u64; 2] = [0x510, 0x520];

/// Two vCPUs that read a page without ever leaving.
fn watching(one: u16, other: u16) -> [Machine; 2] {
    let first = Machine::create(one, Code::Watch, Maps::default());
    let second = Machine::beside(&first, other);
    let both = [first, second];
    holds("both start", both.iter().all(|machine| machine.start_and_boot().is_ok()));
    holds("and leave", both.iter().all(|machine| event(machine.exit()) == Ok((code::call(), code::call()))));
    both
}

fn go(both: &[Machine; 2]) {
    both.iter().zip(SEEN).for_each(|(machine, at)| machine.go_with(CALL_BYTES, Some(at), None));
}

fn seen(machine: &Machine) -> [u64; 2] {
    SEEN.map(|at| load(machine.data + at) & 0xffff_ffff)
}

/// A change of the guest space, seen by both while they run.
fn memory(one: u16, other: u16) {
    section("a change of their memory");
    let both = watching(one, other);
    let [first, second] = &both;
    let phys = pages(2);
    let values = window(phys, 2);
    store(values, 7);
    store(values + PAGE, 8);
    map(first.guest, phys, SHARED, 1, MemRights::READ);
    go(&both);
    holds("both read a page", eventually(|| seen(first) == [7, 7]));
    map(first.guest, phys + PAGE, SHARED, 1, MemRights::READ);
    // What they have already read they may still store, once.
    let again = || {
        SEEN.iter().for_each(|at| store(first.data + at, 0));
        eventually(|| seen(first).iter().all(|value| *value != 0))
    };
    check("then another page in its place", (again(), again(), seen(first)), (true, true, [8, 8]));
    check("without an exit", (first.unexpected(), second.unexpected()), (None, None));
    check("one is recalled", (recall(second.ec), event(second.exit())), (Ok(()), Ok((guest::RECALL, guest::RECALL))));
    store(first.data + SEEN[0], 0);
    store(first.data + SEEN[1], 0);
    holds("the other one goes on", eventually(|| seen(first) == [8, 0]));
    second.go();
    holds("and both", eventually(|| seen(first) == [8, 8]));
    unmap(first.guest, SHARED, 1);
    let faults = both.iter().map(|machine| (event(machine.exit()).map(|e| e.0), machine.last().info2));
    holds("both lose it", faults.eq([(Ok(guest::NESTED_FAULT), SHARED); 2]));
    map(first.guest, phys, SHARED, 1, MemRights::READ);
    both.iter().for_each(Machine::go);
    holds("and get it back", eventually(|| seen(first) == [7, 7]));
}

/// The same linear address leads each to another page.
fn translations(one: u16, other: u16) {
    section("translations of their own");
    const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    const TABLES: u64 = 0x2000;
    const PRESENT_WRITABLE: u64 = 3;
    /// Pages of each: directory, table, data.
    const EACH: u64 = 3;
    let first = Machine::create(one, Code::Paged, Maps::default());
    let phys = pages(2 * EACH);
    let tables = window(phys, 2 * EACH);
    map(first.guest, phys, TABLES, 2 * EACH, MemRights::READ | MemRights::WRITE);
    for (at, word) in [(0x700, 0x17 | 0x710 << 16), (0x718, CODE_32), (0x720, DATA)] {
        store(first.data + at, word);
    }
    let directory = |i: u64| TABLES + i * EACH * PAGE;
    for i in 0..2 {
        let (here, at) = (tables + i * EACH * PAGE, directory(i));
        store(here, (at + PAGE) | PRESENT_WRITABLE);
        // The first two pages as they are.
        store(here + PAGE, PRESENT_WRITABLE | (PAGE | PRESENT_WRITABLE) << 32);
        store(here + PAGE + SHARED / PAGE * 4, (at + 2 * PAGE) | PRESENT_WRITABLE);
        store(here + 2 * PAGE, 100 + i);
    }
    let both = [Machine::beside(&first, other), first];
    holds("both start", both.iter().all(|machine| machine.start_and_boot().is_ok()));
    for (machine, i) in both.iter().zip(0..) {
        holds("leave", event(machine.exit()) == Ok((code::call(), code::call())));
        machine.go_with(CALL_BYTES, Some(directory(i)), None);
    }
    const ROUNDS: u64 = 20;
    let mut right = 0;
    for _ in 0..ROUNDS {
        for (machine, i) in both.iter().zip(0..) {
            let called = event(machine.exit()) == Ok((code::call(), code::call()));
            right += u64::from(called && machine.rax() == 100 + i);
            machine.skip(CALL_BYTES);
        }
    }
    check("each reads its own page", right, 2 * ROUNDS);
}

/// One of them is destroyed while both run.
fn destruction(one: u16, other: u16) {
    section("destruction of one");
    let phys = pages(1);
    store(window(phys, 1), 9);
    let before = figures(root::PD);
    let both = watching(one, other);
    let [first, second] = &both;
    map(first.guest, phys, SHARED, 1, MemRights::READ);
    go(&both);
    holds("both run", eventually(|| seen(first) == [9, 9]));
    object::destroy(second.ec);
    SEEN.iter().for_each(|at| store(first.data + at, 0));
    holds("the other one goes on", eventually(|| seen(first) == [9, 0]));
    check("their memory is in use", try_destroy(first.guest), Err(Status::Busy));
    object::destroy(first.ec);
    check("and no more", try_destroy(first.guest), Ok(1));
    drop(both);
    check("all is returned", figures(root::PD), before);
}
