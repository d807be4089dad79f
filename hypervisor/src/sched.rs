//! Scheduling: fixed priorities, round robin among equals, budgets. Each CPU schedules its own; nothing here is shared.

use crate::arch::{switch, timer, tsc, virt};
use crate::cpu::{self, Cpu};
use crate::ec::{Ec, State};
use crate::event::pending;
use crate::frame::{Frame, Kind, Reg};
use crate::ipc;
use crate::mem::Link;
use crate::mem::object::{Object, Word};
use crate::sc::{Place, Sc};
use crate::smp;
use abi::hypercall::CreateSc;
use abi::status::Status;

const PRIORITIES: usize = CreateSc::PRIORITIES as usize;
/// Longest call chain that is followed. Longer ones, and cycles, try again a tick later.
const CHAIN: usize = 64;
/// Wait of a scheduling context whose chain leads nowhere, in microseconds.
const RETRY_US: u64 = 1000;

/// Ready scheduling contexts: a list per priority and a bitmap of those that are not empty.
#[repr(C)]
pub struct Queue {
    bitmap: [Word; PRIORITIES / 64],
    head: [Link<Sc>; PRIORITIES],
    tail: [Link<Sc>; PRIORITIES],
}

impl Queue {
    /// Adds `sc` behind (or, with `front`, before) those of its priority.
    #[inline(always)]
    pub fn insert(&self, sc: &'static Sc, front: bool) {
        let p = sc.priority.get() as usize % PRIORITIES;
        let (head, tail) = (self.head[p].get(), self.tail[p].get());
        if front {
            sc.prev.set(None);
            sc.next.set(head);
            match head {
                Some(head) => head.prev.set(Some(sc)),
                None => self.tail[p].set(Some(sc)),
            }
            self.head[p].set(Some(sc));
        } else {
            sc.next.set(None);
            sc.prev.set(tail);
            match tail {
                Some(tail) => tail.next.set(Some(sc)),
                None => self.head[p].set(Some(sc)),
            }
            self.tail[p].set(Some(sc));
        }
        let word = &self.bitmap[p / 64];
        word.set(word.get() | 1 << (p % 64));
        sc.put(Place::Ready);
    }

    /// Removes `sc`, which is in the queue.
    pub fn remove(&self, sc: &'static Sc) {
        let p = sc.priority.get() as usize % PRIORITIES;
        let (prev, next) = (sc.prev.get(), sc.next.get());
        match prev {
            Some(prev) => prev.next.set(next),
            None => self.head[p].set(next),
        }
        match next {
            Some(next) => next.prev.set(prev),
            None => self.tail[p].set(prev),
        }
        if self.head[p].get().is_none() {
            let word = &self.bitmap[p / 64];
            word.set(word.get() & !(1 << (p % 64)));
        }
        sc.put(Place::Nowhere);
    }

    /// Highest priority in the queue.
    #[inline(always)]
    pub fn top(&self) -> Option<u64> {
        for (i, word) in self.bitmap.iter().enumerate().rev() {
            let bits = word.get();
            if bits != 0 {
                return Some(i as u64 * 64 + u64::from(bits.ilog2()));
            }
        }
        None
    }

    /// Removes and returns the first of the highest priority.
    #[inline(always)]
    pub fn pop(&self) -> Option<&'static Sc> {
        let p = self.top()? as usize % PRIORITIES;
        let sc = self.head[p].get()?;
        let next = sc.next.get();
        self.head[p].set(next);
        match next {
            Some(next) => next.prev.set(None),
            None => {
                self.tail[p].set(None);
                let word = &self.bitmap[p / 64];
                word.set(word.get() & !(1 << (p % 64)));
            }
        }
        Some(sc)
    }
}

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
        smp::send_sc(here, sc);
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

/// The timer has fired, which it is `now`: the current scheduling context may have used up its budget, or others may have to try again.
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

