//! Semaphore: a counter with a queue of waiting ECs; possibly member of another one, and itself the receiver of others.
//!
//! Any CPU may up and down; the lock protects counter, queue and list of ready members. Lock order: member, then receiver.

use crate::arch::tsc;
use crate::cpu::Cpu;
use crate::ec::{Ec, State};
use crate::frame::Reg;
use crate::interrupt;
use crate::ipc;
use crate::mem::lock::Lock;
use crate::mem::object::{Header, Object, Word};
use crate::mem::{Link, Weak};
use crate::sched::{self, Resume};
use crate::smp;
use abi::hypercall::SmDown;
use abi::status::Status;

/// A semaphore. Part of its layout is known to `arch::layout`.
#[derive(Default)]
#[repr(C, align(256))]
pub struct Sm {
    header: Header,
    pub(crate) lock: Lock,
    pub(crate) count: Word,
    /// Waiting ECs, longest first.
    pub(crate) first: Link<Ec>,
    last: Link<Ec>,
    /// Whom it is a member of, and what that one reports.
    pub(crate) receiver: Weak<Sm>,
    id: Word,
    /// Ready members, longest first; and this one's place in its receiver's list.
    pub(crate) ready_first: Link<Sm>,
    ready_last: Link<Sm>,
    ready_next: Link<Sm>,
    ready_prev: Link<Sm>,
    pub(crate) queued: Word,
    /// CPU and vector of the interrupt bound to it: `cpu << 8 | vector`, 0 for none.
    pub interrupt: Word,
}

/// What a down took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Taken {
    /// Id of the member, 0 for the semaphore itself.
    id: u64,
    count: u64,
}

impl Sm {
    /// Sets up a fresh semaphore.
    pub fn init(&self, count: u64, receiver: Option<&'static Self>, id: u64) {
        self.count.set(count);
        self.receiver.set(receiver);
        self.id.set(id);
    }

    /// Adds one, or lets one waiting EC go on.
    ///
    /// # Errors
    /// `Overflow`; nothing has changed then. `BadCapability` if it was destroyed in the meantime.
    #[inline(always)]
    pub fn up(&'static self, cpu: &'static Cpu) -> Result<(), Status> {
        let woken = {
            let _guard = self.lock.lock();
            if self.id() == 0 {
                // `dissolve` may be through: nothing may get onto a list any more.
                return Err(Status::BadCapability);
            }
            match self.dequeue_first() {
                Some(ec) => Some((ec, Taken { id: 0, count: 1 })),
                None => {
                    let count = self.count.get().checked_add(1).ok_or(Status::Overflow)?;
                    self.count.set(count);
                    match self.receiver.get() {
                        Some(receiver) if self.queued.get() == 0 => receiver.member_ready(self),
                        _ => None,
                    }
                }
            }
        };
        if let Some((ec, taken)) = woken {
            finish(ec, taken);
            release(cpu, ec);
        }
        Ok(())
    }

    /// A member (whose lock is held) became ready: hands it to a waiting EC or puts it on the list.
    fn member_ready(&'static self, member: &'static Self) -> Option<(&'static Ec, Taken)> {
        let _guard = self.lock.lock();
        if let Some(ec) = self.dequeue_first() {
            return Some((ec, member.take_all()));
        }
        member.queued.set(1);
        member.ready_next.set(None);
        member.ready_prev.set(self.ready_last.get());
        match self.ready_last.get() {
            Some(last) => last.ready_next.set(Some(member)),
            None => self.ready_first.set(Some(member)),
        }
        self.ready_last.set(Some(member));
        None
    }

    fn take_all(&self) -> Taken {
        let count = self.count.get();
        self.count.set(0);
        Taken { id: self.id.get(), count }
    }

    /// Takes a ready member off the list; the receiver's lock is held.
    fn unlink_member(&self, member: &'static Self) {
        let (prev, next) = (member.ready_prev.get(), member.ready_next.get());
        match prev {
            Some(prev) => prev.ready_next.set(next),
            None => self.ready_first.set(next),
        }
        match next {
            Some(next) => next.ready_prev.set(prev),
            None => self.ready_last.set(prev),
        }
        member.queued.set(0);
    }

    /// Takes the oldest ready member. Its lock comes before ours, so the list is looked at again once both are held.
    #[inline(never)]
    fn take_member(&'static self) -> Option<Taken> {
        loop {
            let member = {
                let _guard = self.lock.lock();
                self.ready_first.get()?
            };
            let _member = member.lock.lock();
            let _guard = self.lock.lock();
            if member.queued.get() != 0 && self.ready_first.is(member) {
                self.unlink_member(member);
                return Some(member.take_all());
            }
        }
    }

    /// Takes one (with `zero` all), waits, or fails, for the current EC.
    #[inline(always)]
    pub fn down(&'static self, cpu: &'static Cpu, ec: &'static Ec, zero: bool, deadline: u64) -> Resume {
        interrupt::acknowledge(self);
        loop {
            if self.ready_first.raw() != 0
                && let Some(taken) = self.take_member()
            {
                finish(ec, taken);
                return sched::continue_or_preempt(cpu, ec);
            }
            let guard = self.lock.lock();
            if self.id() == 0 {
                // Destroyed in the meantime. `dissolve` may be through, so nobody would wake us.
                return ipc::fail(ec, Status::Aborted);
            }
            if self.count.get() > 0 {
                finish(ec, self.take(zero));
                return Resume::of(ec);
            }
            if self.ready_first.raw() != 0 {
                // Became ready between the look and the lock.
                continue;
            }
            if deadline != SmDown::FOREVER && deadline <= tsc::read() {
                return ipc::fail(ec, Status::Timeout);
            }
            self.enqueue(ec);
            ec.become_(State::Blocked);
            drop(guard);
            if deadline != SmDown::FOREVER {
                cpu.timeouts.insert(ec, deadline);
            }
            return sched::block(cpu, ec);
        }
    }

