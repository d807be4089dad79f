//! Operations on existing objects.

use super::{Caller, DONE, Outcome};
use crate::arch::{acpi_pm, switch};
use crate::cpu;
use crate::ec::Ec;
use crate::frame::Reg;
use crate::hw::Hw;
use crate::interrupt;
use crate::pd::Pd;
use crate::pt::Pt;
use crate::sc::Sc;
use crate::sched;
use crate::sm::Sm;
use crate::smp;
use abi::cap::Perms;
use abi::hypercall::{Args, AssignInt, CtrlEc, CtrlHw, CtrlPd, CtrlPt, HwOp};
use abi::status::Status;

/// `sm_up`.
#[inline(always)]
pub fn sm_up(caller: &Caller, args: &Args) -> Outcome {
    let sm: &'static Sm = caller.obj.lookup(args.sel(), Perms::SM_UP)?;
    sm.up(caller.cpu)?;
    DONE
}

/// `ctrl_pd`.
#[inline(always)]
pub fn pd(caller: &Caller, args: &Args) -> Outcome {
    match CtrlPd::decode(args).ok_or(Status::BadParameter)? {
        CtrlPd::Transfer { to, from, pages } => {
            let to: &'static Pd = caller.obj.lookup(to, Perms::PD_QUOTA)?;
            let from: &'static Pd = caller.obj.lookup(from, Perms::PD_QUOTA)?;
            from.withdraw(pages)?;
            to.deposit(pages);
            DONE
        }
        CtrlPd::Query { pd } => {
            let pd: &'static Pd = caller.obj.lookup(pd, Perms::PD_QUOTA)?;
            let (quota, used) = pd.figures();
            Ok([quota, used])
        }
    }
}

/// `ctrl_ec`.
#[inline(always)]
pub fn ec(caller: &Caller, args: &Args) -> Outcome {
    match CtrlEc::decode(args).ok_or(Status::BadParameter)? {
        CtrlEc::Recall { ec } => {
            let ec: &'static Ec = caller.obj.lookup(ec, Perms::EC_CTRL)?;
            smp::recall(caller.cpu, ec);
        }
        CtrlEc::SetFsBase { base } if base < abi::USER_TOP => {
            caller.ec.frame().set(Reg::FsBase, base);
            switch::set_fs(caller.cpu, base);
        }
        CtrlEc::SetFsBase { .. } => return Err(Status::BadParameter),
    }
    DONE
}

/// `ctrl_sc`.
#[inline(always)]
pub fn sc(caller: &Caller, args: &Args) -> Outcome {
    let sc: &'static Sc = caller.obj.lookup(args.sel(), Perms::SC_CTRL)?;
    Ok([sched::consumed(caller.cpu, sc), 0])
}

/// `ctrl_pt`.
#[inline(always)]
pub fn pt(caller: &Caller, args: &Args) -> Outcome {
    let args = CtrlPt::decode(args);
    let pt: &'static Pt = caller.obj.lookup(args.pt, Perms::PT_CTRL)?;
    pt.configure(args.id, args.mtd);
    DONE
}

/// `assign_int`.
#[inline(always)]
pub fn assign_int(caller: &Caller, args: &Args) -> Outcome {
    let args = AssignInt::decode(args);
    let _: &'static Hw = caller.obj.lookup(args.hw, Perms::HW_INTERRUPT)?;
    let sm: &'static Sm = caller.obj.lookup(args.sm, Perms::SM_DOWN)?;
    let cpu = cpu::get(u64::from(args.cpu.0)).ok_or(Status::BadCpu)?;
    let message = interrupt::assign(cpu, sm, args.source)?;
    Ok([message.address, message.data])
}

/// `ctrl_hw`.
#[inline(always)]
pub fn hw(caller: &Caller, args: &Args) -> Outcome {
    let args = CtrlHw::decode(args).ok_or(Status::BadParameter)?;
    let _: &'static Hw = caller.obj.lookup(args.hw, Perms::HW_POWER)?;
    match args.op {
        HwOp::Reset => acpi_pm::reset(),
        HwOp::Sleep => acpi_pm::sleep(args.sleep_type as u8, (args.sleep_type >> 8) as u8),
    }
    // Still here: the machine cannot.
    Err(Status::BadFeature)
}
