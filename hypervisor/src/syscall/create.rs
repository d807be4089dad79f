//! Creation of objects. Each function makes sure of the destination selector and of the payer's means, sets the object up,
//! and only then makes it visible; an error on the way gives everything back.

use super::{Caller, DONE, Outcome};
use crate::arch::{fpu, tsc, virt};
use crate::cpu;
use crate::ec::{Ec, State};
use crate::event::pending;
use crate::frame::{Kind, Reg};
use crate::ipc;
use crate::kernel;
use crate::mem::object::CapSlot;
use crate::mem::{Link, Object, Page};
use crate::pd::Pd;
use crate::pt::Pt;
use crate::sc::Sc;
use crate::sched;
use crate::sm::Sm;
use crate::space::{guest::GuestSpace, mem::MemSpace, msr::MsrSpace, obj::ObjSpace, pio::PioSpace};
use abi::cap::{Perms, Sel};
use abi::hypercall::{Args, CreateEc, CreatePd, CreatePt, CreateSc, CreateSm, CreateSpace, EcBody, SpaceKind};
use abi::status::Status;

/// Takes a slot of `pd`, lets `init` set the object up, and makes it visible.
#[inline(always)]
fn make<T: Object>(pd: &'static Pd, slot: CapSlot, init: impl FnOnce(&'static T) -> Result<(), Status>) -> Outcome {
    make_if(pd, slot, init, |_| Ok(()))
}