    /// Takes one or all of a counter that is not zero. The lock is held.
    #[inline(never)]
    fn take(&'static self, all: bool) -> Taken {
        let count = self.count.get();
        let taken = if all { count } else { 1 };
        self.count.set(count - taken);
        if self.queued.get() != 0
            && count == taken
            && let Some(receiver) = self.receiver.get()
        {
            // The member is ready no more. Its receiver's lock is next in order.
            let _receiver = receiver.lock.lock();
            if self.queued.get() != 0 {
                receiver.unlink_member(self);
            }
        }
        Taken { id: 0, count: taken }
    }

    /// Lets an EC wait; the lock is held.
    #[inline(always)]
    pub(crate) fn enqueue(&'static self, ec: &'static Ec) {
        ec.sm.set(Some(self));
        ec.queue_next.set(None);
        ec.queue_prev.set(self.last.get());
        match self.last.get() {
            Some(last) => last.queue_next.set(Some(ec)),
            None => self.first.set(Some(ec)),
        }
        self.last.set(Some(ec));
    }

    fn unlink(&self, ec: &'static Ec) {
        let (prev, next) = (ec.queue_prev.get(), ec.queue_next.get());
        match prev {
            Some(prev) => prev.queue_next.set(next),
            None => self.first.set(next),
        }
        match next {
            Some(next) => next.queue_prev.set(prev),
            None => self.last.set(prev),
        }
        ec.sm.set(None);
    }

    fn dequeue_first(&self) -> Option<&'static Ec> {
        let ec = self.first.get()?;
        self.unlink(ec);
        Some(ec)
    }

    /// Takes `ec` out of the queue. False if it is no longer there.
    fn remove(&'static self, ec: &'static Ec) -> bool {
        let _guard = self.lock.lock();
        let here = ec.sm.is(self);
        if here {
            self.unlink(ec);
        }
        here
    }

    /// The semaphore is dead: lets everyone go on with `Aborted`, and leaves its receiver's list.
    pub fn dissolve(&'static self, cpu: &'static Cpu) {
        interrupt::release(self);
        loop {
            let ec = {
                let _guard = self.lock.lock();
                self.dequeue_first()
            };
            let Some(ec) = ec else { break };
            ec.frame().set(Reg::Rax, Status::Aborted as u64);
            release(cpu, ec);
        }
        let _guard = self.lock.lock();
        if self.queued.get() != 0
            && let Some(receiver) = self.receiver.get()
        {
            let _receiver = receiver.lock.lock();
            // The receiver's own destruction empties its list under its lock only.
            if self.queued.get() != 0 {
                receiver.unlink_member(self);
            }
        }
        while let Some(member) = self.ready_first.get() {
            self.unlink_member(member);
        }
    }
}

/// Tells an EC what its down took.
#[inline(always)]
fn finish(ec: &'static Ec, taken: Taken) {
    let frame = ec.frame();
    frame.set(Reg::Rax, Status::Success as u64);
    frame.set(Reg::Rdx, taken.id);
    frame.set(Reg::R8, taken.count);
}

/// Lets an EC that was taken out of a queue go on, on its own CPU.
#[inline(always)]
fn release(cpu: &'static Cpu, ec: &'static Ec) {
    if ec.cpu.get() == cpu.index() {
        sched::wake(cpu, ec);
    } else {
        smp::send_wake(ec);
    }
}

/// Ends the waits of this CPU whose time has come by `now`, and recalls the vCPUs whose deadline has.
#[inline(always)]
pub fn expire(cpu: &'static Cpu, now: u64) {
    while let Some(ec) = cpu.timeouts.pop(now) {
        if ec.is_vcpu() {
            sched::deadline_passed(ec);
            continue;
        }
        // An up on another CPU may have been faster; then the wake-up is on its way.
        if ec.sm.get().is_some_and(|sm| sm.remove(ec)) {
            ec.frame().set(Reg::Rax, Status::Timeout as u64);
            sched::wake(cpu, ec);
        }
    }
}

/// Takes a dying EC out of the queue in which it waits.
pub fn cancel(cpu: &'static Cpu, ec: &'static Ec) {
    cpu.timeouts.remove(ec);
    if let Some(sm) = ec.sm.get() {
        sm.remove(ec);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn members_are_reported_once_with_their_whole_count() {
        let (pd, cpu) = (testing::pd(64), testing::cpu());
        let receiver: &'static Sm = testing::object(pd);
        let members: Vec<&'static Sm> = (1..=3)
            .map(|id| {
                let sm: &'static Sm = testing::object(pd);
                sm.init(0, Some(receiver), id);
                sm
            })
            .collect();
        for i in [1, 0, 1, 1] {
            members[i].up(cpu).unwrap();
        }
        assert_eq!(receiver.take_member(), Some(Taken { id: 2, count: 3 }));
        members[1].up(cpu).unwrap();
        members[2].up(cpu).unwrap();
        members[2].dissolve(cpu);
        assert_eq!(receiver.take_member(), Some(Taken { id: 1, count: 1 }));
        assert_eq!(receiver.take_member(), Some(Taken { id: 2, count: 1 }));
        assert_eq!(receiver.take_member(), None);
    }

    #[test]
    fn a_full_counter_refuses() {
        let (pd, cpu) = (testing::pd(64), testing::cpu());
        let sm: &'static Sm = testing::object(pd);
        sm.init(u64::MAX, None, 0);
        assert_eq!(sm.up(cpu), Err(Status::Overflow));
    }
}
