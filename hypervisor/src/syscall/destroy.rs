//! Destruction: explicit and final. The object is dead for all capabilities at once; then it is taken out of everything
//! that refers to it; after all CPUs have let go of it, its memory returns to whoever paid.

use super::{Caller, DONE, Outcome};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::frame::Reg;
use crate::mem::object::{AnyObject, retire};
use crate::mem::{Object, PAGE, Page, Phys};
use crate::pd::Pd;
use crate::smp::{self, Operation};
use abi::cap::Perms;
use abi::hypercall::Args;
use abi::status::Status;

/// Objects of a PD destroyed by one hypercall.
const STEP: usize = 32;

/// `destroy`. RDX: 1 if a PD still has objects and the call must be repeated.
pub fn destroy(caller: &Caller, args: &Args) -> Outcome {
    let cap = caller.obj.load(args.sel()).filter(|cap| cap.perms().contains(Perms::DESTROY));
    match cap.and_then(|cap| cap.object()).ok_or(Status::BadCapability)? {
        AnyObject::Ec(ec) if ec.addr() == caller.ec.addr() => Err(Status::BadParameter),
        AnyObject::Pd(pd) if lives_in(caller.ec, pd) => Err(Status::BadParameter),
        AnyObject::Pd(pd) => domain(caller.cpu, pd),
        AnyObject::Hw(_) => Err(Status::BadParameter),
        object => {
            one(caller.cpu, object)?;
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

/// Finishes off an object that is dead and unreferenced.
fn bury<T: Object>(object: &'static T) {
    if let Some(pd) = object.owner() {
        pd.disown(object);
        pd.free_object(object);
    }
}

/// Destroys an object that is not a PD.
fn one(cpu: &'static Cpu, object: AnyObject) -> Result<(), Status> {
    match object {
        AnyObject::Ec(ec) if retire(ec) => context(cpu, ec),
        AnyObject::Sc(sc) if retire(sc) => {
            // A CPU that saw it alive may be handing it over to one that has already let go of it, so first all must have
            // seen it dead.
            smp::everywhere(cpu, Operation::Grace);
            smp::everywhere(cpu, Operation::DropSc(sc));
            bury(sc);
        }
        AnyObject::Pt(pt) if retire(pt) => {
            smp::everywhere(cpu, Operation::Grace);
            bury(pt);
        }
        AnyObject::Sm(sm) if retire(sm) => {
            sm.dissolve(cpu);
            smp::everywhere(cpu, Operation::Grace);
            bury(sm);
        }
        AnyObject::ObjSpace(space) if retire_unused(space, |ec| ec.obj.is(space))? => {
            smp::everywhere(cpu, Operation::Grace);
            if let Some(pd) = space.owner() {
                pd.obj.set(None);
            }
            space.release();
            bury(space);
        }
        AnyObject::MemSpace(space) if retire_unused(space, |ec| ec.root.get() == space.root().phys().0)? => {
            smp::everywhere(cpu, Operation::Leave(space.root().phys()));
            if let Some(pd) = space.owner() {
                pd.mem.set(None);
            }
            space.release();
            bury(space);
        }
        AnyObject::GuestSpace(space) if retire_unused(space, |ec| ec.guest.is(space))? => {
            smp::everywhere(cpu, Operation::Grace);
            space.release();
            bury(space);
        }
        AnyObject::PioSpace(space) if retire_unused(space, |ec| ec.pio.is(space))? => {
            smp::everywhere(cpu, Operation::Ports);
            if let Some(pd) = space.owner().filter(|pd| pd.pio.is(space)) {
                pd.pio.set(None);
            }
            space.release();
            bury(space);
        }
        AnyObject::MsrSpace(space) => {
            let uses = |ec: &'static Ec| ec.is_vcpu() && ec.frame().get(Reg::MsrMap) == space.phys().0;
            if retire_unused(space, uses)? {
                smp::everywhere(cpu, Operation::Grace);
                space.release();
                bury(space);
            }
        }
        // Another CPU was faster.
        _ => {}
    }
    Ok(())
}

/// Makes a space dead; `Busy` while an EC uses it. ECs only use spaces of their own PD. Whether this was what killed it.
fn retire_unused<T: Object>(space: &'static T, uses: impl Fn(&'static Ec) -> bool) -> Result<bool, Status> {
    let pd = space.owner().ok_or(Status::BadCapability)?;
    pd.retire_unless(space, |object| matches!(object, AnyObject::Ec(ec) if uses(ec)))
}

fn context(cpu: &'static Cpu, ec: &'static Ec) {
    // The first round takes it out of every queue. The second one catches the wake-up that a CPU may have sent before.
    smp::everywhere(cpu, Operation::DropEc(ec));
    smp::everywhere(cpu, Operation::DropEc(ec));
    let Some(pd) = ec.owner() else { return };
    let frame = ec.frame();
    if ec.is_vcpu() {
        pd.free(Page::at(Phys(frame.get(Reg::Control))), 0);
    } else {
        if let Some(mem) = pd.mem.get() {
            // Unmapping a page needs no memory, so it cannot fail.
            let _ = mem.set(frame.get(Reg::UtcbAt) & !(PAGE - 1), 0, None);
            smp::everywhere(cpu, Operation::Flush(mem.root().phys()));
        }
        pd.free(ec.utcb(), 0);
    }
    pd.free(frame.0, 0);
    bury(ec);
}

/// Order in which the objects of a PD go: what runs first, what others run in last. PDs go before all of these.
fn rank(object: &AnyObject) -> Option<u32> {
    match object {
        AnyObject::Pd(_) => None,
        AnyObject::Sc(_) => Some(0),
        AnyObject::Ec(_) => Some(1),
        AnyObject::Pt(_) | AnyObject::Sm(_) | AnyObject::Hw(_) => Some(2),
        _ => Some(3),
    }
}
/// Number of ranks.
const RANKS: u32 = 4;

/// There is more to do: the caller must call again.
const AGAIN: Outcome = Ok([1, 0]);

/// Destroys what a PD paid for, a step at a time, and at last the PD.
fn domain(cpu: &'static Cpu, top: &'static Pd) -> Outcome {
    if !top.claim() {
        return AGAIN;
    }
    let (at, outcome) = dissolve(cpu, top);
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
fn dissolve(cpu: &'static Cpu, top: &'static Pd) -> (Option<&'static Pd>, Outcome) {
    let mut steps = 0;
    let mut pd = top;
    loop {
        if pd.close() {
            // What was paid before is on the list afterwards.
            smp::everywhere(cpu, Operation::Grace);
        }
        if let Some(AnyObject::Pd(child)) = pd.find(|object| rank(object).is_none()) {
            if !child.claim() {
                return (Some(pd), AGAIN);
            }
            pd = child;
            continue;
        }
        // What is dead on the list, another CPU is about to take away.
        if !clear(cpu, pd, &mut steps) || !pd.is_empty() {
            return (Some(pd), AGAIN);
        }
        let parent = pd.owner();
        if retire(pd) {
            smp::everywhere(cpu, Operation::Grace);
            pd.return_quota();
            bury(pd);
        }
        steps += 1;
        match parent {
            Some(parent) if pd.addr() != top.addr() => pd = parent,
            _ => return (None, DONE),
        }
    }
}

/// Destroys what is on the list of a PD without PDs. False if there is more to do.
fn clear(cpu: &'static Cpu, pd: &'static Pd, steps: &mut usize) -> bool {
    for wanted in 0..RANKS {
        while let Some(object) = pd.find(|object| rank(object) == Some(wanted)) {
            if *steps >= STEP {
                return false;
            }
            *steps += 1;
            // Busy: another CPU is not yet through with an EC that uses the space.
            if one(cpu, object).is_err() {
                return false;
            }
        }
    }
    true
}