/// The same, if `allowed` says so at last, when nothing in `pd` is made or retired beside: what the object depends on may have been
/// destroyed in the meantime.
#[inline(always)]
fn make_if<T: Object>(
    pd: &'static Pd,
    slot: CapSlot,
    init: impl FnOnce(&'static T) -> Result<(), Status>,
    allowed: impl FnOnce(&'static T) -> Result<(), Status>,
) -> Outcome {
    let object: &'static T = pd.new_object()?;
    let outcome = init(object).and_then(|()| pd.adopt_if(object, || allowed(object)));
    if let Err(status) = outcome {
        pd.free_object(object);
        return Err(status);
    }
    slot.store_object(object, Perms::ALL);
    DONE
}

/// `create_pd`.
#[inline(always)]
pub fn pd(caller: &Caller, args: &Args) -> Outcome {
    let args = CreatePd::decode(args);
    let parent: &'static Pd = caller.obj.lookup(args.parent, Perms::PD_QUOTA.union(Perms::PD_CREATE))?;
    let slot = caller.obj.prepare(args.dst)?;
    parent.withdraw(args.quota)?;
    make(parent, slot, |pd: &'static Pd| {
        pd.init(args.quota);
        Ok(())
    })
    .inspect_err(|_| parent.deposit(args.quota))
}

/// `create_space`.
#[inline(always)]
pub fn space(caller: &Caller, args: &Args) -> Outcome {
    let args = CreateSpace::decode(args).ok_or(Status::BadParameter)?;
    let pd: &'static Pd = caller.obj.lookup(args.pd, Perms::PD_CREATE_SPACE)?;
    let slot = caller.obj.prepare(args.dst)?;
    match args.kind {
        SpaceKind::Object => make_only(pd, slot, &pd.obj, ObjSpace::init, ObjSpace::release),
        SpaceKind::Memory => make_only(pd, slot, &pd.mem, MemSpace::init, MemSpace::release),
        SpaceKind::Pio => make_if(pd, slot, PioSpace::init, |space| {
            if pd.pio.get().is_none() {
                pd.pio.set(Some(space));
                // Threads that exist already get it, too: a port session may be opened at any time.
                pd.contexts().filter(|ec| !ec.is_vcpu()).for_each(|ec| ec.pio.set(Some(space)));
            }
            Ok(())
        }),
        SpaceKind::Guest if virt::available() => make(pd, slot, GuestSpace::init),
        SpaceKind::Msr if virt::available() => make(pd, slot, MsrSpace::init),
        SpaceKind::Guest | SpaceKind::Msr | SpaceKind::Dma => Err(Status::BadFeature),
    }
}

/// Makes the only space of its kind, which `link` is to refer to.
#[inline(always)]
fn make_only<T: Object>(
    pd: &'static Pd,
    slot: CapSlot,
    link: &Link<T>,
    init: impl FnOnce(&'static T) -> Result<(), Status>,
    release: impl FnOnce(&T, &Pd),
) -> Outcome {
    let free = || if link.get().is_none() { Ok(()) } else { Err(Status::Busy) };
    free()?;
    // Another CPU may be faster.
    let claim = |space| {
        free().inspect_err(|_| release(space, pd))?;
        link.set(Some(space));
        Ok(())
    };
    make_if(pd, slot, init, claim)
}

/// `create_ec`.
#[inline(always)]
pub fn ec(caller: &Caller, args: &Args) -> Outcome {
    let args = CreateEc::decode(args).ok_or(Status::BadParameter)?;
    if usize::from(args.cpu.0) >= cpu::count() {
        return Err(Status::BadCpu);
    }
    if args.event_base.0 > Sel::COUNT {
        return Err(Status::BadParameter);
    }
    match args.body {
        EcBody::Vcpu { guest, pio, msr } => vcpu(caller, &args, guest, pio, msr),
        EcBody::Thread { utcb, sp, ip } => host(caller, &args, utcb, sp, Some(ip)),
        EcBody::Local { utcb, sp } => host(caller, &args, utcb, sp, None),
    }
}

/// A thread (with its start address) or a local EC.
#[inline(always)]
fn host(caller: &Caller, args: &CreateEc, utcb_at: u64, sp: u64, ip: Option<u64>) -> Outcome {
    let pd: &'static Pd = caller.obj.lookup(args.pd, Perms::PD_CREATE)?;
    let (obj, mem) = pd.obj.get().zip(pd.mem.get()).ok_or(Status::BadParameter)?;
    // A local EC is told from a thread by its stack pointer; a thread may bring its stack along otherwise.
    let addresses = [sp, ip.unwrap_or(0)];
    if addresses.iter().any(|&address| address >= abi::USER_TOP) || ip.is_none() && sp == 0 {
        return Err(Status::BadParameter);
    }
    let slot = caller.obj.prepare(args.dst)?;
    let pages = two_pages(pd)?;
    let [frame, utcb] = pages;
    let set_up = |ec: &'static Ec| {
        let state = if ip.is_some() { State::Runnable } else { State::Idle };
        // A thread begins with all its registers, extended state too; a handler with what its callers send.
        let kind = if ip.is_some() { Kind::Iret } else { Kind::Sysret };
        ec.init(frame, Some(utcb), args.cpu.0, state, kind);
        ec.root.set(mem.root().phys().0);
        ec.obj.set(Some(obj));
        ec.event_base.set(args.event_base.0);
        ec.frame().set(Reg::UtcbAt, utcb_at);
        match ip {
            Some(ip) => start(ec, ip, sp),
            None => ec.sp.set(sp),
        }
        Ok(())
    };
    // Mapped last, so that it is never there without its EC. A port space that comes later finds the EC.
    let map = |ec: &'static Ec| {
        let pio = pd.pio.get();
        alive(obj.id() != 0 && mem.id() != 0 && pio.is_none_or(|pio| pio.id() != 0))?;
        ec.pio.set(pio);
        mem.map_kernel_page(utcb_at, utcb)
    };
    make_if(pd, slot, set_up, map).inspect_err(|_| give_back(pd, pages))
}

/// What every EC needs.
#[inline(always)]
fn two_pages(pd: &Pd) -> Result<[Page; 2], Status> {
    let first = pd.alloc(0)?;
    let second = pd.alloc(0).inspect_err(|_| pd.free(first, 0))?;
    Ok([first, second])
}

fn give_back(pd: &Pd, pages: [Page; 2]) {
    pages.into_iter().for_each(|page| pd.free(page, 0));
}

/// `BadCapability` if what an EC needs does not live any more.
#[inline(always)]
fn alive(all: bool) -> Result<(), Status> {
    if all { Ok(()) } else { Err(Status::BadCapability) }
}

