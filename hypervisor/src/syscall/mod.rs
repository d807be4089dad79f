//! Hypercalls: decode and check everything, then act without failing.

pub mod control;
pub mod create;
pub mod delegate;
pub mod destroy;

use crate::arch::percpu;
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::frame::Reg;
use crate::ipc;
use crate::mem::Object;
use crate::sched::{self, Resume};
use crate::sm::Sm;
use crate::space::obj::ObjSpace;
use abi::cap::Perms;
use abi::hypercall::{Args, NUMBER_MASK, Number, SmDown};
use abi::message::Tag;
use abi::status::Status;

/// Values that a hypercall returns in RDX and R8.
pub type Values = [u64; 2];
/// Outcome of a hypercall that returns to its caller at once.
pub type Outcome = Result<Values, Status>;
/// Nothing to return but success.
pub const DONE: Outcome = Ok([0, 0]);

/// Who asks: the CPU, the EC and its object space.
#[derive(Clone, Copy)]
pub struct Caller {
    /// This CPU.
    pub cpu: &'static Cpu,
    /// The current EC.
    pub ec: &'static Ec,
    /// Where its selectors are looked up.
    pub obj: &'static ObjSpace,
}

/// Entered from `arch::entry` with the argument registers.
pub extern "sysv64" fn syscall(rdi: u64, rsi: u64, rdx: u64, r10: u64, r8: u64, r9: u64) -> Resume {
    let cpu = percpu::current();
    let Some(ec) = cpu.current() else {
        return sched::schedule(cpu);
    };
    let number = rdi & NUMBER_MASK;
    if number == Number::Call as u64 {
        return ipc::call(cpu, ec, rdi, Tag(rsi), [rdx, r8, r9, r10]);
    }
    if number == Number::Reply as u64 {
        return ipc::reply(cpu, ec, Tag(rsi), [rdx, r8, r9, r10]);
    }
    other(
        cpu,
        ec,
        &Args {
            rdi,
            rsi,
            rdx,
            r8,
            r9,
            r10,
        },
    )
}

#[inline(never)]
fn other(cpu: &'static Cpu, ec: &'static Ec, args: &Args) -> Resume {
    let Some(obj) = ec.obj.get() else {
        return ipc::fail(ec, Status::BadCapability);
    };
    let caller = Caller { cpu, ec, obj };
    let number = args.number();
    if number == Number::SmDown as u64 {
        let args = SmDown::decode(args);
        return match obj.lookup::<Sm>(args.sm, Perms::SM_DOWN) {
            Ok(sm) => sm.down(cpu, ec, args),
            Err(status) => ipc::fail(ec, status),
        };
    }
    let outcome = match number {
        n if n == Number::SmUp as u64 => control::sm_up(&caller, args),
        n if n == Number::CreatePd as u64 => create::pd(&caller, args),
        n if n == Number::CreateSpace as u64 => create::space(&caller, args),
        n if n == Number::CreateEc as u64 => create::ec(&caller, args),
        n if n == Number::CreateSc as u64 => create::sc(&caller, args),
        n if n == Number::CreatePt as u64 => create::pt(&caller, args),
        n if n == Number::CreateSm as u64 => create::sm(&caller, args),
        n if n == Number::Destroy as u64 => destroy::destroy(&caller, args),
        n if n == Number::Delegate as u64 => delegate::delegate(&caller, args),
        n if n == Number::CtrlPd as u64 => control::pd(&caller, args),
        n if n == Number::CtrlEc as u64 => control::ec(&caller, args),
        n if n == Number::CtrlSc as u64 => control::sc(&caller, args),
        n if n == Number::CtrlPt as u64 => control::pt(&caller, args),
        n if n == Number::AssignInt as u64 => control::assign_int(&caller, args),
        n if n == Number::CtrlHw as u64 => control::hw(&caller, args),
        _ => Err(Status::BadHypercall),
    };
    finish(&caller, outcome)
}

fn finish(caller: &Caller, outcome: Outcome) -> Resume {
    if caller.cpu.current().map(Object::addr) != Some(caller.ec.addr()) {
        // Another CPU destroyed the caller while this one waited in `smp::everywhere`: its frame is gone.
        return sched::preempt(caller.cpu);
    }
    let frame = caller.ec.frame();
    let (status, values) = match outcome {
        Ok(values) => (Status::Success, values),
        Err(status) => (status, [0, 0]),
    };
    frame.set(Reg::Rax, status as u64);
    frame.set(Reg::Rdx, values[0]);
    frame.set(Reg::R8, values[1]);
    sched::continue_or_preempt(caller.cpu, caller.ec)
}
