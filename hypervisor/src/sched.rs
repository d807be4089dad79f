//! Scheduling: fixed priorities, round robin among equals, budgets. Each CPU schedules its own; nothing here is shared.

mod chain;
mod queue;

pub use chain::{ends, reactivate};
pub use queue::Queue;

use crate::arch::{switch, timer, tsc};
use crate::cpu::{self, Cpu};
use crate::ec::{Ec, State};
use crate::event::pending;
use crate::frame::{Frame, Kind, Reg};
use crate::mem::Link;
use crate::mem::object::Object;
use crate::sc::{Place, Sc};
use crate::smp;
use abi::status::Status;
use chain::{activate, set_aside};

/// Below are statuses of hypercalls, which no frame's address is.
pub const STATUSES: u64 = 16;

/// What the CPU does next. Returned by every handler, applied by `arch::entry`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Resume {
    /// Address of the frame, or a status ([`Resume::back`]), or the number of an event ([`Resume::raise`]).
    frame: u64,
    /// [`Kind`], or a value.
    kind: u64,
}

impl Resume {
    /// Waits for an interrupt.
    pub const IDLE: Self = Self { frame: u64::MAX, kind: Kind::Idle as u64 };

    /// Returns from a hypercall to the EC that did it and has been current since, so that its registers but those that
    /// hypercalls return are still in the CPU. RDX is `value`, R8 is 0. Other handlers cannot return this.
    #[inline(always)]
    pub fn back(status: Status, value: u64) -> Self {
        Self { frame: status as u64, kind: value }
    }

    /// Raises the event `number` of the current EC, which its frame tells more about ([`crate::event::raise`]).
    #[inline(always)]
    pub fn raise(number: u64) -> Self {
        Self { frame: number, kind: Kind::Raise as u64 }
    }

    /// Continues `ec`, which is current.
    #[inline(always)]
    pub fn of(ec: &'static Ec) -> Self {
        Self::with(ec.frame())
    }

    /// Continues the EC with this frame, which is current.
    #[inline(always)]
    pub fn with(frame: Frame) -> Self {
        Self { frame: frame.addr(), kind: frame.kind() }
    }
}

/// Makes `ec` current and continues it.
#[inline(always)]
pub fn run(cpu: &'static Cpu, ec: &'static Ec) -> Resume {
    switch::to(cpu, ec);
    Resume::of(ec)
}

/// Makes a scheduling context that is nowhere ready on its CPU.
#[inline(always)]
pub fn ready(here: &'static Cpu, sc: &'static Sc) {
    if sc.id() == 0 {
        sc.put(Place::Nowhere);
        return;
    }
    if sc.cpu.get() != here.index() {
        smp::send_sc(sc);
        return;
    }
    here.ready.insert(sc, false);
    if here.sc.get().is_none_or(|current| current.priority.get() < sc.priority.get()) {
        here.resched.set(1);
    }
}

/// Charges the current scheduling context for the time since it was last charged.
fn charge(cpu: &'static Cpu) {
    charge_until(cpu, tsc::read());
}

/// The same when it is `now`.
#[inline(always)]
fn charge_until(cpu: &'static Cpu, now: u64) {
    if let Some(sc) = cpu.sc.get() {
        charge_to(cpu, sc, now);
    }
    cpu.since.set(now);
}

/// Charges `sc` for the time until `now`.
#[inline(always)]
fn charge_to(cpu: &'static Cpu, sc: &'static Sc, now: u64) {
    let used = now.saturating_sub(cpu.since.get());
    sc.consumed.set(sc.consumed.get() + used);
    sc.left.set(sc.left.get().saturating_sub(used));
}

/// Time consumed by `sc` so far, as far as known here.
pub fn consumed(cpu: &'static Cpu, sc: &'static Sc) -> u64 {
    if cpu.sc.is(sc) {
        charge(cpu);
    }
    sc.consumed.get()
}

/// Puts the current scheduling context back: in front while budget is left, else at the end.
fn requeue(cpu: &'static Cpu) {
    charge(cpu);
    let Some(sc) = cpu.sc.get() else { return };
    cpu.sc.set(None);
    if sc.id() == 0 {
        sc.put(Place::Nowhere);
        return;
    }
    cpu.ready.insert(sc, sc.left.get() != 0);
}