/// Takes `sc` off the list at which it is parked.
pub fn unpark(sc: &'static Sc) {
    if let Some(ec) = sc.parked_at.get() {
        unlink(&ec.parked, sc);
    }
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

/// Starts over with the current scheduling context, after its call chain changed.
pub fn reactivate(cpu: &'static Cpu) -> Resume {
    match cpu.sc.get() {
        Some(sc) => match activate(cpu, sc) {
            Some(resume) => resume,
            None => {
                set_aside(cpu);
                schedule(cpu)
            }
        },
        None => schedule(cpu),
    }
}

/// The chain of the current scheduling context, if that is still here, leads nowhere for now: others have their turn, of lower
/// priority too, until it tries again.
fn set_aside(cpu: &'static Cpu) {
    let Some(sc) = cpu.sc.get() else { return };
    leave(cpu, sc, Place::Aside);
    sc.next.set(cpu.aside.get());
    cpu.aside.set(Some(sc));
    if cpu.retry.get() == u64::MAX {
        cpu.retry.set(tsc::read() + tsc::from_us(RETRY_US));
    }
}

/// Follows the call chain of the current `sc` from its beginning to the EC that can run, sends what can be sent on the
/// way, and continues it. `None`: `sc` left this CPU's hands, or (still current) its chain leads nowhere.
fn activate(cpu: &'static Cpu, sc: &'static Sc) -> Option<Resume> {
    let Some(home) = sc.ec.get().filter(|_| sc.id() != 0) else {
        return leave(cpu, sc, Place::Nowhere);
    };
    let mut ec = home;
    let mut helping = false;
    for _ in 0..CHAIN {
        match ec.state() {
            s if s == State::Runnable as u64 => {
                if ec.cpu.get() != cpu.index() {
                    return migrate(cpu, sc, ec.cpu.get());
                }
                cpu.helping.set(u64::from(helping));
                if ec.frame().get(Reg::Recall) != 0 && crate::event::recall(cpu, ec) {
                    continue;
                }
                return Some(run(cpu, ec));
            }
            s if s == State::Calling as u64 || s == State::Raising as u64 => {
                let Some(callee) = ec.wanted.get().and_then(|pt| pt.ec.get()) else {
                    if ec.cpu.get() != cpu.index() {
                        return migrate(cpu, sc, ec.cpu.get());
                    }
                    ipc::abort(ec);
                    continue;
                };
                if callee.cpu.get() != cpu.index() {
                    // The handler's CPU is to access the state.
                    virt::release(cpu, ec);
                    return migrate(cpu, sc, callee.cpu.get());
                }
                if callee.is(State::Idle) {
                    ipc::send(ec, callee);
                } else {
                    helping = true;
                }
                ec = callee;
            }
            s if s == State::Waiting as u64 => match ec.callee.get() {
                Some(callee) => ec = callee,
                None if ec.cpu.get() != cpu.index() => return migrate(cpu, sc, ec.cpu.get()),
                None => ipc::abort(ec),
            },
            s if s == State::Blocked as u64 => {
                if ec.cpu.get() != cpu.index() {
                    return migrate(cpu, sc, ec.cpu.get());
                }
                leave(cpu, sc, Place::Nowhere);
                park(sc, ec);
                return None;
            }
            s if s == State::Idle as u64 => {
                ec = home;
                helping = false;
            }
            _ => return leave(cpu, sc, Place::Nowhere),
        }
    }
    None
}

fn leave(cpu: &'static Cpu, sc: &'static Sc, place: Place) -> Option<Resume> {
    charge(cpu);
    cpu.sc.set(None);
    sc.put(place);
    None
}

fn migrate(cpu: &'static Cpu, sc: &'static Sc, to: u64) -> Option<Resume> {
    leave(cpu, sc, Place::Nowhere);
    sc.cpu.set(to);
    smp::send_sc(cpu, sc);
    None
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
    ec.frame().change(Reg::Recall, pending::DEADLINE, pending::NONE);
    if deadline != 0 {
        cpu.timeouts.insert(ec, deadline);
        // The end of the budget is armed for already.
        arm_until(cpu, u64::MAX);
    }
}

/// The deadline of a vCPU of this CPU has passed. That calls for no decision: whoever continues a vCPU looks at what is pending for it.
#[inline(always)]
pub fn deadline_passed(ec: &'static Ec) {
    ec.frame().change(Reg::Recall, pending::NONE, pending::DEADLINE);
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
            unpark(sc);
        } else if sc.is_at(Place::Aside) {
            unlink(&cpu.aside, sc);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event, testing};
    use abi::event::guest;

    fn sc(priority: u64) -> &'static Sc {
        let sc: &'static Sc = testing::pd(1).new_object().unwrap();
        sc.priority.set(priority);
        sc
    }

    #[test]
    fn whoever_blocked_with_an_empty_budget_has_one_when_it_runs_again() {
        let (cpu, sc) = (testing::cpu(), sc(5));
        sc.budget.set(7);
        for (left, then) in [(0, 7), (3, 3)] {
            sc.left.set(left);
            cpu.ready.insert(sc, false);
            assert!(take(cpu, 0).is_some_and(|taken| taken.addr() == sc.addr()));
            assert_eq!((renew(sc), sc.left.get()), (then, then));
        }
    }

    /// A CPU on which a vCPU of this budget has run until now, which its deadline is. Its timer is not armed: the host has none.
    fn at_deadline(budget: u64) -> (&'static Cpu, &'static Ec) {
        let (pd, cpu, sc) = (testing::pd(8), testing::cpu(), sc(5));
        let vcpu: &'static Ec = pd.new_object().unwrap();
        vcpu.init(pd.alloc_filled(0, 0).unwrap(), None, 0, State::Runnable, Kind::Guest);
        sc.left.set(budget);
        cpu.sc.set(Some(sc));
        cpu.armed.set(0);
        cpu.since.set(NOW - RUN);
        set_deadline(cpu, vcpu, NOW);
        (cpu, vcpu)
    }
    const RUN: u64 = 100;
    const NOW: u64 = 1000;

    /// What the interrupt of the timer does.
    fn fire(cpu: &'static Cpu) {
        crate::sm::expire(cpu, NOW);
        tick(cpu, NOW);
    }

    #[test]
    fn a_deadline_recalls_the_vcpu_that_keeps_the_cpu_at_once_and_once() {
        let (cpu, vcpu) = at_deadline(RUN + 1);
        assert!(event::take_recall(cpu, vcpu.frame()).is_none(), "before it has passed");
        fire(cpu);
        assert!(event::take_recall(cpu, vcpu.frame()).is_some_and(|event| event.number == guest::RECALL));
        fire(cpu);
        assert!(event::take_recall(cpu, vcpu.frame()).is_none());
    }

    #[test]
    fn a_recall_waits_for_whoever_the_same_expiry_lets_run_first() {
        for (priority, waits) in [(4, false), (5, false), (6, true)] {
            let (cpu, vcpu) = at_deadline(RUN + 1);
            let (pd, woken) = (testing::pd(8), sc(priority));
            let (thread, sm): (&'static Ec, &'static crate::sm::Sm) =
                (pd.new_object().unwrap(), pd.new_object().unwrap());
            thread.init(pd.alloc_filled(0, 0).unwrap(), None, 0, State::Blocked, Kind::Sysret);
            pd.adopt(woken);
            park(woken, thread);
            sm.enqueue(thread);
            cpu.timeouts.insert(thread, NOW);
            fire(cpu);
            assert_eq!(cpu.ready.top(), Some(priority));
            assert_eq!(event::take_recall(cpu, vcpu.frame()).is_none(), waits, "{priority}");
            assert_eq!(vcpu.frame().get(Reg::Recall) == pending::DEADLINE, waits, "{priority}");
        }
    }

    #[test]
    fn a_recall_waits_when_the_budget_ends_with_it() {
        let (cpu, vcpu) = at_deadline(RUN);
        fire(cpu);
        assert!(event::take_recall(cpu, vcpu.frame()).is_none());
        assert_eq!(vcpu.frame().get(Reg::Recall), pending::DEADLINE);
    }

    #[test]
    fn a_deadline_that_has_passed_is_withdrawn_by_the_next() {
        let (cpu, vcpu) = at_deadline(RUN + 1);
        fire(cpu);
        set_deadline(cpu, vcpu, NOW + 1);
        assert!(event::take_recall(cpu, vcpu.frame()).is_none());
        fire(cpu);
        assert!(event::take_recall(cpu, vcpu.frame()).is_none());
    }

    #[test]
    fn highest_first_and_in_order_among_equals() {
        let queue = &testing::cpu().ready;
        let all = [3, 127, 3, 64, 3, 0].map(sc);
        for sc in all {
            queue.insert(sc, false);
        }
        queue.insert(sc(3), true);
        queue.remove(all[4]);
        assert_eq!(queue.top(), Some(127));
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|sc| sc.priority.get()).collect();
        assert_eq!(order, [127, 64, 3, 3, 3, 0]);
        queue.insert(all[0], false);
        queue.insert(all[2], true);
        assert!(queue.pop().is_some_and(|sc| sc.addr() == all[2].addr()));
    }
}
