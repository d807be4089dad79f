//! CPUs talking to each other: handing over scheduling contexts and wake-ups, and operations that all CPUs must perform.
//!
//! An operation is performed by all CPUs in parallel ([`round`]), but for those that [sleep](Sleep), and has completed when
//! [`everywhere`] returns. As the kernel is not preemptible, that also means that each CPU has left whatever kernel code it was in,
//! or waits in [`everywhere`] itself: a grace period.

mod arrivals;
mod atomic;
mod round;
mod sleep;

pub use arrivals::Arrivals;
pub use atomic::Atomic;
pub use round::{Missing, Requests};
pub use sleep::Sleep;

use crate::arch::{apic, switch, virt};
use crate::cpu::{self, Cpu};
use crate::ec::{Ec, State};
use crate::event::pending;
use crate::mem::object::{AnyObject, Object};
use crate::mem::{Link, Phys};
use crate::sc::{Place, Sc};
use crate::{ipc, sched, sm};
use core::hint::spin_loop;
use core::iter::once;

/// What all CPUs are to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Operation {
    /// Nothing but pass a quiescent state.
    Grace = 0,
    /// Forget translations of the page table whose [root](Cpu::flushed) the asking CPU names.
    Flush = 1,
    /// Leave a guest space whose translations have changed: every vCPU exits and enters anew.
    ExitGuests = 2,
    /// Reload the port bitmap.
    Ports = 3,
    /// Let go of the objects that the asking CPU has [doomed](Cpu::doomed).
    Drop = 4,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Grace, Self::Flush, Self::ExitGuests, Self::Ports, Self::Drop];

    /// The operation with this number; there are no others.
    fn of(number: u64) -> Self {
        Self::ALL.get(number as usize).copied().unwrap_or(Self::Grace)
    }

    /// Whether `cpu` has to perform it for `asker` although it [sleeps](Sleep): what waits or runs on a CPU is on lists of its own, which
    /// only it may change.
    fn wakes(self, cpu: &Cpu, asker: &Cpu) -> bool {
        let is_there = |object| match object {
            AnyObject::Ec(ec) => once(ec).chain(sched::ends(ec)).any(|ec| ec.cpu.get() == cpu.index()),
            AnyObject::Sc(sc) => sc.cpu.get() == cpu.index(),
            _ => false,
        };
        matches!(self, Self::Drop) && asker.doomed().any(is_there)
    }

    /// Does it on `cpu` for `asker`.
    fn perform(self, cpu: &'static Cpu, asker: &'static Cpu) {
        match self {
            Self::Grace | Self::ExitGuests => {}
            Self::Ports => switch::ports(cpu),
            Self::Flush => switch::flush(cpu, Phys(asker.flushed.get())),
            Self::Drop => {
                drain(cpu);
                asker.doomed().for_each(|object| let_go(cpu, object));
                if let Some(root) = utcb_root(asker.doomed()) {
                    switch::flush(cpu, root);
                }
            }
        }
    }
}

/// Root of the page table from which the UTCBs of doomed ECs may have been unmapped: all are of one domain. vCPUs have no UTCB.
fn utcb_root(mut doomed: impl Iterator<Item = AnyObject>) -> Option<Phys> {
    doomed.find_map(|object| match object {
        AnyObject::Ec(ec) if !ec.is_vcpu() => Some(Phys(ec.root.get())),
        _ => None,
    })
}

/// Removes from this CPU whatever refers to a dead object without a check for its life.
fn let_go(cpu: &'static Cpu, object: AnyObject) {
    match object {
        AnyObject::Sc(sc) => sched::drop_sc(cpu, sc),
        AnyObject::Ec(ec) => drop_ec(cpu, ec),
        AnyObject::MemSpace(space) => switch::leave(cpu, space.root().phys()),
        AnyObject::PioSpace(_) => switch::ports(cpu),
        _ => {}
    }
}

fn drop_ec(cpu: &'static Cpu, ec: &'static Ec) {
    cpu.forget(ec);
    if ec.cpu.get() == cpu.index() {
        virt::release(cpu, ec);
        sm::cancel(cpu, ec);
        ec.become_(State::Dead);
        ipc::abort_caller(ec);
        sched::release_parked(cpu, ec);
        cpu.resched.set(1);
    }
    // Those of its callers may have followed it further. Those that wait there for other reasons will again.
    sched::ends(ec).filter(|end| end.cpu.get() == cpu.index()).for_each(|end| sched::release_parked(cpu, end));
}

/// Performs an operation on all CPUs, this one included, and waits until all have. Meanwhile this one performs what others ask for,
/// so the caller must hold no lock, and may only use objects afterwards that nobody else can destroy.
pub fn everywhere(cpu: &'static Cpu, operation: Operation) {
    let others = || cpu::all().filter(|other| other.index() != cpu.index());
    if cpu::count() > 1 {
        cpu.operation.set(operation as u64);
        cpu.missing.begin(cpu::count() as u64 - 1);
        for other in others() {
            if other.sleep.lasts() && !operation.wakes(other, cpu) {
                cpu.missing.performed();
            } else if other.requests.add(cpu.index()) {
                tell(other);
            }
        }
        while !cpu.missing.none() {
            serve(cpu);
            spin_loop();
        }
    }
    operation.perform(cpu, cpu);
}

/// Has all CPUs forget translations of the page table with this root.
pub fn flush(cpu: &'static Cpu, root: Phys) {
    cpu.flushed.set(root.0);
    everywhere(cpu, Operation::Flush);
}

