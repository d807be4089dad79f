//! Memory by delegation: sizes, rights, removal on all CPUs, and what nobody gets.

use crate::kit::context::{Setup, Thread, on_thread};
use crate::kit::domain::Domain;
use crate::kit::events::Events;
use crate::kit::memory::{
    LARGE, RW, RX, area, delegate, fresh_cells, large_page, map, of_kind, pages, transfer, unmap, window,
};
use crate::kit::object::{destroy, figures, semaphore, try_call, up};
use crate::kit::time::{down_until, eventually, pause};
use crate::report::{check, holds};
use crate::sys::memory::{cell, load, store, store_byte};
use crate::sys::probe;
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Sel, root};
use abi::hip::RangeKind;
use abi::hypercall::CtrlPd;
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

/// Error code of a page fault (SDM vol. 3, 4.7).
mod error {
    pub const PRESENT: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const FETCH: u64 = 1 << 4;
}

/// The topic.
pub fn run() {
    let events = Events::create(0);
    pages_and_rights(&events);
    large(&events);
    sources(&events);
    holes(&events);
    ranges();
    protected();
    exhausted();
    shootdown();
    while_asleep();
    drop(events);
}

/// Argument of [`access`]: address, probe number; the result goes to the cell.
extern "sysv64" fn access(cells: u64) {
    let address = cell(cells + 1).load(Relaxed);
    let probe = [probe::load, probe::store, probe::call].get(cell(cells + 2).load(Relaxed) as usize).copied();
    let result = probe.map_or(0, |probe| probe::run(probe, address));
    cell(cells).store(result, Relaxed);
}

const LOAD: u64 = 0;
const STORE: u64 = 1;
const CALL: u64 = 2;

/// Error code of the page fault of an access on a thread of its own; `None` if it had none.
fn fault(events: &Events, address: u64, probe: u64) -> Option<u64> {
    let cells = fresh_cells(3);
    cell(cells + 1).store(address, Relaxed);
    cell(cells + 2).store(probe, Relaxed);
    events.reset();
    on_thread(Setup::default().events(events.base), access, cells);
    let seen = events.seen();
    (cell(cells).load(Relaxed) == probe::EVENT && seen.count == 1 && seen.info2 == address).then_some(seen.info1)
}

/// RET, as code to be called.
const RET: u8 = 0xc3;

fn pages_and_rights(events: &Events) {
    let (phys, at) = (pages(1), area());
    let window = window(phys, 1);
    store(window + 8, 42);
    store_byte(window, RET);
    check("nothing mapped", fault(events, at, LOAD), Some(error::USER));
    check("nothing to write", fault(events, at, STORE), Some(error::USER | error::WRITE));
    map(root::MEM, phys, at, 1, MemRights::READ);
    check("what is mapped is read", load(at + 8), 42);
    check("not written", fault(events, at, STORE), Some(error::USER | error::WRITE | error::PRESENT));
    check("not executed", fault(events, at, CALL), Some(error::USER | error::FETCH | error::PRESENT));
    map(root::MEM, phys, at, 1, RW);
    store(at + 8, 43);
    check("what is writeable is written", load(window + 8), 43);
    check("not executed", fault(events, at, CALL), Some(error::USER | error::FETCH | error::PRESENT));
    map(root::MEM, phys, at, 1, RX);
    crate::sys::memory::execute(at);
    check("what is executable is executed", fault(events, at, CALL), None);
    check("not written", fault(events, at, STORE), Some(error::USER | error::WRITE | error::PRESENT));
    unmap(root::MEM, at, 1);
    check("what was removed faults", fault(events, at, LOAD), Some(error::USER));
    check("its window does not", load(window + 8), 43);
    for rights in [MemRights::UNCACHED, MemRights::WRITE_COMBINED] {
        map(root::MEM, phys, at, 1, RW | rights);
        store(at + 16, 44);
        check("memory that is not cached", load(window + 16), 44);
    }
    unmap(root::MEM, at, 1);
}

