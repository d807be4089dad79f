//! Execution contexts: arguments of their creation, and what belongs to each.

use crate::kit::context::{Setup, Slot, Thread, on_thread};
use crate::kit::domain::Domain;
use crate::kit::memory::{self, fresh_cells};
use crate::kit::object::{self, figures, fresh, pd, try_call, try_destroy};
use crate::report::{check, holds};
use crate::sys::context::{stack_pointer, thread_entry, utcb_at};
use crate::sys::hypercall::{enter, simple, status};
use crate::sys::memory::cell;
use crate::sys::probe;
use abi::cap::{MemRights, Sel, root};
use abi::hypercall::{CpuId, CreateEc, CreatePt, CtrlEc, EcBody, Number};
use abi::state::Mtd;
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

fn thread(pd: Sel, cpu: u16, utcb: u64, ip: u64) -> Result<(), Status> {
    let body = EcBody::Thread { utcb, sp: stack_pointer(255), ip };
    create(fresh(), pd, cpu, body)
}

fn local(utcb: u64, sp: u64) -> Result<(), Status> {
    create(fresh(), root::PD, 0, EcBody::Local { utcb, sp })
}

fn create(dst: Sel, pd: Sel, cpu: u16, body: EcBody) -> Result<(), Status> {
    let call = CreateEc { dst, pd, cpu: CpuId(cpu), event_base: Sel(Sel::COUNT), body };
    try_call(call.encode())
}

/// First address of the kernel's half, and others that user code has no business with.
const NOT_USER: [u64; 4] = [0xffff_8000_0000_0000, 0x8000_0000_0000, abi::USER_TOP, !0xfff];

/// The topic.
pub fn run() {
    let slot = Slot::allocate();
    let (utcb, ip) = (utcb_at(slot.0), thread_entry());
    let before = figures(root::PD);
    for cpu in [information_page().cpu_count as u16, u16::MAX] {
        check("no such CPU", thread(root::PD, cpu, utcb, ip), Err(Status::BadCpu));
    }
    check("UTCB between pages", thread(root::PD, 0, utcb + 8, ip), Err(Status::BadParameter));
    for address in NOT_USER {
        check("UTCB not in user space", thread(root::PD, 0, address, ip), Err(Status::BadParameter));
        check("start not in user space", thread(root::PD, 0, utcb, address), Err(Status::BadParameter));
        check("entry stack not in user space", local(utcb, address), Err(Status::BadParameter));
    }
    check("UTCB where something is mapped", thread(root::PD, 0, memory_in_use(), ip), Err(Status::Busy));
    check("a local EC without stack", local(utcb, 0), Err(Status::BadParameter));
    let bare = pd(16);
    check("a domain without spaces", thread(bare, 0, utcb, ip), Err(Status::BadParameter));
    object::destroy(bare);
    let event_base = CreateEc {
        dst: fresh(),
        pd: root::PD,
        cpu: CpuId(0),
        event_base: Sel(Sel::COUNT + 1),
        body: EcBody::Local { utcb, sp: stack_pointer(slot.0) },
    };
    check("event base too high", try_call(event_base.encode()), Err(Status::BadParameter));
    let body = EcBody::Local { utcb, sp: stack_pointer(slot.0) };
    check("selector in use", create(root::PD, root::PD, 0, body), Err(Status::Busy));
    check("selector too high", create(Sel(Sel::COUNT), root::PD, 0, body), Err(Status::BadParameter));
    check("failures cost nothing", figures(root::PD), before);
    lifetime(body, utcb);
    drop(slot);
    portals();
    own();
    each_runs();
}

/// An address where this program's memory is.
fn memory_in_use() -> u64 {
    crate::sys::memory::CELLS_AT
}

fn lifetime(body: EcBody, utcb: u64) {
    let ec = fresh();
    check("a local EC", create(ec, root::PD, 0, body), Ok(()));
    let area = memory::area();
    check(
        "a UTCB is not delegated",
        memory::delegate(root::MEM, root::MEM, utcb, area, 1, MemRights::READ),
        Err(Status::BadParameter),
    );
    object::destroy(ec);
    check("its UTCB goes with it", on_thread_faults(utcb), true);
    check("all memory is back", create(ec, root::PD, 0, body), Ok(()));
    object::destroy(ec);
}