/// Performs the operations that other CPUs ask for.
fn serve(cpu: &'static Cpu) {
    cpu.requests.take(|asker| {
        if let Some(asker) = cpu::get(asker) {
            Operation::of(asker.operation.get()).perform(cpu, asker);
            asker.missing.performed();
        }
    });
}

/// This CPU was woken for nothing, so it lets go of everything and [sleeps](Sleep) until an interrupt. Not before: an EC that waits for a moment
/// finds its CPU as it left it.
#[cold]
pub fn sleep(cpu: &'static Cpu) {
    if let Some(ec) = cpu.current() {
        switch::put_down(cpu, ec);
    }
    switch::leave(cpu, Phys(cpu.root.get()));
    switch::ports(cpu);
    cpu.sleep.begin();
}

/// Tells another CPU that something waits there: it gets an [`interrupt`].
fn tell(there: &Cpu) {
    apic::send_ipi(there.apic_id.get(), apic::vector::REMOTE);
}

/// Interrupt from another CPU: something waits here.
pub fn interrupt(cpu: &'static Cpu) {
    serve(cpu);
    drain(cpu);
}

/// Takes in what other CPUs sent, in the order in which it was sent.
fn drain(cpu: &'static Cpu) {
    let mut next = in_order(cpu.inbox.take(), |sc: &Sc| &sc.next);
    while let Some(sc) = next {
        next = sc.next.get();
        sc.put(Place::Nowhere);
        sched::ready(cpu, sc);
    }
    let mut next = in_order(cpu.wakes.take(), |ec: &Ec| &ec.queue_next);
    while let Some(ec) = next {
        next = ec.queue_next.get();
        sched::wake(cpu, ec);
    }
}

/// Turns a list round. What was its end.
fn in_order<T: Object>(last: u64, link: impl Fn(&T) -> &Link<T>) -> Option<&'static T> {
    let (mut left, mut list) = (Link::from_raw(last), None);
    while let Some(object) = left {
        left = link(object).get();
        link(object).set(list);
        list = Some(object);
    }
    list
}

/// Hands a scheduling context to its CPU.
pub fn send_sc(sc: &'static Sc) {
    let Some(there) = cpu::get(sc.cpu.get()) else {
        return;
    };
    sc.put(Place::Inbox);
    there.inbox.push(sc.addr(), |next| sc.next.set(Link::from_raw(next)));
    tell(there);
}

/// Tells the CPU of an EC that its wait is over.
pub fn send_wake(ec: &'static Ec) {
    let Some(there) = cpu::get(ec.cpu.get()) else {
        return;
    };
    there.wakes.push(ec.addr(), |next| ec.queue_next.set(Link::from_raw(next)));
    tell(there);
}

/// Makes an EC raise its recall event before it continues.
pub fn recall(cpu: &'static Cpu, ec: &'static Ec) {
    if pending::add(ec.frame(), pending::RECALL) & pending::RECALL != 0 {
        // Its CPU has been told, or is about to be.
        return;
    }
    if ec.cpu.get() == cpu.index() {
        // It may be the one that runs, or the next one to: the scheduler looks.
        cpu.resched.set(1);
    } else if let Some(there) = cpu::get(ec.cpu.get()) {
        tell(there);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Kind;
    use crate::{pd::Pd, testing};

    fn ec(pd: &'static Pd, state: State, kind: Kind) -> &'static Ec {
        let ec: &'static Ec = testing::object(pd);
        ec.init(pd.alloc(0).unwrap(), None, 0, state, kind);
        ec
    }

    #[test]
    fn operations_have_their_numbers() {
        Operation::ALL.into_iter().for_each(|operation| assert_eq!(Operation::of(operation as u64), operation));
    }

    #[test]
    fn utcbs_are_flushed_whatever_dies_beside_them() {
        const ROOT: Phys = Phys(0x1000);
        let (pd, cpu) = (testing::pd(8), testing::cpu());
        let (vcpu, thread) = (ec(pd, State::Runnable, Kind::Guest), ec(pd, State::Runnable, Kind::Sysret));
        thread.root.set(ROOT.0);
        cpu.doom(vcpu);
        assert_eq!(utcb_root(cpu.doomed()), None);
        cpu.doom(thread);
        cpu.doom(ec(pd, State::Runnable, Kind::Guest));
        assert_eq!(utcb_root(cpu.doomed()), Some(ROOT));
    }

    #[test]
    fn a_dying_handler_aborts_who_waits_for_it_and_nobody_else() {
        let (pd, cpu) = (testing::pd(16), testing::cpu());
        let [handler, other] = [(); 2].map(|()| ec(pd, State::Runnable, Kind::Sysret));
        // Event: whoever raised it stops.
        let cases = [
            (handler, State::Waiting, Kind::Sysret, State::Runnable),
            (handler, State::Waiting, Kind::Iret, State::Dead),
            (handler, State::Blocked, Kind::Sysret, State::Blocked),
            (other, State::Waiting, Kind::Sysret, State::Waiting),
        ];
        for (callee, state, kind, then) in cases {
            let caller = ec(pd, state, kind);
            caller.callee.set(Some(callee));
            handler.caller.set(Some(caller));
            drop_ec(cpu, handler);
            assert_eq!((caller.state(), handler.state()), (then, State::Dead));
        }
    }
}