/// Leaves the CPU to a scheduling context of higher priority, if there is one; otherwise continues `ec`.
#[inline(always)]
pub fn continue_or_preempt(cpu: &'static Cpu, ec: &'static Ec) -> Resume {
    if cpu.resched.get() != 0 {
        return preempt(cpu);
    }
    Resume::of(ec)
}

/// Puts the current scheduling context back and takes the best one.
pub fn preempt(cpu: &'static Cpu) -> Resume {
    requeue(cpu);
    schedule(cpu)
}

/// The timer has fired, and it is `now`: the current scheduling context may have used up its budget, or others may have to try again.
#[inline(always)]
pub fn tick(cpu: &'static Cpu, now: u64) {
    charge_until(cpu, now);
    if cpu.sc.get().is_some_and(|sc| sc.left.get() == 0) {
        cpu.resched.set(1);
    }
    if cpu.retry.get() <= now {
        cpu.retry.set(u64::MAX);
        while let Some(sc) = cpu.aside.get() {
            cpu.aside.set(sc.next.get());
            ready(cpu, sc);
        }
    }
    arm(cpu);
}

/// The current EC is blocked: parks the current scheduling context there and takes the next.
#[inline(always)]
pub fn block(cpu: &'static Cpu, ec: &'static Ec) -> Resume {
    let now = tsc::read();
    if let Some(sc) = cpu.sc.get() {
        charge_to(cpu, sc, now);
        cpu.sc.set(None);
        park(sc, ec);
    }
    schedule_at::<true, false>(cpu, now)
}

fn park(sc: &'static Sc, ec: &'static Ec) {
    sc.put(Place::Parked);
    sc.parked_at.set(Some(ec));
    sc.next.set(ec.parked.get());
    ec.parked.set(Some(sc));
}

/// Takes `sc` off a stack.
fn unlink(stack: &Link<Sc>, sc: &'static Sc) {
    let mut link = stack;
    while let Some(at) = link.get() {
        if at.addr() == sc.addr() {
            link.set(sc.next.get());
            break;
        }
        link = &at.next;
    }
    sc.put(Place::Nowhere);
}

/// Makes an EC of this CPU, whose wait is over, runnable, and everything that waited for it ready.
#[inline(always)]
pub fn wake(cpu: &'static Cpu, ec: &'static Ec) {
    cpu.timeouts.remove(ec);
    if ec.is(State::Blocked) {
        ec.become_(State::Runnable);
    }
    release_parked(cpu, ec);
}

/// Makes all scheduling contexts parked at `ec` ready.
#[inline(always)]
pub fn release_parked(cpu: &'static Cpu, ec: &'static Ec) {
    while let Some(sc) = ec.parked.get() {
        ec.parked.set(sc.next.get());
        ready(cpu, sc);
    }
}

/// Takes the best ready scheduling context and continues what it is about.
pub fn schedule(cpu: &'static Cpu) -> Resume {
    schedule_at::<false, false>(cpu, tsc::read())
}

/// The same where the CPU was idle and has been woken, perhaps for nothing.
pub fn wake_up(cpu: &'static Cpu) -> Resume {
    schedule_at::<false, true>(cpu, tsc::read())
}

/// The same when it is `now`. With `HYPERCALL`, the current EC is in a hypercall; with `WOKEN`, there was nothing to run before.
#[inline(always)]
fn schedule_at<const HYPERCALL: bool, const WOKEN: bool>(cpu: &'static Cpu, now: u64) -> Resume {
    let Some(sc) = take(cpu, now) else {
        arm(cpu);
        if WOKEN && cpu::count() > 1 {
            smp::sleep(cpu);
        }
        return Resume::IDLE;
    };
    // Most often it is about its own EC.
    if let Some(ec) = sc.ec.get()
        && sc.id() != 0
        && ec.is(State::Runnable)
        && ec.cpu.get() == cpu.index()
        && let frame = ec.frame()
        && frame.get(Reg::Recall) == 0
    {
        cpu.helping.set(0);
        arm_until(cpu, now.saturating_add(renew(sc)));
        if HYPERCALL {
            switch::from_hypercall(cpu, ec, frame);
        } else {
            switch::from_anything(cpu, ec, frame);
        }
        return Resume::with(frame);
    }
    schedule_chain(cpu, sc)
}