fn large(events: &Events) {
    let (phys, at) = (large_page(), area());
    let window = window(phys, LARGE / PAGE_SIZE);
    for i in 0..LARGE / PAGE_SIZE {
        store(window + i * PAGE_SIZE, i + 1);
    }
    let before = figures(root::PD)[1];
    check("a large page", delegate(root::PHYS, root::MEM, phys, at, LARGE / PAGE_SIZE, RW), Ok(LARGE / PAGE_SIZE));
    check("needs no table of small ones", figures(root::PD)[1], before + 1);
    let intact = |hole: u64| (0..LARGE / PAGE_SIZE).filter(|&i| i != hole).all(|i| load(at + i * PAGE_SIZE) == i + 1);
    holds("all of it is there", intact(u64::MAX));
    // Bit 12 of a large entry is a cacheability attribute: none of a page that is odd may get there.
    unmap(root::MEM, at + 7 * PAGE_SIZE, 1);
    check("it is split by a removal inside", fault(events, at + 7 * PAGE_SIZE, LOAD), Some(error::USER));
    holds("the rest stays", intact(7));
    map(root::MEM, phys + 7 * PAGE_SIZE, at + 7 * PAGE_SIZE, 1, MemRights::READ);
    check(
        "a right is reduced inside",
        fault(events, at + 7 * PAGE_SIZE, STORE),
        Some(error::USER | error::WRITE | error::PRESENT),
    );
    check("not beside it", fault(events, at + 8 * PAGE_SIZE + 8, STORE), None);
    check(
        "mapped anew over small pages",
        delegate(root::PHYS, root::MEM, phys, at, LARGE / PAGE_SIZE, MemRights::READ),
        Ok(LARGE / PAGE_SIZE),
    );
    holds("all of it is there", intact(u64::MAX));
    check("not writeable", fault(events, at + 9 * PAGE_SIZE, STORE), Some(error::USER | error::WRITE | error::PRESENT));
    transfer(root::PHYS, root::MEM, 0, at, LARGE / PAGE_SIZE, MemRights::empty());
    check("all of it goes", fault(events, at + 511 * PAGE_SIZE, LOAD), Some(error::USER));
    giant(events);
}

/// Large pages with a small start and end.
fn giant(events: &Events) {
    let (phys, at) = (large_page(), area());
    large_page();
    large_page();
    let (first, count) = (3 * PAGE_SIZE, 2 * LARGE / PAGE_SIZE + 5);
    let window = window(phys + first, count);
    (0..count).for_each(|i| store(window + i * PAGE_SIZE, i + 1));
    map(root::MEM, phys + first, at + first, count, RW);
    holds("a range of large and small pages", (0..count).all(|i| load(at + first + i * PAGE_SIZE) == i + 1));
    for outside in [at + first - PAGE_SIZE, at + first + count * PAGE_SIZE] {
        check("nothing beside it", fault(events, outside, LOAD), Some(error::USER));
    }
    unmap(root::MEM, at, 2 * LARGE / PAGE_SIZE);
    check("removed in one go", fault(events, at + LARGE, LOAD), Some(error::USER));
    check("but for the rest", load(at + 2 * LARGE), (2 * LARGE - first) / PAGE_SIZE + 1);
    unmap(root::MEM, at + 2 * LARGE, 16);
    // The other way round: an offset between source and destination that prevents large pages.
    map(root::MEM, phys + first, at, count, RW);
    holds("a range that is not aligned", (0..count).all(|i| load(at + i * PAGE_SIZE) == i + 1));
    unmap(root::MEM, at, count);
}

/// From one space to another, which can only pass on what it has.
fn sources(events: &Events) {
    let (phys, at, other) = (pages(2), area(), area());
    let window = window(phys, 2);
    store(window, 7);
    let domain = Domain::bare(100);
    map(domain.mem, phys, at, 2, MemRights::READ);
    check("back from a domain", delegate(domain.mem, root::MEM, at, other, 2, RW | MemRights::EXEC), Ok(2));
    check("readable", load(other), 7);
    check("rights do not grow", fault(events, other, STORE), Some(error::USER | error::WRITE | error::PRESENT));
    check("none of them", fault(events, other, CALL), Some(error::USER | error::FETCH | error::PRESENT));
    unmap(domain.mem, at, 2);
    check("a copy is independent of its source", load(other), 7);
    check("an empty source empties", delegate(domain.mem, root::MEM, at, other, 2, RW), Ok(2));
    check("so it faults", fault(events, other, LOAD), Some(error::USER));
    check(
        "nothing is a source of itself",
        delegate(root::PHYS, root::PHYS, phys, phys, 1, RW),
        Err(Status::BadCapability),
    );
    domain.destroy();
}

