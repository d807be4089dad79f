//! Kernel memory: whatever is made and destroyed, in whatever order, is paid and returned exactly.

use crate::kit::context::{Setup, Slot, Thread};
use crate::kit::domain::Domain;
use crate::kit::memory::{self, area, fresh_cells, map, pages};
use crate::kit::object::{self, figures, fresh_range, pd, try_call};
use crate::kit::time::{eventually, pause};
use crate::kit::vcpu::has_guests;
use crate::report::{check, holds};
use crate::sys::context::{portal_entry, stack_pointer, thread_entry, utcb_at};
use crate::sys::hypercall::{enter, invoke, status};
use crate::sys::memory::cell;
use abi::PAGE_SIZE;
use abi::cap::{Perms, Sel, root};
use abi::hypercall::{CpuId, CreateEc, CreatePd, CreatePt, CreateSc, CreateSm, CreateSpace, CtrlPd, EcBody, SpaceKind};
use abi::state::Mtd;
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

/// Objects of a kind per round, and pages enough for them.
const COUNT: u64 = 250;
const QUOTA: u64 = 1000;
/// Objects that a page of quota pays for.
const SLOTS_PER_PAGE: u64 = 4;

/// The topic.
pub fn run() {
    let domain = Domain::bare(QUOTA);
    let (first, utcbs) = (fresh_range(COUNT), area());
    // UTCBs need tables in their domain, which stay.
    for round in 0..2 {
        each(domain, first, utcbs, round == 1);
    }
    domain.destroy();
    exhausted();
    everything();
    bomb();
}

/// Many of a kind, made by `make` and destroyed in an order that differs from that of their creation.
fn many(name: &str, domain: Domain, first: Sel, checked: bool, make: impl Fn(Sel, u64) -> Result<(), Status>) {
    let before = (figures(domain.pd), figures(root::PD));
    let made = (0..COUNT).take_while(|&i| make(first.offset(i), i).is_ok()).count() as u64;
    let during = figures(domain.pd);
    for i in 0..made {
        object::destroy(first.offset(i * 7 % made));
    }
    // Seven and 250 have no common divisor; otherwise some would be left.
    let after = (figures(domain.pd), figures(root::PD));
    if checked {
        check(name, (made, after), (COUNT, before));
        holds("and were paid", during[1] > before.0[1] && during[1] >= COUNT / SLOTS_PER_PAGE);
    }
}

fn each(domain: Domain, first: Sel, utcbs: u64, checked: bool) {
    let pd = domain.pd;
    let kinds = [("port spaces", SpaceKind::Pio), ("guest spaces", SpaceKind::Guest), ("MSR spaces", SpaceKind::Msr)];
    many("semaphores", domain, first, checked, |dst, id| {
        try_call(CreateSm { dst, pd, count: 0, receiver: Sel::NONE, id }.encode())
    });
    many("domains", domain, first, checked, |dst, _| try_call(CreatePd { dst, parent: pd, quota: 1 }.encode()));
    for (name, kind) in kinds.into_iter().take(if has_guests() { 3 } else { 1 }) {
        // A port space is four pages, which this account does not have as often: fewer are as good.
        let created = (0..COUNT / 4).map(|i| try_call(CreateSpace { dst: first.offset(i), pd, kind }.encode()));
        holds(name, created.filter(Result::is_ok).count() as u64 == COUNT / 4);
        (0..COUNT / 4).for_each(|i| object::destroy(first.offset(i)));
    }
    let ec = |dst, body| CreateEc { dst, pd, cpu: CpuId(0), event_base: Sel(0), body };
    let body = |i| EcBody::Thread { utcb: utcbs + i * PAGE_SIZE, sp: 0x1000, ip: 0x1000 };
    many("threads", domain, first, checked, |dst, i| try_call(ec(dst, body(i)).encode()));
    let slot = Slot::allocate();
    let local = EcBody::Local { utcb: utcb_at(slot.0), sp: stack_pointer(slot.0) };
    let handler = object::fresh();
    object::must(CreateEc { pd: root::PD, ..ec(handler, local) }.encode());
    many("portals", domain, first, checked, |dst, id| {
        try_call(CreatePt { dst, pd, ec: handler, ip: portal_entry(), id, mtd: Mtd::empty() }.encode())
    });
    object::destroy(handler);
    let thread = object::fresh();
    let waiting = EcBody::Thread { utcb: utcbs, sp: 0x1000, ip: thread_entry() };
    object::must(ec(thread, waiting).encode());
    // One EC has one scheduling context at a time.
    let before = figures(pd);
    let rounds = (0..COUNT).filter(|_| {
        let call = CreateSc { dst: first, pd, ec: thread, priority: 0, budget_us: 1000 };
        try_call(call.encode()).is_ok() && object::try_destroy(first).is_ok()
    });
    check("scheduling contexts", rounds.count() as u64, COUNT);
    check("cost nothing in the end", figures(pd), before);
    object::destroy(thread);
}