fn start(ec: &'static Ec, ip: u64, sp: u64) {
    fpu::reset(ec);
    let frame = ec.frame();
    frame.set(Reg::Rip, ip);
    frame.set(Reg::Rsp, sp);
    frame.set(Reg::Rdi, sp);
    frame.set(Reg::Rflags, ipc::USER_FLAGS);
}

/// A virtual CPU.
fn vcpu(caller: &Caller, args: &CreateEc, guest: Sel, pio: Sel, msr: Sel) -> Outcome {
    if !virt::available() {
        return Err(Status::BadFeature);
    }
    let home = cpu::get(u64::from(args.cpu.0)).ok_or(Status::BadCpu)?;
    let pd: &'static Pd = caller.obj.lookup(args.pd, Perms::PD_CREATE_SPACE)?;
    let obj = pd.obj.get().ok_or(Status::BadParameter)?;
    let guest: &'static GuestSpace = space_of(caller, pd, guest, None)?;
    let pio = space_of(caller, pd, pio, kernel::no_ports())?;
    let msr = space_of(caller, pd, msr, kernel::no_msrs())?;
    let slot = caller.obj.prepare(args.dst)?;
    let pages = two_pages(pd)?;
    let [frame, control] = pages;
    let set_up = |ec: &'static Ec| {
        ec.init(frame, None, args.cpu.0, State::Runnable, Kind::Guest);
        ec.obj.set(Some(obj));
        ec.guest.set(Some(guest));
        ec.event_base.set(args.event_base.0);
        let frame = ec.frame();
        frame.set(Reg::Xcr0, fpu::host_xcr0());
        frame.set(Reg::Recall, pending::STARTUP);
        fpu::reset(ec);
        virt::set_up(control, ec, home, guest, pio, msr);
        ec.pio.set(Some(pio));
        Ok(())
    };
    let all_live = |_| alive(obj.id() != 0 && guest.id() != 0 && pio.id() != 0 && msr.id() != 0);
    make_if(pd, slot, set_up, all_live).inspect_err(|_| give_back(pd, pages))
}

/// A space of `pd` for a vCPU, or `otherwise` if none is named.
fn space_of<T: Object>(
    caller: &Caller,
    pd: &'static Pd,
    sel: Sel,
    otherwise: Option<&'static T>,
) -> Result<&'static T, Status> {
    if sel == Sel::NONE
        && let Some(space) = otherwise
    {
        return Ok(space);
    }
    let space: &'static T = caller.obj.lookup(sel, Perms::SPACE_ASSIGN)?;
    if space.owner().is_some_and(|owner| owner.addr() == pd.addr()) { Ok(space) } else { Err(Status::BadParameter) }
}

/// `create_sc`.
#[inline(always)]
pub fn sc(caller: &Caller, args: &Args) -> Outcome {
    let args = CreateSc::decode(args).ok_or(Status::BadParameter)?;
    let pd: &'static Pd = caller.obj.lookup(args.pd, Perms::PD_CREATE_SC)?;
    let ec: &'static Ec = caller.obj.lookup(args.ec, Perms::EC_BIND_SC)?;
    if ec.sp.get() != 0 {
        return Err(Status::BadParameter);
    }
    if ec.sc.get().is_some() {
        return Err(Status::Busy);
    }
    let slot = caller.obj.prepare(args.dst)?;
    let mut made = None;
    let outcome = make(pd, slot, |sc: &'static Sc| {
        sc.init(ec, args.priority, tsc::from_us(u64::from(args.budget_us)).max(1));
        made = Some(sc);
        Ok(())
    });
    // Not what is at `slot` by now, which is others' to change.
    if let (Ok(_), Some(sc)) = (&outcome, made) {
        ec.sc.set(Some(sc));
        sched::ready(caller.cpu, sc);
    }
    outcome
}

/// `create_pt`.
#[inline(always)]
pub fn pt(caller: &Caller, args: &Args) -> Outcome {
    let args = CreatePt::decode(args);
    let pd: &'static Pd = caller.obj.lookup(args.pd, Perms::PD_CREATE)?;
    let ec: &'static Ec = caller.obj.lookup(args.ec, Perms::EC_BIND_PT)?;
    if ec.sp.get() == 0 || args.ip >= abi::USER_TOP {
        return Err(Status::BadParameter);
    }
    let slot = caller.obj.prepare(args.dst)?;
    make(pd, slot, |pt: &'static Pt| {
        pt.init(ec, args.ip, args.id, args.mtd);
        Ok(())
    })
}

