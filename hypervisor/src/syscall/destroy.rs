//! Destruction: explicit and final. The object is dead for all capabilities at once; then it is taken out of everything
//! that refers to it; after all CPUs have let go of it, its memory returns to whoever paid. What a PD paid for goes many at a time, so
//! that all CPUs are waited for a few times only.

use super::{Caller, DONE, Outcome};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::frame::Reg;
use crate::mem::object::{AnyObject, retire};
use crate::mem::{Object, PAGE, Page, Phys};
use crate::pd::{Pd, Rank};
use crate::smp::{self, Operation};
use crate::space::Mappings;
use abi::cap::Perms;
use abi::hypercall::Args;
use abi::status::Status;

/// Rounds of all CPUs after which a hypercall asks to be repeated. What it does between two looks at this takes a few more.
const ROUNDS: u32 = 8;

/// A hypercall at work, and how often it may still wait for all CPUs.
struct Work {
    cpu: &'static Cpu,
    rounds: u32,
}

impl Work {
    fn everywhere(&mut self, operation: Operation) {
        self.rounds = self.rounds.saturating_sub(1);
        smp::everywhere(self.cpu, operation);
    }
}

/// `destroy`. RDX: 1 if a PD still has objects and the call must be repeated.
pub fn destroy(caller: &Caller, args: &Args) -> Outcome {
    let cap = caller.obj.load(args.sel()).filter(|cap| cap.perms().contains(Perms::DESTROY));
    let mut work = Work { cpu: caller.cpu, rounds: ROUNDS };
    match cap.and_then(|cap| cap.object()).ok_or(Status::BadCapability)? {
        AnyObject::Ec(ec) if ec.addr() == caller.ec.addr() => Err(Status::BadParameter),
        AnyObject::Pd(pd) if lives_in(caller.ec, pd) => Err(Status::BadParameter),
        AnyObject::Pd(pd) => domain(&mut work, pd),
        AnyObject::Hw(_) => Err(Status::BadParameter),
        object => {
            doom(caller.cpu, object)?;
            bury_doomed(&mut work);
            DONE
        }
    }
}

/// Whether `ec` would go with `pd`: its own domain, or one that pays for it.
fn lives_in(ec: &'static Ec, pd: &'static Pd) -> bool {
    let mut payer = ec.owner();
    while let Some(at) = payer {
        if at.addr() == pd.addr() {
            return true;
        }
        payer = at.owner();
    }
    false
}

