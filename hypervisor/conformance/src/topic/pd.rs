//! Protection domains: accounts, their quota, and destruction with everything in them.

use crate::kit::context::{Handler, Setup, Thread};
use crate::kit::domain::Domain;
use crate::kit::memory;
use crate::kit::object::{self, copy, figures, fresh, must, pd, try_call, try_destroy};
use crate::kit::time;
use crate::kit::vcpu::{Maps, guest_space, has_guests_for, vcpu};
use crate::report::{check, holds};
use crate::sys::hypercall::{Message, call, enter, invoke, simple, status};
use crate::sys::memory::{cell, load};
use abi::cap::{Perms, Sel, root};
use abi::hypercall::{CpuId, CreateEc, CreatePd, CreatePt, CreateSm, CreateSpace, CtrlPd, EcBody, Number, SpaceKind};
use abi::message::Tag;
use abi::state::Mtd;
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

/// The topic.
pub fn run() {
    quota();
    selectors();
    empty_account();
    own_and_ancestors();
    nested();
    many_objects();
    running();
    utcbs();
    contended();
}

fn create(dst: Sel, parent: Sel, quota: u64) -> Result<(), Status> {
    try_call(CreatePd { dst, parent, quota }.encode())
}

fn transfer(from: Sel, to: Sel, pages: u64) -> Result<(), Status> {
    try_call(CtrlPd::Transfer { to, from, pages }.encode())
}

fn quota() {
    let all = figures(root::PD);
    let child = pd(100);
    let left = figures(root::PD);
    check("quota leaves the parent", left[0], all[0] - 100);
    check("and arrives", figures(child), [100, 0]);
    check("transfer down", transfer(root::PD, child, 20), Ok(()));
    check("transfer up", transfer(child, root::PD, 50), Ok(()));
    check("transfers move", (figures(child)[0], figures(root::PD)[0]), (70, all[0] - 70));
    check("transfer of nothing", transfer(child, child, 0), Ok(()));
    check("transfer to itself", (transfer(child, child, 70), figures(child)[0]), (Ok(()), 70));
    check("transfer of too much", transfer(child, root::PD, 71), Err(Status::OutOfMemory));
    check("transfer of far too much", transfer(child, root::PD, u64::MAX), Err(Status::OutOfMemory));
    let space = object::space(child, SpaceKind::Object);
    let used = figures(child)[1];
    holds("a space uses quota", used > 0);
    check("used quota stays", transfer(child, root::PD, 70 - used + 1), Err(Status::OutOfMemory));
    check("unused quota goes", transfer(child, root::PD, 70 - used), Ok(()));
    object::destroy(space);
    check("a destroyed space returns it", figures(child)[1], 0);
    object::destroy(child);
    check("destruction returns the quota", figures(root::PD), all);
}

fn selectors() {
    let child = pd(4);
    check("selector in use", create(child, root::PD, 1), Err(Status::Busy));
    check("selector too high", create(Sel(Sel::COUNT), root::PD, 1), Err(Status::BadParameter));
    check("more quota than there is", create(fresh(), root::PD, u64::MAX), Err(Status::OutOfMemory));
    check("more quota than the parent has", create(fresh(), child, 5), Err(Status::OutOfMemory));
    object::destroy(child);
}

/// An empty account pays for nothing, and nothing changes.
fn empty_account() {
    let dst = fresh();
    let child = pd(0);
    let before = (figures(root::PD), figures(child));
    let sm = CreateSm { dst, pd: child, count: 0, receiver: Sel::NONE, id: 0 };
    check("semaphore", try_call(sm.encode()), Err(Status::OutOfMemory));
    check("domain", create(dst, child, 0), Err(Status::OutOfMemory));
    for kind in [SpaceKind::Object, SpaceKind::Memory, SpaceKind::Pio] {
        let space = abi::hypercall::CreateSpace { dst, pd: child, kind };
        check("space", try_call(space.encode()), Err(Status::OutOfMemory));
    }
    check("nothing has changed", (figures(root::PD), figures(child)), before);
    check("the selector stays free", try_destroy(dst), Err(Status::BadCapability));
    object::destroy(child);
    partly_empty();
}

/// Accounts in which creation fails half way.
fn partly_empty() {
    let mut conserved = true;
    for quota in 0..12 {
        let child = pd(quota);
        let (obj, mem) = (fresh(), fresh());
        let make = |dst, kind| try_call(abi::hypercall::CreateSpace { dst, pd: child, kind }.encode());
        let made = make(obj, SpaceKind::Object).and_then(|()| make(mem, SpaceKind::Memory));
        let before = figures(child);
        let ec = abi::hypercall::CreateEc {
            dst: fresh(),
            pd: child,
            cpu: abi::hypercall::CpuId(0),
            event_base: Sel(0),
            body: abi::hypercall::EcBody::Thread { utcb: 0x1000, sp: 0x1000, ip: 0x1000 },
        };
        let outcome = try_call(ec.encode());
        conserved &= outcome.is_ok() || made.is_err() || figures(child) == before;
        conserved &= figures(child)[1] <= quota;
        object::destroy(child);
    }
    holds("a failed creation leaves the account as it was", conserved);
}