/// `create_sm`.
#[inline(always)]
pub fn sm(caller: &Caller, args: &Args) -> Outcome {
    let args = CreateSm::decode(args);
    let pd: &'static Pd = caller.obj.lookup(args.pd, Perms::PD_CREATE)?;
    let receiver: Option<&'static Sm> = match args.receiver {
        Sel::NONE => None,
        sel => Some(caller.obj.lookup(sel, Perms::SM_DOWN)?),
    };
    let slot = caller.obj.prepare(args.dst)?;
    make(pd, slot, |sm: &'static Sm| {
        sm.init(args.count, receiver, args.id);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::PAGE;
    use crate::testing;
    use abi::hypercall::CpuId;
    use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::{sync::Barrier, thread};

    const PD: Sel = Sel(0);

    #[test]
    fn the_first_port_space_is_that_of_all_threads_also_if_made_beside_them() {
        const FIRST: u64 = 2;
        const COUNT: u64 = 8;
        kernel::set_page_table(testing::pd(1).alloc(0).unwrap());
        for _ in 0..200 {
            let pd = testing::pd(64);
            let (obj, mem): (&'static ObjSpace, &'static MemSpace) = (testing::object(pd), testing::object(pd));
            obj.init().unwrap();
            mem.init().unwrap();
            pd.obj.set(Some(obj));
            pd.mem.set(Some(mem));
            obj.prepare(PD).unwrap().store_object(pd, Perms::ALL);
            let caller = Caller { cpu: testing::cpu(), ec: testing::object(testing::pd(1)), obj };
            let body = EcBody::Local { utcb: 0, sp: 8 };
            let context = |i| CreateEc { dst: Sel(FIRST + i), pd: PD, cpu: CpuId(0), event_base: Sel(0), body };
            let together = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    together.wait();
                    let args = CreateSpace { dst: Sel(1), pd: PD, kind: SpaceKind::Pio };
                    space(&caller, &args.encode()).unwrap();
                });
                together.wait();
                for i in 0..COUNT {
                    host(&caller, &context(i), i * PAGE, 8, None).unwrap();
                }
            });
            let ports = |i| obj.lookup::<Ec>(Sel(FIRST + i), Perms::empty()).unwrap().pio.raw();
            assert!((0..COUNT).all(|i| ports(i) == pd.pio.raw()));
        }
    }

    /// Another CPU puts a scheduling context that is in use where the new one has just appeared.
    #[test]
    fn a_new_scheduling_context_is_started_whatever_is_in_its_place() {
        const EC: Sel = Sel(1);
        const DST: Sel = Sel(2);
        let (pd, cpu, done) = (testing::pd(4096), testing::cpu(), AtomicBool::new(false));
        let (obj, ec): (&'static ObjSpace, &'static Ec) = (testing::object(pd), testing::object(pd));
        let other: &'static Sc = testing::object(pd);
        obj.init().unwrap();
        obj.prepare(PD).unwrap().store_object(pd, Perms::ALL);
        obj.prepare(EC).unwrap().store_object(ec, Perms::ALL);
        obj.prepare(DST).unwrap().store_object(other, Perms::ALL);
        let (slot, in_use) = (obj.slot(DST).unwrap(), obj.load(DST).unwrap());
        let caller = Caller { cpu, ec, obj };
        let args = CreateSc { dst: DST, pd: PD, ec: EC, priority: 1, budget_us: 1 }.encode();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    slot.store(in_use);
                    slot.clear();
                }
            });
            let mut created = 0;
            let mut right = 0;
            while created < 10_000 {
                ec.sc.set(None);
                if sc(&caller, &args).is_ok() {
                    created += 1;
                    right += u32::from(cpu.ready.pop().is_some_and(|sc| sc.addr() != other.addr()));
                }
            }
            done.store(true, Relaxed);
            assert_eq!(right, created);
        });
    }
}