/// Holes in the source are passed on as such, and what is behind them is not forgotten.
fn holes(events: &Events) {
    let (phys, source, target) = (pages(512), area(), area());
    let window = window(phys, 512);
    (0..512).for_each(|i| store(window + i * PAGE_SIZE, i + 1));
    let present = |i: u64| !i.is_multiple_of(7);
    for i in (0..512).filter(|&i| present(i)) {
        map(root::MEM, phys + i * PAGE_SIZE, source + i * PAGE_SIZE, 1, MemRights::READ);
    }
    transfer(root::MEM, root::MEM, source, target, 512, MemRights::READ);
    let arrived = |i: u64| load(target + i * PAGE_SIZE) == i + 1;
    holds("pages behind a hole arrive", (0..512).filter(|&i| present(i)).all(arrived));
    check("and holes are holes", fault(events, target + 7 * PAGE_SIZE, LOAD), Some(error::USER));
    unmap(root::MEM, target, 512);
    unmap(root::MEM, source, 512);
}

fn ranges() {
    let top = abi::USER_TOP;
    let phys = pages(1);
    for (at, count) in [(top, 1), (top - PAGE_SIZE, 2), (1 << 47, 1), (0xffff_8000_0000_0000, 1), (0, u64::MAX)] {
        check("beyond user space", delegate(root::PHYS, root::MEM, phys, at, count, RW), Err(Status::BadParameter));
    }
    for src in [1 << 52, !0xfff, 1 << 63] {
        check("no such memory", delegate(root::PHYS, root::MEM, src, area(), 1, RW), Err(Status::BadParameter));
    }
    check("nothing at all", delegate(root::PHYS, root::MEM, phys, area(), 0, RW), Ok(0));
    let at = area();
    let far = delegate(root::PHYS, root::MEM, 0, at, 1 << 30, MemRights::empty());
    holds("a removal of nothing is quick", far.is_ok_and(|done| done > 0));
}

/// Register pages of interrupt controllers on PCs (82093AA data sheet, 3.0; SDM vol. 3, 11.4.1).
const IO_APIC: u64 = 0xfec0_0000;
const LOCAL_APIC: u64 = 0xfee0_0000;

fn protected() {
    let at = area();
    let refused = |phys| delegate(root::PHYS, root::MEM, phys, at, 1, MemRights::READ) == Err(Status::BadParameter);
    for range in of_kind(RangeKind::Hypervisor) {
        let last = (range.base + range.size - 1) & !(PAGE_SIZE - 1);
        holds("memory of the hypervisor", refused(range.base) && refused(last));
        holds("not as part of more", delegate(root::PHYS, root::MEM, range.base & !(LARGE - 1), at, 512, RW).is_err());
    }
    holds(
        "registers of interrupt controllers",
        refused(IO_APIC) && refused(LOCAL_APIC) && refused(LOCAL_APIC + 0xff000),
    );
    let image = crate::sys::context::thread_entry() & !(PAGE_SIZE - 1);
    for kernel_page in [abi::hip::ADDRESS, abi::hip::ROOT_UTCB, image] {
        check(
            "pages of the hypervisor",
            delegate(root::MEM, root::MEM, kernel_page, at, 1, MemRights::READ),
            Err(Status::BadParameter),
        );
    }
}