extern "sysv64" fn destroy_parent(message: &mut Message) {
    let result = enter(simple(Number::Destroy, Sel(message.words[0])));
    message.words[0] = result.rax;
}

fn own_and_ancestors() {
    check("own domain", try_destroy(root::PD), Err(Status::BadParameter));
    let outer = pd(400);
    let dst = fresh();
    must(CreatePd { dst, parent: outer, quota: 300 }.encode());
    let inner = Domain::within(dst);
    inner.grant(outer, Sel(100), Perms::ALL);
    let handler = Handler::inside(Setup::default().inside(inner), destroy_parent);
    let reply = call(handler.portal(0), Message::words([100, 0, 0, 0]));
    check("a domain that the caller lives in", reply.map(|reply| status(reply.words[0])), Ok(Status::BadParameter));
    object::destroy(outer);
}

/// Domains in domains, far deeper than the kernel's stack.
fn nested() {
    const DEPTH: u64 = 600;
    let before = figures(root::PD);
    let top = pd(2 * DEPTH + 8);
    let first = object::fresh_range(DEPTH);
    let mut parent = top;
    for (i, quota) in (0..DEPTH).zip((0..2 * DEPTH).rev().step_by(2)) {
        must(CreatePd { dst: first.offset(i), parent, quota }.encode());
        parent = first.offset(i);
    }
    holds("destruction of nested domains", try_destroy(top).is_ok());
    check("the innermost is gone", try_destroy(parent), Err(Status::BadCapability));
    check("all quota is back", figures(root::PD), before);
}

fn many_objects() {
    const COUNT: u64 = 1000;
    let before = figures(root::PD);
    let child = pd(600);
    let first = object::fresh_range(COUNT);
    for i in 0..COUNT {
        must(CreateSm { dst: first.offset(i), pd: child, count: 0, receiver: Sel::NONE, id: 0 }.encode());
    }
    let copied = copy(first.offset(7), Perms::ALL);
    let calls = try_destroy(child);
    holds("destruction is done in steps", calls.is_ok_and(|calls| calls > 1));
    holds("and nothing is left", (0..COUNT).all(|i| try_destroy(first.offset(i)).is_err()));
    check("not even a copy", try_destroy(copied), Err(Status::BadCapability));
    let after = figures(root::PD);
    check("all quota is back", after[0], before[0]);
}

extern "sysv64" fn count(index: u64) {
    loop {
        cell(index).fetch_add(1, Relaxed);
    }
}

/// Domains whose threads run, on all CPUs, while they are destroyed.
fn running() {
    let before = figures(root::PD)[0];
    let cpus = information_page().cpu_count as u16;
    let mut stopped = true;
    for _ in 0..8 {
        let domain = Domain::create(400);
        let cells = memory::fresh_cells(u64::from(cpus) * 2);
        let mut threads = alloc::vec::Vec::new();
        for i in 0..cpus * 2 {
            let setup = Setup::on(i % cpus).inside(domain);
            threads.push(Thread::start(setup, count, cells + u64::from(i)));
        }
        holds(
            "threads of the domain run",
            time::eventually(|| (0..u64::from(cpus) * 2).all(|i| cell(cells + i).load(Relaxed) > 0)),
        );
        domain.destroy();
        let sum = || (0..u64::from(cpus) * 2).map(|i| cell(cells + i).load(Relaxed)).sum::<u64>();
        let at_once = sum();
        time::pause(2);
        stopped &= sum() == at_once;
        threads.into_iter().for_each(drop);
    }
    holds("threads stop with their domain", stopped);
    check("all quota is back", figures(root::PD)[0], before);
}

/// Handlers of a domain that go before the one that watches: with a vCPU, four times what the kernel takes away at a time. Then the
/// hypercall has waited for all CPUs as often as one does, and asks to be repeated.
const GO_FIRST: u64 = 4 * 32 - 1;
/// Where they have their UTCBs.
const UTCBS_AT: u64 = 0x50_0000_0000;
/// Vector of a page fault (SDM vol. 3, table 6-1).
const PAGE_FAULT: u64 = 14;

extern "sysv64" fn watch(_: &mut Message) {
    loop {
        core::hint::black_box(load(UTCBS_AT));
    }
}

extern "sysv64" fn call_watcher(portal: u64) {
    // Ends with the watcher.
    let _aborted = call(Sel(portal), Message::default());
}

extern "sysv64" fn note_and_kill(message: &mut Message) {
    cell(message.id).store(message.words[2], Relaxed);
    message.tag = Tag(u64::from(Mtd::KILL.bits()));
}