/// Makes the best ready scheduling context current.
#[inline(always)]
fn take(cpu: &'static Cpu, now: u64) -> Option<&'static Sc> {
    cpu.resched.set(0);
    let sc = cpu.ready.pop()?;
    sc.put(Place::Current);
    cpu.sc.set(Some(sc));
    cpu.since.set(now);
    Some(sc)
}

/// What is left of the budget of `sc`, which has just become current: all of it, if it was used up. That may have been in the moment
/// in which it blocked, and without budget there is no timer for its end.
#[inline(always)]
fn renew(sc: &'static Sc) -> u64 {
    match sc.left.get() {
        0 => {
            sc.left.set(sc.budget.get());
            sc.budget.get()
        }
        left => left,
    }
}

/// [`schedule`] from the current `sc` on, which is about any EC of a call chain.
#[inline(never)]
fn schedule_chain(cpu: &'static Cpu, mut sc: &'static Sc) -> Resume {
    loop {
        renew(sc);
        if let Some(resume) = activate(cpu, sc) {
            arm(cpu);
            return resume;
        }
        set_aside(cpu);
        match take(cpu, tsc::read()) {
            Some(next) => sc = next,
            None => {
                arm(cpu);
                return Resume::IDLE;
            }
        }
    }
}

/// Arms the timer for the end of the budget or the first timeout. A timer that fires too early is harmless, so one
/// that is armed for earlier stays.
#[inline(always)]
fn arm(cpu: &'static Cpu) {
    let end = match cpu.sc.get().map_or(0, |sc| sc.left.get()) {
        // It is about to be replaced; a timer for that would only interrupt the replacement.
        0 => u64::MAX,
        left => cpu.since.get().saturating_add(left),
    };
    arm_until(cpu, end);
}

/// [`arm`] with `end` being that of the budget.
#[inline(always)]
fn arm_until(cpu: &'static Cpu, end: u64) {
    let want = end.min(cpu.timeouts.first()).min(cpu.retry.get());
    if want < cpu.armed.get() {
        timer::arm(cpu, want);
    }
}

/// Has a vCPU of this CPU recalled at a deadline; 0: never. What a handler on another CPU says has no effect: each CPU's timeouts
/// are its own.
#[inline(never)]
pub fn set_deadline(cpu: &'static Cpu, ec: &'static Ec, deadline: u64) {
    if ec.cpu.get() != cpu.index() {
        return;
    }
    cpu.timeouts.remove(ec);
    pending::withdraw(ec.frame(), pending::DEADLINE);
    if deadline != 0 {
        cpu.timeouts.insert(ec, deadline);
        // The end of the budget is armed for already.
        arm_until(cpu, u64::MAX);
    }
}

/// The deadline of a vCPU of this CPU has passed. That calls for no decision: whoever continues a vCPU looks at what is pending for it.
#[inline(always)]
pub fn deadline_passed(ec: &'static Ec) {
    pending::add(ec.frame(), pending::DEADLINE);
}

/// Removes a dead scheduling context from whatever list of this CPU it is on.
pub fn drop_sc(cpu: &'static Cpu, sc: &'static Sc) {
    if cpu.sc.is(sc) {
        cpu.sc.set(None);
        cpu.resched.set(1);
        sc.put(Place::Nowhere);
    } else if sc.cpu.get() == cpu.index() {
        if sc.is_at(Place::Ready) {
            cpu.ready.remove(sc);
        } else if sc.is_at(Place::Parked) {
            sc.parked_at.get().into_iter().for_each(|ec| unlink(&ec.parked, sc));
        } else if sc.is_at(Place::Aside) {
            unlink(&cpu.aside, sc);
        }
    }
}

#[cfg(test)]
mod tests;