/// Makes an object that is not a PD dead. If that was not done by another CPU before, this one is to bury it.
fn doom(cpu: &'static Cpu, object: AnyObject) -> Result<(), Status> {
    match object {
        AnyObject::Ec(ec) if retire(ec) => cpu.doom(ec),
        AnyObject::Sc(sc) if retire(sc) => cpu.doom(sc),
        AnyObject::Pt(pt) if retire(pt) => cpu.doom(pt),
        AnyObject::Sm(sm) if retire(sm) => {
            sm.dissolve(cpu);
            cpu.doom(sm);
        }
        AnyObject::ObjSpace(space) if retire_unused(space, |ec| ec.obj.is(space))? => cpu.doom(space),
        AnyObject::MemSpace(space) if retire_unused(space, |ec| ec.root.get() == space.root().phys().0)? => {
            cpu.doom(space);
        }
        AnyObject::GuestSpace(space) if retire_unused(space, |ec| ec.guest.is(space))? => cpu.doom(space),
        AnyObject::PioSpace(space) if retire_unused(space, |ec| ec.pio.is(space))? => cpu.doom(space),
        AnyObject::MsrSpace(space) => {
            let uses = |ec: &'static Ec| ec.is_vcpu() && ec.frame().get(Reg::MsrMap) == space.phys().0;
            if retire_unused(space, uses)? {
                cpu.doom(space);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Makes a space dead; `Busy` while an EC uses it. ECs only use spaces of their own PD. Whether this was what killed it.
fn retire_unused<T: Object>(space: &'static T, uses: impl Fn(&'static Ec) -> bool) -> Result<bool, Status> {
    let pd = space.owner().ok_or(Status::BadCapability)?;
    pd.retire_unless(space, uses)
}

/// Takes what is doomed out of everything that refers to it, on all CPUs, and returns its memory.
fn bury_doomed(work: &mut Work) {
    let cpu = work.cpu;
    let is_context = |object: AnyObject| matches!(object, AnyObject::Ec(_) | AnyObject::Sc(_));
    work.everywhere(Operation::Drop);
    if cpu.doomed().any(is_context) {
        // A CPU that saw one alive may have woken it or handed it over to one that had already let go of it.
        cpu.doomed().for_each(unmap_utcb);
        work.everywhere(Operation::Drop);
    }
    cpu.doomed().for_each(bury_any);
    cpu.forget_doomed();
}

fn unmap_utcb(object: AnyObject) {
    let AnyObject::Ec(ec) = object else { return };
    if let Some(mem) = ec.owner().and_then(|pd| pd.mem.get()).filter(|_| !ec.is_vcpu()) {
        // Unmapping a page needs no memory, so it cannot fail.
        let _ = mem.set(ec.frame().get(Reg::UtcbAt) & !(PAGE - 1), 0, None);
    }
}

/// Finishes off an object that is dead and unreferenced; `release` gives its PD back what came with it. The list comes last: a PD
/// with nothing on its lists may be gone at the next grace period, with the quota that it has by then.
fn bury<T: Object>(object: &'static T, release: impl FnOnce(&'static Pd)) {
    if let Some(pd) = object.owner() {
        release(pd);
        pd.disown(object);
        pd.free_object(object);
    }
}

/// [`bury`] for whatever was doomed.
fn bury_any(object: AnyObject) {
    match object {
        AnyObject::Ec(ec) => bury(ec, |pd| pages(ec).into_iter().for_each(|page| pd.free(page, 0))),
        AnyObject::Sc(sc) => bury(sc, |_| ()),
        AnyObject::Pt(pt) => bury(pt, |_| ()),
        AnyObject::Sm(sm) => bury(sm, |_| ()),
        AnyObject::ObjSpace(space) => bury(space, |pd| {
            pd.obj.set(None);
            space.release(pd);
        }),
        AnyObject::MemSpace(space) => bury(space, |pd| {
            pd.mem.set(None);
            space.release(pd);
        }),
        AnyObject::GuestSpace(space) => bury(space, |pd| space.release(pd)),
        AnyObject::PioSpace(space) => bury(space, |pd| {
            if pd.pio.is(space) {
                pd.pio.set(None);
            }
            space.release(pd);
        }),
        AnyObject::MsrSpace(space) => bury(space, |pd| space.release(pd)),
        AnyObject::Pd(_) | AnyObject::Hw(_) => {}
    }
}

/// The pages of an EC: of its context, and its UTCB or control block.
fn pages(ec: &'static Ec) -> [Page; 2] {
    let frame = ec.frame();
    let other = if ec.is_vcpu() { Page::at(Phys(frame.get(Reg::Control))) } else { ec.utcb() };
    [frame.0, other]
}

/// There is more to do: the caller must call again.
const AGAIN: Outcome = Ok([1, 0]);

/// Destroys what a PD paid for, a step at a time, and at last the PD.
fn domain(work: &mut Work, top: &'static Pd) -> Outcome {
    if !top.claim() {
        return AGAIN;
    }
    let (at, outcome) = dissolve(work, top);
    // The claims from where the work stopped up to the top.
    let mut claimed = at;
    while let Some(pd) = claimed {
        pd.release();
        claimed = pd.owner().filter(|_| pd.addr() != top.addr());
    }
    outcome
}

/// Destroys domains from the innermost outwards. Nothing recurses: domains nest as deep as quota lasts. Returns the innermost PD
/// that is still claimed.
fn dissolve(work: &mut Work, top: &'static Pd) -> (Option<&'static Pd>, Outcome) {
    let mut pd = top;
    while work.rounds > 0 {
        pd.close();
        if let Some(AnyObject::Pd(child)) = pd.newest(Rank::Domains) {
            if !child.claim() {
                return (Some(pd), AGAIN);
            }
            pd = child;
            continue;
        }
        if !pd.is_settled() {
            work.everywhere(Operation::Grace);
            settle(pd, top);
            continue;
        }
        // What is dead on the list, another CPU is about to take away.
        if !clear(work, pd) || !pd.is_empty() {
            return (Some(pd), AGAIN);
        }
        let parent = pd.owner();
        if retire(pd) {
            work.everywhere(Operation::Grace);
            bury(pd, |parent| pd.return_quota(parent));
        }
        match parent {
            Some(parent) if pd.addr() != top.addr() => pd = parent,
            _ => return (None, DONE),
        }
    }
    (Some(pd), AGAIN)
}

/// All CPUs have been quiescent since these were closed: `pd` and those around it, up to `top`.
fn settle(pd: &'static Pd, top: &'static Pd) {
    let mut next = Some(pd);
    while let Some(pd) = next.filter(|pd| !pd.is_settled()) {
        pd.settle();
        next = pd.owner().filter(|_| pd.addr() != top.addr());
    }
}

/// Destroys what is on the list of a PD without PDs. False if there is more to do.
fn clear(work: &mut Work, pd: &'static Pd) -> bool {
    // Spaces can only be retired when the ECs that use them are off the list.
    for ranks in [&[Rank::SchedulingContexts, Rank::Contexts, Rank::Passive][..], &[Rank::Spaces]] {
        loop {
            let busy = ranks.iter().any(|&rank| doom_all(work.cpu, pd, rank).is_err());
            let full = !work.cpu.may_doom();
            if work.cpu.doomed().next().is_some() {
                bury_doomed(work);
            }
            // Busy: another CPU is not yet through with an EC that uses the space.
            if busy || full && work.rounds == 0 {
                return false;
            }
            if !full {
                break;
            }
        }
    }
    true
}

/// Dooms what a PD has of a rank, as far as there is room.
fn doom_all(cpu: &'static Cpu, pd: &'static Pd, rank: Rank) -> Result<(), Status> {
    while cpu.may_doom()
        && let Some(object) = pd.newest(rank)
    {
        doom(cpu, object)?;
    }
    Ok(())
}