/// A UTCB is gone on the CPU that reads it all the time, when the last one that goes with it is a vCPU, which has none.
fn utcbs() {
    if !has_guests_for("UTCBs that go beside a vCPU") {
        return;
    }
    let last = information_page().cpu_count as u16 - 1;
    let (domain, address, event_base) = (Domain::create(600), memory::fresh_cells(1), Sel(100));
    let pager = Handler::create(last, note_and_kill);
    domain.grant(pager.portal(address), event_base.offset(PAGE_FAULT), Perms::PT_EVENT);
    let watcher = Handler::inside(Setup::on(last).inside(domain).events(event_base), watch);
    let guest = fresh();
    must(guest_space(guest, domain.pd).encode());
    must(vcpu(fresh(), domain.pd, 0, Sel(0), guest, Maps::default()).encode());
    for i in 0..GO_FIRST {
        let body = EcBody::Local { utcb: UTCBS_AT + i * abi::PAGE_SIZE, sp: 0x1000 };
        must(CreateEc { dst: fresh(), pd: domain.pd, cpu: CpuId(0), event_base: Sel(0), body }.encode());
    }
    let caller = Thread::start(Setup::on(last), call_watcher, watcher.portal(0).0);
    time::pause(2);
    check("a UTCB is read without a fault", cell(address).load(Relaxed), 0);
    check("destruction begins", invoke(simple(Number::Destroy, domain.pd)), Ok([1, 0]));
    holds("then it is gone", time::eventually(|| cell(address).load(Relaxed) == UTCBS_AT));
    domain.destroy();
    drop(caller);
}

/// Domains that each thread of [`contended`] makes and destroys, and the objects of a kind in each.
const ROUNDS: u64 = 10;
const EACH: u64 = 8;
/// Selectors that a round uses: two domains, two spaces, and objects of four kinds.
const SELECTORS: u64 = 4 + 4 * EACH;

/// Makes a domain with a domain and objects of all kinds in it. Nothing in it runs.
fn furnish(first: Sel, cpu: u16) -> Result<(), Status> {
    let [outer, inner, obj, mem] = [0, 1, 2, 3].map(|i| first.offset(i));
    try_call(CreatePd { dst: outer, parent: root::PD, quota: 200 }.encode())?;
    try_call(CreatePd { dst: inner, parent: outer, quota: 150 }.encode())?;
    try_call(CreateSpace { dst: obj, pd: inner, kind: SpaceKind::Object }.encode())?;
    try_call(CreateSpace { dst: mem, pd: inner, kind: SpaceKind::Memory }.encode())?;
    for i in 0..EACH {
        let [thread, local, pt, sm] = [0, 1, 2, 3].map(|kind| first.offset(4 + kind * EACH + i));
        let utcb = (1 + 2 * i) * abi::PAGE_SIZE;
        let bodies = [
            (thread, EcBody::Thread { utcb, sp: 0x1000, ip: 0x1000 }),
            (local, EcBody::Local { utcb: utcb + abi::PAGE_SIZE, sp: 0x1000 }),
        ];
        for (dst, body) in bodies {
            try_call(CreateEc { dst, pd: inner, cpu: CpuId(cpu), event_base: Sel(0), body }.encode())?;
        }
        try_call(CreatePt { dst: pt, pd: inner, ec: local, ip: 0x1000, id: i, mtd: Mtd::empty() }.encode())?;
        try_call(CreateSm { dst: sm, pd: outer, count: 0, receiver: Sel::NONE, id: 0 }.encode())?;
    }
    Ok(())
}

/// Cells: rounds done, failures, CPU, first selector.
extern "sysv64" fn make_and_destroy(cells: u64) {
    let (cpu, first) = (cell(cells + 2).load(Relaxed) as u16, Sel(cell(cells + 3).load(Relaxed)));
    for _ in 0..ROUNDS {
        let fine = furnish(first, cpu).is_ok() && try_destroy(first).is_ok();
        cell(cells + 1).fetch_add(u64::from(!fine), Relaxed);
        cell(cells).fetch_add(1, Relaxed);
    }
}

/// All CPUs destroy domains at the same time, each its own. Nobody keeps the others from getting on.
fn contended() {
    let before = figures(root::PD);
    let threads: alloc::vec::Vec<_> = (0..information_page().cpu_count as u16)
        .map(|cpu| {
            let cells = memory::fresh_cells(4);
            cell(cells + 2).store(cpu.into(), Relaxed);
            cell(cells + 3).store(object::fresh_range(SELECTORS).0, Relaxed);
            (Thread::start(Setup::on(cpu), make_and_destroy, cells), cells)
        })
        .collect();
    holds("all CPUs get on with destroying", threads.iter().all(|(thread, _)| thread.join()));
    let results = threads.iter().map(|&(_, cells)| [0, 1].map(|i| cell(cells + i).load(Relaxed)));
    holds("and fail in nothing", results.into_iter().all(|result| result == [ROUNDS, 0]));
    threads.into_iter().for_each(drop);
    check("all quota is back", figures(root::PD), before);
}
