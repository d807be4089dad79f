//! CPUs talking to each other: handing over scheduling contexts and wake-ups, and operations that all CPUs must perform.
//!
//! An operation is broadcast, performed by all others in parallel, and has completed when [`everywhere`] returns. As the
//! kernel is not preemptible, that also means that each CPU has left whatever kernel code it was in: a grace period.

use crate::arch::{apic, switch, virt};
use crate::cpu::{self, Cpu};
use crate::ec::{Ec, State};
use crate::event::pending;
use crate::frame::Reg;
use crate::mem::lock::Lock;
use crate::mem::object::Object;
use crate::mem::{Link, Phys};
use crate::sc::{Place, Sc};
use crate::{sched, sm};
use core::hint::spin_loop;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// What all CPUs are to do.
#[derive(Clone, Copy)]
pub enum Operation {
    /// Nothing but pass a quiescent state.
    Grace,
    /// Forget translations of the page table with this root.
    Flush(Phys),
    /// Leave the page table with this root; it is about to be freed.
    Leave(Phys),
    /// Leave a guest space whose translations have changed: every vCPU exits and enters anew.
    ExitGuests,
    /// Reload the port bitmap.
    Ports,
    /// Let go of a dead scheduling context.
    DropSc(&'static Sc),
    /// Let go of a dead EC; its CPU also ends its wait.
    DropEc(&'static Ec),
}

/// The operation being broadcast; protected by [`BROADCAST`] on the writing side.
static KIND: AtomicU64 = AtomicU64::new(0);
static ARG: AtomicU64 = AtomicU64::new(0);
static ARG_SC: Link<Sc> = Link::new();
static ARG_EC: Link<Ec> = Link::new();
static BROADCAST: Lock = Lock::new();

impl Operation {
    fn publish(self) {
        let (kind, arg) = match self {
            Self::Grace => (0, 0),
            Self::Flush(root) => (1, root.0),
            Self::Leave(root) => (2, root.0),
            Self::ExitGuests => (3, 0),
            Self::Ports => (6, 0),
            Self::DropSc(sc) => {
                ARG_SC.set(Some(sc));
                (4, 0)
            }
            Self::DropEc(ec) => {
                ARG_EC.set(Some(ec));
                (5, 0)
            }
        };
        ARG.store(arg, Relaxed);
        KIND.store(kind, Relaxed);
    }

    fn read() -> Self {
        match KIND.load(Relaxed) {
            1 => Self::Flush(Phys(ARG.load(Relaxed))),
            2 => Self::Leave(Phys(ARG.load(Relaxed))),
            3 => Self::ExitGuests,
            6 => Self::Ports,
            4 => ARG_SC.get().map_or(Self::Grace, Self::DropSc),
            5 => ARG_EC.get().map_or(Self::Grace, Self::DropEc),
            _ => Self::Grace,
        }
    }

    fn perform(self, cpu: &'static Cpu) {
        match self {
            Self::Grace | Self::ExitGuests => {}
            Self::Ports => switch::ports(cpu),
            Self::Flush(root) => switch::flush(cpu, root),
            Self::Leave(root) => switch::leave(cpu, root),
            Self::DropSc(sc) => {
                drain(cpu);
                sched::drop_sc(cpu, sc);
            }
            Self::DropEc(ec) => {
                drain(cpu);
                drop_ec(cpu, ec);
            }
        }
    }
}

fn drop_ec(cpu: &'static Cpu, ec: &'static Ec) {
    cpu.forget(ec);
    if ec.cpu.get() == cpu.index() {
        virt::release(cpu, ec);
        sm::cancel(cpu, ec);
        ec.become_(State::Dead);
        sched::release_parked(cpu, ec);
        cpu.resched.set(1);
    }
}

/// Performs an operation on all CPUs, this one included, and waits until all have.
pub fn everywhere(cpu: &'static Cpu, operation: Operation) {
    if cpu::count() > 1 {
        others(cpu, operation);
    }
    operation.perform(cpu);
}

fn others(cpu: &'static Cpu, operation: Operation) {
    let _guard = loop {
        // Whoever holds the lock waits for us, so keep serving.
        match BROADCAST.try_lock() {
            Some(guard) => break guard,
            None => serve(cpu),
        }
        spin_loop();
    };
    operation.publish();
    for other in cpu::all().filter(|other| other.index() != cpu.index()) {
        // Ordering: Release pairs with the AcqRel in `serve`: who sees the request sees the operation.
        other.operation.atomic().store(1, Release);
        apic::send_ipi(other.apic_id.get(), apic::vector::REMOTE);
    }
    for other in cpu::all().filter(|other| other.index() != cpu.index()) {
        // Ordering: Acquire pairs with the Release at the end of `serve`: what it did is visible here.
        while other.operation.atomic().load(Acquire) != 0 {
            serve(cpu);
            spin_loop();
        }
    }
}

/// Performs the operation that another CPU broadcast, if there is one.
fn serve(cpu: &'static Cpu) {
    if cpu.operation.atomic().load(Acquire) == 1 {
        Operation::read().perform(cpu);
        // Ordering: Release, see `others`.
        cpu.operation.atomic().store(0, Release);
    }
}

/// Interrupt from another CPU: something waits here.
pub fn interrupt(cpu: &'static Cpu) {
    serve(cpu);
    drain(cpu);
}

/// Takes in what other CPUs sent.
fn drain(cpu: &'static Cpu) {
    // Ordering: AcqRel pairs with the Release of the pushes in `send_sc` and `send_wake`.
    let mut next = take::<Sc>(&cpu.inbox);
    while let Some(sc) = next {
        next = sc.next.get();
        sc.put(Place::Nowhere);
        sched::ready(cpu, sc);
    }
    let mut next = take::<Ec>(&cpu.wakes);
    while let Some(ec) = next {
        next = ec.queue_next.get();
        sched::wake(cpu, ec);
    }
}

fn take<T: Object>(stack: &crate::mem::object::Word) -> Option<&'static T> {
    Link::<T>::from_raw(stack.atomic().swap(0, AcqRel))
}

fn push<T: Object>(stack: &crate::mem::object::Word, object: &'static T, link: &Link<T>) {
    let mut head = stack.atomic().load(Relaxed);
    loop {
        link.set(Link::from_raw(head));
        match stack.atomic().compare_exchange_weak(head, object.addr(), Release, Relaxed) {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

/// Hands a scheduling context to its CPU.
pub fn send_sc(_here: &'static Cpu, sc: &'static Sc) {
    let Some(there) = cpu::get(sc.cpu.get()) else {
        return;
    };
    sc.put(Place::Inbox);
    push(&there.inbox, sc, &sc.next);
    apic::send_ipi(there.apic_id.get(), apic::vector::REMOTE);
}

/// Tells the CPU of an EC that its wait is over.
pub fn send_wake(ec: &'static Ec) {
    let Some(there) = cpu::get(ec.cpu.get()) else {
        return;
    };
    push(&there.wakes, ec, &ec.queue_next);
    apic::send_ipi(there.apic_id.get(), apic::vector::REMOTE);
}

/// Makes an EC raise its recall event before it continues.
pub fn recall(cpu: &'static Cpu, ec: &'static Ec) {
    let word = ec.frame();
    if word.get(Reg::Recall) == pending::NONE {
        word.set(Reg::Recall, pending::RECALL);
    }
    if ec.cpu.get() == cpu.index() {
        // It may be the one that runs, or the next one to: the scheduler looks.
        cpu.resched.set(1);
        return;
    }
    if let Some(there) = cpu::get(ec.cpu.get()) {
        apic::send_ipi(there.apic_id.get(), apic::vector::REMOTE);
    }
}