/// Tables are paid by the destination.
fn exhausted() {
    let domain = Domain::bare(40);
    let [quota, used] = figures(domain.pd);
    let take = CtrlPd::Transfer { to: root::PD, from: domain.pd, pages: quota - used - 3 };
    check("three pages are left", try_call(take.encode()), Ok(()));
    let (phys, at) = (pages(1), area());
    check("two tables fit", delegate(root::PHYS, domain.mem, phys, at, 1, RW), Ok(1));
    let before = figures(domain.pd);
    check("the account is exhausted", delegate(root::PHYS, domain.mem, phys, area(), 1, RW), Err(Status::OutOfMemory));
    check("and unchanged", figures(domain.pd), before);
    check("one table fits", delegate(root::PHYS, domain.mem, phys, at + LARGE, 1, RW), Ok(1));
    let far = at + 3 * LARGE - PAGE_SIZE;
    let phys = pages(2);
    check("half of a range does not", delegate(root::PHYS, domain.mem, phys, far, 2, RW), Err(Status::OutOfMemory));
    check("half of a range does", delegate(root::PHYS, domain.mem, phys, at + LARGE - PAGE_SIZE, 2, RW), Ok(2));
    let edge = delegate(root::PHYS, domain.mem, phys, at + 2 * LARGE - PAGE_SIZE, 2, RW);
    check("the part that was done is told", edge, Ok(1));
    check("removal needs no memory", delegate(root::PHYS, domain.mem, 0, at, 1024, MemRights::empty()).is_ok(), true);
    domain.destroy();
}

/// Reads a page until that faults; then says so. Cells: reads, stop word, address.
extern "sysv64" fn read_on(cells: u64) {
    let address = cell(cells + 2).load(Relaxed);
    while probe::run(probe::load, address) != probe::EVENT {
        cell(cells).fetch_add(1, Relaxed);
    }
    cell(cells + 1).store(1, Relaxed);
}

/// After a removal nobody reads once more, on whichever CPU.
fn shootdown() {
    for cpu in 0..information_page().cpu_count as u16 {
        let events = Events::create(cpu);
        let (phys, at) = (pages(1), area());
        let mut late = 0;
        for _ in 0..20 {
            map(root::MEM, phys, at, 1, MemRights::READ);
            let cells = fresh_cells(3);
            cell(cells + 2).store(at, Relaxed);
            let reader = Thread::start(Setup::on(cpu).events(events.base), read_on, cells);
            eventually(|| cell(cells).load(Relaxed) > 100);
            unmap(root::MEM, at, 1);
            // One read may have been done whose count is not yet added.
            let count = cell(cells).load(Relaxed);
            holds("the reader faults", reader.join());
            late += u64::from(cell(cells).load(Relaxed) > count + 1);
        }
        check("and not after one more read", late, 0);
        drop(events);
    }
}

/// Reads a page, and once more when told so. Cells: first result + 1, second, address, semaphore.
extern "sysv64" fn read_again(cells: u64) {
    let word = |i| cell(cells + i).load(Relaxed);
    let read = |result| cell(cells + result).store(probe::run(probe::load, word(2)) + 1, Relaxed);
    read(0);
    let _told = down_until(Sel(word(3)), 0);
    read(1);
}

/// A removal holds for CPUs, too, that have been idle for so long that they need not be told.
fn while_asleep() {
    for cpu in 1..information_page().cpu_count as u16 {
        let events = Events::create(cpu);
        let (phys, at, sm, cells) = (pages(1), area(), semaphore(0), fresh_cells(4));
        map(root::MEM, phys, at, 1, MemRights::READ);
        cell(cells + 2).store(at, Relaxed);
        cell(cells + 3).store(sm.0, Relaxed);
        let reader = Thread::start(Setup::on(cpu).events(events.base), read_again, cells);
        holds("a thread reads", eventually(|| cell(cells).load(Relaxed) != 0));
        // Its CPU is asked for something until it has been woken for nothing.
        for _ in 0..5 {
            pause(1);
            destroy(semaphore(0));
        }
        unmap(root::MEM, at, 1);
        up(sm);
        holds("and is told to do so again", reader.join());
        check("which faults", cell(cells + 1).load(Relaxed), probe::EVENT + 1);
        destroy(sm);
        drop(events);
    }
}
