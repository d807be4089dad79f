//! Hypercalls: decode and check everything, then act without failing.

pub mod control;
pub mod create;
pub mod delegate;
pub mod destroy;

use crate::arch::percpu;
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::ipc;
use crate::mem::Object;
use crate::sched::{self, Resume};
use crate::sm::Sm;
use crate::space::obj::ObjSpace;
use abi::cap::Perms;
use abi::hypercall::{Args, Delegate, NUMBER_MASK, Number, SmDown};
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

impl Caller {
    /// Whoever is in the kernel by a hypercall.
    #[inline(always)]
    fn get() -> Option<Self> {
        let cpu = percpu::current();
        let ec = cpu.current()?;
        let obj = ec.obj.get()?;
        Some(Self { cpu, ec, obj })
    }
}

/// A hypercall: argument registers in the order of the calling convention, with R10 for RCX.
pub type Entry = extern "sysv64" fn(u64, u64, u64, u64, u64, u64) -> Resume;

/// Hypercalls by number. Entered from `arch::entry` with the argument registers.
pub static TABLE: [Entry; NUMBER_MASK as usize + 1] = {
    let mut table: [Entry; NUMBER_MASK as usize + 1] = [unknown; NUMBER_MASK as usize + 1];
    fill(&mut table);
    table[Number::Call as usize] = call;
    table[Number::Reply as usize] = reply;
    table[Number::SmDown as usize] = sm_down;
    table[Number::Delegate as usize] = delegate;
    table
};

/// Defines hypercalls that return to their caller at once, each a function of its own that needs no more of the stack and
/// the registers than it must, and [`fill`], which puts them into the table.
macro_rules! entries {
    ($($finish:path { $($name:ident $(($number:ident))? = $operation:path;)* })*) => {
        $($(
            extern "sysv64" fn $name(rdi: u64, rsi: u64, rdx: u64, r10: u64, r8: u64, r9: u64) -> Resume {
                let Some(caller) = Caller::get() else {
                    return lost();
                };
                let args = Args { rdi, rsi, rdx, r8, r9, r10 };
                $finish(&caller, $operation(&caller, &args))
            }
        )*)*

        const fn fill(table: &mut [Entry]) {
            $($($(table[Number::$number as usize] = $name;)?)*)*
        }
    };
}

entries! {
    finish {
        create_pd(CreatePd) = create::pd;
        create_space(CreateSpace) = create::space;
        create_ec(CreateEc) = create::ec;
        create_pt(CreatePt) = create::pt;
        create_sm(CreateSm) = create::sm;
        ctrl_pd(CtrlPd) = control::pd;
        ctrl_sc(CtrlSc) = control::sc;
        ctrl_pt(CtrlPt) = control::pt;
        ctrl_hw(CtrlHw) = control::hw;
        assign_int(AssignInt) = control::assign_int;
    }
    finish_hasty {
        create_sc(CreateSc) = create::sc;
        ctrl_ec(CtrlEc) = control::ec;
        sm_up(SmUp) = control::sm_up;
    }
    finish_if_alive {
        destroy(Destroy) = destroy::destroy;
        delegate_other = delegate::to_other;
    }
}

/// Capabilities and host memory are delegated most. Each kind of space has a function of its own, so that it has what it needs in
/// registers.
extern "sysv64" fn delegate(rdi: u64, rsi: u64, rdx: u64, r10: u64, r8: u64, r9: u64) -> Resume {
    let Some(caller) = Caller::get() else {
        return lost();
    };
    let args = Args { rdi, rsi, rdx, r8, r9, r10 };
    match delegate::decode(&args).map(|args| delegate::to_objects(&caller, &args)) {
        Err(status) => finish(&caller, Err(status)),
        Ok(Some(outcome)) => finish(&caller, outcome),
        Ok(None) => delegate_memory(rdi, rsi, rdx, r10, r8, r9),
    }
}

/// [`delegate()`], which has checked the ranges, to something else than an object space.
#[inline(never)]
extern "sysv64" fn delegate_memory(rdi: u64, rsi: u64, rdx: u64, r10: u64, r8: u64, r9: u64) -> Resume {
    let Some(caller) = Caller::get() else {
        return lost();
    };
    let args = Delegate::decode(&Args { rdi, rsi, rdx, r8, r9, r10 });
    match delegate::to_memory(&caller, &args) {
        // Without a flush it did not wait.
        Some((outcome, false)) => finish(&caller, outcome),
        Some((outcome, true)) => finish_if_alive(&caller, outcome),
        None => delegate_other(rdi, rsi, rdx, r10, r8, r9),
    }
}

