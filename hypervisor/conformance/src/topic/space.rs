//! Spaces: how many a domain may have, and their destruction.

use crate::kit::context::{Handler, Setup, Thread};
use crate::kit::domain::Domain;
use crate::kit::memory::fresh_cells;
use crate::kit::object::{self, figures, fresh, fresh_range, pd, space, try_call, try_destroy};
use crate::kit::time::eventually;
use crate::kit::vcpu::has_guests;
use crate::report::{check, holds};
use crate::sys::hypercall::Message;
use crate::sys::memory::cell;
use abi::cap::{Sel, root};
use abi::hypercall::{CreateSpace, SpaceKind};
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

fn create(dst: Sel, pd: Sel, kind: SpaceKind) -> Result<(), Status> {
    try_call(CreateSpace { dst, pd, kind }.encode())
}

extern "sysv64" fn answer(_: &mut Message) {}

/// The topic.
pub fn run() {
    let child = pd(64);
    let first = fresh();
    check("object space", create(first, child, SpaceKind::Object), Ok(()));
    check("another one", create(fresh(), child, SpaceKind::Object), Err(Status::Busy));
    check("memory space", create(fresh(), child, SpaceKind::Memory), Ok(()));
    check("another one", create(fresh(), child, SpaceKind::Memory), Err(Status::Busy));
    check("port space", create(fresh(), child, SpaceKind::Pio), Ok(()));
    check("another one", create(fresh(), child, SpaceKind::Pio), Ok(()));
    check("selector in use", create(first, child, SpaceKind::Pio), Err(Status::Busy));
    check("selector too high", create(Sel(Sel::COUNT), child, SpaceKind::Pio), Err(Status::BadParameter));
    let guest = if has_guests() { Ok(()) } else { Err(Status::BadFeature) };
    check("guest space", create(fresh(), child, SpaceKind::Guest), guest);
    check("MSR space", create(fresh(), child, SpaceKind::Msr), guest);
    check("device space", create(fresh(), child, SpaceKind::Dma), Err(Status::BadFeature));
    check("an unused space goes", try_destroy(first).is_ok(), true);
    check("and can be made anew", create(fresh(), child, SpaceKind::Object), Ok(()));
    object::destroy(child);
    in_use();
    at_once();
    returns_everything();
}

/// Cells: round that may begin, rounds done, spaces made, domain, first selector.
extern "sysv64" fn make_both(cells: u64) {
    let [pd, first] = [3, 4].map(|i| Sel(cell(cells + i).load(Relaxed)));
    for round in 1..=RACES {
        while cell(cells).load(Relaxed) < round {
            core::hint::spin_loop();
        }
        let made = (0..).zip([SpaceKind::Object, SpaceKind::Memory]);
        let made = made.filter(|&(i, kind)| create(first.offset(i), pd, kind).is_ok()).count();
        cell(cells + 2).fetch_add(made as u64, Relaxed);
        cell(cells + 1).fetch_add(1, Relaxed);
    }
}

const RACES: u64 = 20;

/// Of two CPUs that make a domain's space, one succeeds.
fn at_once() {
    let cpus = information_page().cpu_count.min(2) as u16;
    let child = pd(100);
    let threads: alloc::vec::Vec<_> = (0..cpus)
        .map(|cpu| {
            let (cells, first) = (fresh_cells(5), fresh_range(2));
            cell(cells + 3).store(child.0, Relaxed);
            cell(cells + 4).store(first.0, Relaxed);
            (Thread::start(Setup::on(cpu), make_both, cells), cells, first)
        })
        .collect();
    let mut conserved = true;
    for round in 1..=RACES {
        threads.iter().for_each(|(_, cells, _)| cell(*cells).store(round, Relaxed));
        conserved &= eventually(|| threads.iter().all(|(_, cells, _)| cell(cells + 1).load(Relaxed) == round));
        for (_, _, first) in &threads {
            let _made_by_another = [0, 1].map(|i| try_destroy(first.offset(i)));
        }
        conserved &= figures(child) == [100, 0];
    }
    let made: u64 = threads.iter().map(|(_, cells, _)| cell(cells + 2).load(Relaxed)).sum();
    check("each space is made once", (made, conserved), (2 * RACES, true));
    holds("all end", threads.iter().all(|(thread, ..)| thread.join()));
    drop(threads);
    object::destroy(child);
}

fn in_use() {
    let domain = Domain::create(200);
    let handler = Handler::inside(Setup::default().inside(domain), answer);
    for space in [domain.obj, domain.mem, domain.pio] {
        check("a space in use stays", try_destroy(space), Err(Status::Busy));
    }
    drop(handler);
    for space in [domain.obj, domain.mem, domain.pio] {
        check("an unused one goes", try_destroy(space), Ok(1));
    }
    domain.destroy();
    for space in [root::OBJ, root::MEM, root::PIO] {
        check("one's own is in use", try_destroy(space), Err(Status::Busy));
    }
}

fn returns_everything() {
    let child = pd(100);
    let kinds = [SpaceKind::Object, SpaceKind::Memory, SpaceKind::Pio, SpaceKind::Guest, SpaceKind::Msr];
    for kind in kinds.into_iter().take(if has_guests() { 5 } else { 3 }) {
        for _ in 0..50 {
            let made = space(child, kind);
            object::destroy(made);
        }
        check("50 spaces return all memory", figures(child), [100, 0]);
    }
    object::destroy(child);
}
