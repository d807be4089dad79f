//! Destruction: explicit and final. The object is dead for all capabilities at once; then it is taken out of everything
//! that refers to it; after all CPUs have let go of it, its memory returns to whoever paid.

use super::{Caller, DONE, Outcome};
use crate::arch::svm;
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
    let cap = caller
        .obj
        .load(args.sel())
        .filter(|cap| cap.perms().contains(Perms::DESTROY));
    match cap
        .and_then(|cap| cap.object())
        .ok_or(Status::BadCapability)?
    {
        AnyObject::Ec(ec) if ec.addr() == caller.ec.addr() => Err(Status::BadParameter),
        AnyObject::Pd(pd) if caller.ec.owner().is_some_and(|own| own.addr() == pd.addr()) => {
            Err(Status::BadParameter)
        }
        AnyObject::Pd(pd) => domain(caller.cpu, pd),
        AnyObject::Hw(_) => Err(Status::BadParameter),
        object => {
            one(caller.cpu, object)?;
            DONE
        }
    }
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
        AnyObject::ObjSpace(space) => {
            unused(space.owner(), |ec| ec.obj.is(space))?;
            if retire(space) {
                smp::everywhere(cpu, Operation::Grace);
                if let Some(pd) = space.owner() {
                    pd.obj.set(None);
                }
                space.release();
                bury(space);
            }
        }
        AnyObject::MemSpace(space) => {
            unused(space.owner(), |ec| ec.root.get() == space.root().phys().0)?;
            if retire(space) {
                smp::everywhere(cpu, Operation::Leave(space.root().phys()));
                if let Some(pd) = space.owner() {
                    pd.mem.set(None);
                }
                space.release();
                bury(space);
            }
        }
        AnyObject::GuestSpace(space) => {
            unused(space.owner(), |ec| ec.guest.is(space))?;
            if retire(space) {
                smp::everywhere(cpu, Operation::Grace);
                space.release();
                bury(space);
            }
        }
        AnyObject::PioSpace(space) => {
            unused(space.owner(), |ec| ec.pio.is(space))?;
            if retire(space) {
                smp::everywhere(cpu, Operation::Ports);
                if let Some(pd) = space.owner().filter(|pd| pd.pio.is(space)) {
                    pd.pio.set(None);
                }
                space.release();
                bury(space);
            }
        }
        AnyObject::MsrSpace(space) => {
            unused(space.owner(), |ec| {
                ec.is_vcpu() && svm::Vmcb::of(ec).msr_map() == space.phys()
            })?;
            if retire(space) {
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

/// `Busy` while an EC of `pd` uses a space. ECs only use spaces of their own PD.
fn unused(pd: Option<&'static Pd>, uses: impl Fn(&'static Ec) -> bool) -> Result<(), Status> {
    let pd = pd.ok_or(Status::BadCapability)?;
    match pd.find(|object| matches!(object, AnyObject::Ec(ec) if uses(ec))) {
        Some(_) => Err(Status::Busy),
        None => Ok(()),
    }
}

fn context(cpu: &'static Cpu, ec: &'static Ec) {
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

/// Order in which the objects of a PD go: what runs first, what others run in last.
fn rank(object: &AnyObject) -> u32 {
    match object {
        AnyObject::Pd(_) => 0,
        AnyObject::Sc(_) => 1,
        AnyObject::Ec(_) => 2,
        AnyObject::Pt(_) | AnyObject::Sm(_) | AnyObject::Hw(_) => 3,
        _ => 4,
    }
}

/// Destroys what a PD paid for, a step at a time, and at last the PD.
fn domain(cpu: &'static Cpu, pd: &'static Pd) -> Outcome {
    // An empty account creates nothing any more.
    pd.close();
    let mut steps = 0;
    for wanted in 0..=4 {
        while let Some(object) = pd.find(|object| rank(object) == wanted) {
            if steps == STEP {
                return Ok([1, 0]);
            }
            steps += 1;
            match object {
                AnyObject::Pd(child) => {
                    if domain(cpu, child)? != [0, 0] {
                        return Ok([1, 0]);
                    }
                }
                object => one(cpu, object)?,
            }
        }
    }
    if retire(pd) {
        smp::everywhere(cpu, Operation::Grace);
        pd.return_quota();
        bury(pd);
    }
    DONE
}