/// Whether a thread that reads an address faults: it stops, so that it never says that it is done.
fn on_thread_faults(address: u64) -> bool {
    extern "sysv64" fn read(address: u64) {
        probe::run(probe::load, address);
    }
    let events = crate::kit::events::Events::create(0);
    on_thread(Setup::default().events(events.base), read, address);
    events.seen().count == 1
}

fn portals() {
    let slot = Slot::allocate();
    let ec = fresh();
    let body = EcBody::Local { utcb: utcb_at(slot.0), sp: stack_pointer(slot.0) };
    check("a local EC", create(ec, root::PD, 0, body), Ok(()));
    let portal = |ec, ip| CreatePt { dst: fresh(), pd: root::PD, ec, ip, id: 0, mtd: Mtd::empty() };
    for address in NOT_USER {
        check("portal not in user space", try_call(portal(ec, address).encode()), Err(Status::BadParameter));
    }
    check("portal to a thread", try_call(portal(root::EC, 0x1000).encode()), Err(Status::BadParameter));
    let mut used = portal(ec, 0x1000);
    used.dst = root::PD;
    check("selector in use", try_call(used.encode()), Err(Status::Busy));
    object::destroy(ec);
}

extern "sysv64" fn fs_base(result: u64) {
    let words = [1u64, 2];
    let bases = [words.as_ptr() as u64, words.as_ptr() as u64 + 8];
    for (i, base) in (0..).zip(bases) {
        let set = try_call(CtrlEc::SetFsBase { base }.encode());
        cell(result + i).store(if set.is_ok() { probe::run(probe::load_fs, 0) } else { 0 }, Relaxed);
    }
}

/// The other domain's thread loads FS, whose base the kernel must not believe to be as it was.
extern "sysv64" fn keep_fs(cells: u64) {
    let base = crate::sys::memory::CELLS_AT + (cells + 2) * 8;
    cell(cells + 2).store(77, Relaxed);
    let mut good = try_call(CtrlEc::SetFsBase { base }.encode()).is_ok();
    for _ in 0..200 {
        crate::kit::time::pause_here();
        good &= probe::run(probe::load_fs, 0) == 77;
    }
    cell(cells).store(u64::from(good), Relaxed);
}

extern "sysv64" fn spoil_fs(cells: u64) {
    let base = crate::sys::memory::CELLS_AT + (cells + 2) * 8;
    let _same = try_call(CtrlEc::SetFsBase { base }.encode());
    while cell(cells).load(Relaxed) == 2 {
        // The one sets the base to 0, the other one does on some CPUs only.
        probe::run(probe::flat_fs, 0);
        probe::run(probe::null_fs, 0);
        crate::kit::time::pause_here();
    }
}

fn own() {
    check("destruction of oneself", try_destroy(root::EC), Err(Status::BadParameter));
    let bad = CtrlEc::SetFsBase { base: abi::USER_TOP };
    check("FS base not in user space", try_call(bad.encode()), Err(Status::BadParameter));
    let cells = fresh_cells(2);
    holds("a thread sets its FS base", on_thread(Setup::default(), fs_base, cells));
    check("and uses it", (cell(cells).load(Relaxed), cell(cells + 1).load(Relaxed)), (1, 2));
    let cells = fresh_cells(3);
    cell(cells).store(2, Relaxed);
    let (one, two) = (Domain::create(200), Domain::create(200));
    let keeper = Thread::start(Setup::default().inside(one), keep_fs, cells);
    let spoiler = Thread::start(Setup::default().inside(two), spoil_fs, cells);
    holds("two domains load FS", keeper.join() && spoiler.join());
    check("neither changes the other's base", cell(cells).load(Relaxed), 1);
    one.destroy();
    two.destroy();
}

extern "sysv64" fn mark(index: u64) {
    cell(index).fetch_add(1, Relaxed);
    let reply = enter(simple(Number::Reply, Sel(0)));
    if status(reply.rax) != Status::BadCapability {
        cell(index).store(100, Relaxed);
    }
}

fn each_runs() {
    let cells = fresh_cells(64);
    let cpus = information_page().cpu_count as u16;
    let threads: alloc::vec::Vec<_> =
        (0..64u16).map(|i| Thread::start(Setup::on(i % cpus), mark, cells + u64::from(i))).collect();
    holds("64 threads run", threads.iter().all(Thread::join));
    holds("each once", (0..64).all(|i| cell(cells + i).load(Relaxed) == 1));
}