/// Takes all that an account does not use.
fn leave_nothing(pd: Sel) {
    let [quota, used] = figures(pd);
    object::must(CtrlPd::Transfer { to: root::PD, from: pd, pages: quota - used }.encode());
}

/// Whatever costs memory fails in an account that has none left, changes nothing, and succeeds when the account is given some.
fn exhausted() {
    let domain = Domain::bare(200);
    let (pd, first, utcb) = (domain.pd, fresh_range(9), area());
    let cpu = CpuId(0);
    let ec = |i, body| CreateEc { dst: first.offset(i), pd, cpu, event_base: Sel(0), body }.encode();
    let space = |i, kind| CreateSpace { dst: first.offset(i), pd, kind }.encode();
    let portal = CreatePt { dst: first.offset(3), pd, ec: first.offset(2), ip: 0x1000, id: 0, mtd: Mtd::empty() };
    let sc = CreateSc { dst: first.offset(4), pd, ec: first.offset(1), priority: 0, budget_us: 1000 };
    let sm = CreateSm { dst: first.offset(5), pd, count: 0, receiver: Sel::NONE, id: 0 };
    let vcpu = EcBody::Vcpu { guest: first.offset(6), pio: Sel::NONE, msr: Sel::NONE };
    // In this order, because some need others.
    let calls = [
        ("a port space", space(0, SpaceKind::Pio)),
        ("a thread", ec(1, EcBody::Thread { utcb, sp: 0x1000, ip: thread_entry() })),
        ("a handler", ec(2, EcBody::Local { utcb: utcb + PAGE_SIZE, sp: 0x1000 })),
        ("a portal", portal.encode()),
        ("a scheduling context", sc.encode()),
        ("a semaphore", sm.encode()),
        ("a guest space", space(6, SpaceKind::Guest)),
        ("an MSR space", space(7, SpaceKind::Msr)),
        ("a vCPU", ec(8, vcpu)),
    ];
    for (name, call) in calls.into_iter().take(if has_guests() { 9 } else { 6 }) {
        leave_nothing(pd);
        // What is left of the last page pays for objects.
        let fill = |_: &u64| try_call(CreateSm { dst: object::fresh(), ..sm }.encode()).is_ok();
        (0..QUOTA).take_while(fill).for_each(drop);
        let before = figures(pd);
        check(name, (try_call(call), figures(pd)), (Err(Status::OutOfMemory), before));
        object::must(CtrlPd::Transfer { to: pd, from: root::PD, pages: 20 }.encode());
        check("with more quota", try_call(call), Ok(()));
    }
    domain.destroy();
}

extern "sysv64" fn spin(index: u64) {
    loop {
        cell(index).fetch_add(1, Relaxed);
    }
}

