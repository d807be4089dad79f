//! Selectors, and objects made with the usual arguments.

use crate::sys::hypercall::{invoke, simple};
use abi::cap::{Perms, Sel, root};
use abi::hypercall::{Args, CreatePd, CreatePt, CreateSm, CreateSpace, CtrlPd, Delegate, Number, SpaceKind};
use abi::state::Mtd;
use abi::status::Status;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Selectors below are the root task's and the kit's own.
const FIRST: u64 = 1024;
static NEXT: AtomicU64 = AtomicU64::new(FIRST);

/// A selector that was never used.
pub fn fresh() -> Sel {
    fresh_range(1)
}

/// The first of `count` selectors that were never used.
pub fn fresh_range(count: u64) -> Sel {
    Sel(NEXT.fetch_add(count, Relaxed))
}

/// A hypercall, without its values.
pub fn try_call(args: Args) -> Result<(), Status> {
    invoke(args).map(|_| ())
}

/// A hypercall that the checks rely on. Its failure fails the run.
pub fn must(args: Args) -> [u64; 2] {
    match invoke(args) {
        Ok(values) => values,
        Err(status) => {
            crate::report::check("a call that the checks need", Err(status), Ok(args));
            [0; 2]
        }
    }
}

/// A semaphore of the root task.
pub fn semaphore(count: u64) -> Sel {
    member(count, Sel::NONE, 0)
}

/// A semaphore that is a member of `receiver`.
pub fn member(count: u64, receiver: Sel, id: u64) -> Sel {
    let dst = fresh();
    must(CreateSm { dst, pd: root::PD, count, receiver, id }.encode());
    dst
}

/// A PD with `quota` pages of the root task's.
pub fn pd(quota: u64) -> Sel {
    let dst = fresh();
    must(CreatePd { dst, parent: root::PD, quota }.encode());
    dst
}

/// A space of `pd`.
pub fn space(pd: Sel, kind: SpaceKind) -> Sel {
    let dst = fresh();
    must(CreateSpace { dst, pd, kind }.encode());
    dst
}

/// A portal of the root task to `ec`.
pub fn portal(ec: Sel, id: u64, mtd: Mtd) -> Sel {
    let dst = fresh();
    portal_at(dst, ec, id, mtd);
    dst
}

/// The same at a given selector.
pub fn portal_at(dst: Sel, ec: Sel, id: u64, mtd: Mtd) {
    must(CreatePt { dst, pd: root::PD, ec, ip: crate::sys::context::portal_entry(), id, mtd }.encode());
}

/// Portals of a PD of their own, which it returns, to `ec` at `first` and behind; their ids are `id` and its successors. Destroying
/// the PD takes far fewer rounds of all CPUs than destroying the portals.
pub fn portals(first: Sel, count: u64, ec: Sel, id: u64, mtd: Mtd) -> Sel {
    // Four objects fill a page.
    let owner = pd(count.div_ceil(4));
    for i in 0..count {
        let ip = crate::sys::context::portal_entry();
        must(CreatePt { dst: first.offset(i), pd: owner, ec, ip, id: id + i, mtd }.encode());
    }
    owner
}

/// Destroys an object, a PD with all steps. The number of calls.
///
/// # Errors
/// What the kernel says.
pub fn try_destroy(sel: Sel) -> Result<u64, Status> {
    for calls in 1.. {
        if invoke(simple(Number::Destroy, sel))?[0] == 0 {
            return Ok(calls);
        }
    }
    Ok(0)
}

/// Destroys an object that the checks made.
pub fn destroy(sel: Sel) {
    if let Err(status) = try_destroy(sel) {
        crate::report::check("destruction of an object of the checks", Err(status), Ok(()));
    }
}

/// Copies a capability of the root task to another selector, with at most `perms`.
pub fn copy(sel: Sel, perms: Perms) -> Sel {
    let dst = fresh();
    grant(root::OBJ, sel, dst, perms);
    dst
}

/// Rights that are not zero but select no permission: zero would remove.
const NO_PERMISSION: u32 = 1 << 8;

/// Copies a capability of the root task to selector `dst` of another object space.
pub fn grant(to: Sel, sel: Sel, dst: Sel, perms: Perms) {
    must(
        Delegate {
            from: root::OBJ,
            to,
            src: sel.0,
            dst: dst.0,
            count: 1,
            rights: u32::from(perms.bits()) | NO_PERMISSION,
        }
        .encode(),
    );
}

/// Removes the capability at a selector of the root task.
pub fn remove(sel: Sel) {
    must(Delegate { from: root::OBJ, to: root::OBJ, src: sel.0, dst: sel.0, count: 1, rights: 0 }.encode());
}

/// Quota and used pages of an account.
pub fn figures(pd: Sel) -> [u64; 2] {
    must(CtrlPd::Query { pd }.encode())
}

/// Ups a semaphore.
pub fn up(sm: Sel) {
    must(simple(Number::SmUp, sm));
}
