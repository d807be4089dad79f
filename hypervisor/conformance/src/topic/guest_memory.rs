//! Guest memory: what can be delegated to it, from where, and what that costs.

use crate::kit::domain::Domain;
use crate::kit::memory::{LARGE, RW, area, delegate, map, of_kind, pages, unmap};
use crate::kit::object::{self, copy, figures, space, try_destroy};
use crate::kit::vcpu::has_guests_for;
use crate::report::{check, holds};
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Perms, root};
use abi::hip::RangeKind;
use abi::hypercall::{CtrlPd, SpaceKind};
use abi::status::Status;

/// First guest-physical address that cannot be mapped.
const LIMIT: u64 = 1 << 47;

/// The topic.
pub fn run() {
    if !has_guests_for("guest memory") {
        return;
    }
    sources();
    exhausted();
}

fn sources() {
    let domain = Domain::bare(100);
    let guest = space(domain.pd, SpaceKind::Guest);
    let (phys, at, none) = (pages(2), area(), area());
    map(root::MEM, phys, at, 2, MemRights::READ);
    check("from physical memory", delegate(root::PHYS, guest, phys, 0, 2, RW), Ok(2));
    check("from another space", delegate(root::MEM, guest, at, 0, 2, RW), Ok(2));
    check("where nothing is mapped, removes", delegate(root::MEM, guest, none, 0, 2, RW), Ok(2));
    check("nothing at all", delegate(root::PHYS, guest, phys, 0, 0, RW), Ok(0));
    let last = LIMIT - PAGE_SIZE;
    check("the last page", delegate(root::PHYS, guest, phys, last, 1, RW), Ok(1));
    check("beyond it", delegate(root::PHYS, guest, phys, last, 2, RW), Err(Status::BadParameter));
    check(
        "far beyond it",
        delegate(root::PHYS, guest, phys, u64::MAX - PAGE_SIZE + 1, 1, RW),
        Err(Status::BadParameter),
    );
    for range in of_kind(RangeKind::Hypervisor) {
        check("what is the kernel's", delegate(root::PHYS, guest, range.base, 0, 1, RW), Err(Status::BadParameter));
    }
    check("ports are no memory", delegate(root::ALL_PIO, guest, 0, 0, 1, RW), Err(Status::BadCapability));
    check("nor is it a source", delegate(guest, root::MEM, 0, none, 1, RW), Err(Status::BadCapability));
    let weak = copy(guest, Perms::ALL.difference(Perms::SPACE_TAKE));
    check("without permission", delegate(root::PHYS, weak, phys, 0, 1, RW), Err(Status::BadCapability));
    let used = figures(domain.pd);
    unmap(guest, 0, 2);
    holds("removal needs no memory", figures(domain.pd)[1] <= used[1]);
    object::destroy(guest);
    check("a destroyed space", delegate(root::PHYS, guest, phys, 0, 1, RW), Err(Status::BadCapability));
    domain.destroy();
}

/// Tables are paid for by the domain of the space.
fn exhausted() {
    let before = figures(root::PD);
    let child = object::pd(40);
    let guest = space(child, SpaceKind::Guest);
    let [quota, used] = figures(child);
    object::must(CtrlPd::Transfer { to: root::PD, from: child, pages: quota - used - 3 }.encode());
    let phys = pages(2);
    check("three tables fit", delegate(root::PHYS, guest, phys, 0, 1, RW), Ok(1));
    let full = figures(child);
    check("no more does", delegate(root::PHYS, guest, phys, LARGE, 1, RW), Err(Status::OutOfMemory));
    check("and nothing has changed", figures(child), full);
    check("what needs none does", delegate(root::PHYS, guest, phys, PAGE_SIZE, 1, RW), Ok(1));
    let edge = delegate(root::PHYS, guest, phys, LARGE - PAGE_SIZE, 2, RW);
    check("of a range, what was done is told", edge, Ok(1));
    object::must(CtrlPd::Transfer { to: child, from: root::PD, pages: 1 }.encode());
    check("with more quota", delegate(root::PHYS, guest, phys, LARGE, 1, RW), Ok(1));
    object::destroy(child);
    check("all of it is returned", figures(root::PD), before);
    check("and the space is gone", try_destroy(guest), Err(Status::BadCapability));
}