extern "sysv64" fn call(rdi: u64, rsi: u64, rdx: u64, r10: u64, r8: u64, r9: u64) -> Resume {
    let cpu = percpu::current();
    match cpu.current() {
        Some(ec) => ipc::call(cpu, ec, rdi, Tag(rsi), [rdx, r8, r9, r10]),
        None => lost(),
    }
}

extern "sysv64" fn reply(_: u64, rsi: u64, rdx: u64, r10: u64, r8: u64, r9: u64) -> Resume {
    let cpu = percpu::current();
    match cpu.current() {
        Some(ec) => ipc::reply(cpu, ec, Tag(rsi), [rdx, r8, r9, r10]),
        None => lost(),
    }
}

/// The reply of a handler whose caller has raised an event. Entered from `arch::fastpath`; nothing of the handler is saved.
pub extern "sysv64" fn reply_to_event(_: u64, selection: u64) -> Resume {
    let cpu = percpu::current();
    match cpu.current() {
        Some(ec) => ipc::reply_to_event(cpu, ec, ec.caller.get(), selection as u32),
        None => lost(),
    }
}

/// `sm_up`, entered from `arch::fastpath` with the semaphore.
pub extern "sysv64" fn sm_up_found(sm: &'static Sm) -> Resume {
    let cpu = percpu::current();
    match sm.up(cpu) {
        Ok(()) if cpu.resched.get() == 0 => Resume::back(Status::Success, 0),
        outcome => preempted(cpu, outcome),
    }
}

/// A semaphore that was upped has made somebody of higher priority ready, or could not be upped.
#[cold]
#[inline(never)]
fn preempted(cpu: &'static Cpu, outcome: Result<(), Status>) -> Resume {
    match cpu.current() {
        Some(ec) => finish_or_preempt(cpu, ec, outcome.map(|()| [0, 0])),
        None => lost(),
    }
}

/// `sm_down` of one, entered from `arch::fastpath` with the semaphore.
pub extern "sysv64" fn sm_down_found(sm: &'static Sm, deadline: u64) -> Resume {
    let cpu = percpu::current();
    let Some(ec) = cpu.current() else {
        return lost();
    };
    sm.down(cpu, ec, false, deadline)
}

extern "sysv64" fn sm_down(rdi: u64, rsi: u64, rdx: u64, r10: u64, r8: u64, r9: u64) -> Resume {
    let Some(caller) = Caller::get() else {
        return lost();
    };
    let args = SmDown::decode(&Args { rdi, rsi, rdx, r8, r9, r10 });
    match caller.obj.lookup::<Sm>(args.sm, Perms::SM_DOWN) {
        Ok(sm) => sm.down(caller.cpu, caller.ec, args.zero, args.deadline),
        Err(status) => finish(&caller, Err(status)),
    }
}

extern "sysv64" fn unknown(_: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> Resume {
    Resume::back(Status::BadHypercall, 0)
}

/// There is no current EC with an object space; nobody can be told.
#[cold]
#[inline(never)]
fn lost() -> Resume {
    sched::schedule(percpu::current())
}

/// Back to `ec`, which did the hypercall, with its outcome.
#[inline(always)]
fn back(ec: &'static Ec, outcome: Outcome) -> Resume {
    match outcome {
        Ok([value, 0]) => Resume::back(Status::Success, value),
        Ok(_) => {
            ipc::done(ec, outcome);
            Resume::of(ec)
        }
        Err(status) => Resume::back(status, 0),
    }
}

/// Nothing happened that lets anybody else run.
#[inline(always)]
fn finish(caller: &Caller, outcome: Outcome) -> Resume {
    back(caller.ec, outcome)
}

/// Somebody of higher priority may have become ready.
#[inline(always)]
fn finish_or_preempt(cpu: &'static Cpu, ec: &'static Ec, outcome: Outcome) -> Resume {
    if cpu.resched.get() == 0 {
        return back(ec, outcome);
    }
    ipc::done(ec, outcome);
    sched::preempt(cpu)
}

/// [`finish_or_preempt`] for whoever asks.
#[inline(always)]
fn finish_hasty(caller: &Caller, outcome: Outcome) -> Resume {
    finish_or_preempt(caller.cpu, caller.ec, outcome)
}

/// The same, after a wait for other CPUs, in which one of them may have destroyed the caller: its frame is gone then.
#[inline(always)]
fn finish_if_alive(caller: &Caller, outcome: Outcome) -> Resume {
    if caller.cpu.current().map(Object::addr) != Some(caller.ec.addr()) {
        return sched::preempt(caller.cpu);
    }
    finish_hasty(caller, outcome)
}