/// A domain with a bit of everything, running on all CPUs, goes at once.
fn everything() {
    let cpus = information_page().cpu_count as u16;
    let before = figures(root::PD);
    for _ in 0..5 {
        let domain = Domain::create(1000);
        let cells = fresh_cells(u64::from(cpus));
        let threads: alloc::vec::Vec<_> =
            (0..cpus).map(|cpu| Thread::start(Setup::on(cpu).inside(domain), spin, cells + u64::from(cpu))).collect();
        holds("its threads run", eventually(|| (0..cpus.into()).all(|i| cell(cells + i).load(Relaxed) > 0)));
        let first = fresh_range(100);
        for (i, kind) in (0..).zip([SpaceKind::Pio, SpaceKind::Guest, SpaceKind::Msr]) {
            let call = CreateSpace { dst: first.offset(i), pd: domain.pd, kind };
            let _fails_without_guests = try_call(call.encode());
        }
        let receiver = first.offset(10);
        for i in 10..60 {
            let call = CreateSm {
                dst: first.offset(i),
                pd: domain.pd,
                count: 0,
                receiver: if i == 10 { Sel::NONE } else { receiver },
                id: i,
            };
            object::must(call.encode());
            object::up(first.offset(i));
        }
        let phys = pages(1);
        (0..20).for_each(|_| map(domain.mem, phys, area(), 1, memory::RW));
        domain.grant(root::OBJ, Sel(100_000), Perms::empty());
        domain.destroy();
        threads.into_iter().for_each(drop);
    }
    check("nothing is left of it", figures(root::PD), before);
}

/// Selectors in the bombing domain.
const OWN_PD: Sel = Sel(100);
const FREE: u64 = 1000;

/// Makes semaphores and domains until nothing more can be made, and on and on.
extern "sysv64" fn explode(cells: u64) {
    // All threads are made before the account is used up.
    while cell(cells + 2).load(Relaxed) == 0 {
        core::hint::spin_loop();
    }
    let mut next = FREE;
    loop {
        let sm = CreateSm { dst: Sel(next), pd: OWN_PD, count: 0, receiver: Sel::NONE, id: 0 };
        let pd = CreatePd { dst: Sel(next + 1), parent: OWN_PD, quota: 1 };
        for args in [sm.encode(), pd.encode()] {
            let result = status(enter(args).rax);
            let index = if result == Status::OutOfMemory { cells + 1 } else { cells };
            cell(index).fetch_add(1, Relaxed);
        }
        next = FREE + (next + 2 - FREE) % 20_000;
    }
}

/// One domain uses up its account; another one does not notice.
fn bomb() {
    let before = figures(root::PD);
    let (bad, good) = (Domain::create(300), pd(100));
    bad.grant(bad.pd, OWN_PD, Perms::ALL.difference(Perms::DESTROY));
    let cells = fresh_cells(3);
    let cpus = information_page().cpu_count as u16;
    let bombs: alloc::vec::Vec<_> =
        (0..cpus).map(|cpu| Thread::start(Setup::on(cpu).inside(bad), explode, cells)).collect();
    cell(cells + 2).store(1, Relaxed);
    holds("the account of one is used up", eventually(|| cell(cells + 1).load(Relaxed) > 1000));
    let used = figures(bad.pd);
    holds("but not more", used[1] <= used[0]);
    let first = fresh_range(400);
    let call = |i| CreateSm { dst: first.offset(i), pd: good, count: 0, receiver: Sel::NONE, id: 0 };
    let made = (0..400).filter(|&i| invoke(call(i).encode()).is_ok()).count();
    check("another one has all of its own", made, 400);
    check("and no more", try_call(CreateSm { dst: object::fresh(), ..call(0) }.encode()), Err(Status::OutOfMemory));
    bad.destroy();
    pause(1);
    bombs.into_iter().for_each(drop);
    object::destroy(good);
    check("everything is returned", figures(root::PD), before);
}
