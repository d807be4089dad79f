//! Calls and replies through portals. The scheduling context of the first caller runs the whole chain.
//!
//! The fast path: the handler is idle, on this CPU. Otherwise the caller's EC records what it wants, and the scheduler
//! follows the chain ([`crate::sched`]): it helps a busy handler, or carries the scheduling context to the handler's CPU.

use crate::arch::percpu;
use crate::cpu::Cpu;
use crate::ec::{Ec, State};
use crate::event;
use crate::frame::{Frame, Kind, Reg};
use crate::mem::object::Object;
use crate::pt::Pt;
use crate::sched::{self, Resume};
use crate::syscall::Outcome;
use abi::cap::{ObjectType, Perms, Sel};
use abi::hypercall::SEL_SHIFT;
use abi::message::{CapItem, Tag};
use abi::status::Status;
use abi::utcb::offset;

/// RFLAGS at portal entry: interrupts on (SDM vol. 1, 3.4.3; bit 1 is always set).
pub const USER_FLAGS: u64 = 0x202;

/// Register words of a message.
pub type Words = [u64; abi::message::REG_WORDS];

/// Hypercall `call`.
#[inline(always)]
pub fn call(cpu: &'static Cpu, ec: &'static Ec, rdi: u64, tag: Tag, words: Words) -> Resume {
    let Some(pt) =
        ec.obj.get().and_then(|obj| obj.slot(Sel(rdi >> SEL_SHIFT))).and_then(|slot| slot.lookup::<Pt>(Perms::PT_CALL))
    else {
        return fail(ec, Status::BadCapability);
    };
    let Some(callee) = pt.ec.get() else {
        return fail(ec, Status::Aborted);
    };
    if callee.cpu.get() != cpu.index() || !callee.is(State::Idle) {
        return call_slow(cpu, ec, pt, tag, words);
    }
    let tag = if tag.is_short() { tag } else { transfer(ec, callee, tag) };
    enter(ec, callee, pt, tag.0, words);
    sched::run(cpu, callee)
}

/// Links caller and handler, and sets the handler up to enter its portal. As it is idle, its frame is of kind `Sysret`.
#[inline(always)]
fn enter(ec: &'static Ec, callee: &'static Ec, pt: &'static Pt, tag: u64, words: Words) {
    callee.caller.set(Some(ec));
    ec.callee.copy(&pt.ec);
    ec.become_(State::Waiting);
    callee.become_(State::Runnable);
    let frame = callee.frame();
    frame.set(Reg::Rip, pt.ip.get());
    frame.set(Reg::Rsp, callee.sp.get());
    frame.set(Reg::Rflags, USER_FLAGS);
    frame.set(Reg::Rdi, pt.id.get());
    set_words(frame, tag, words);
}

/// Message registers of an EC.
#[inline(always)]
fn set_words(frame: Frame, tag: u64, words: Words) {
    frame.set(Reg::Rsi, tag);
    frame.set(Reg::Rdx, words[0]);
    frame.set(Reg::R8, words[1]);
    frame.set(Reg::R9, words[2]);
    frame.set(Reg::R10, words[3]);
}

/// Words that the EC put into its registers, kept in the frame by [`set_words`].
fn words(ec: &'static Ec) -> Words {
    [Reg::Rdx, Reg::R8, Reg::R9, Reg::R10].map(|reg| ec.frame().get(reg))
}

/// The handler is busy or elsewhere: leaves the message in the caller's frame and lets the scheduler send it.
#[cold]
fn call_slow(cpu: &'static Cpu, ec: &'static Ec, pt: &'static Pt, tag: Tag, words: Words) -> Resume {
    set_words(ec.frame(), tag.0, words);
    ec.wanted.set(Some(pt));
    ec.become_(State::Calling);
    sched::reactivate(cpu)
}

/// The handler that `ec`, calling or raising, wants: none if the portal or the handler is gone, or the handler was stopped.
pub fn handler(ec: &'static Ec) -> Option<&'static Ec> {
    ec.wanted.get()?.ec.get().filter(|handler| !handler.is(State::Dead))
}

/// Sends what `ec`, calling or raising, has for the idle handler `callee` of this CPU, unless that is settled otherwise by now.
pub fn send(ec: &'static Ec, state: State, callee: &'static Ec) {
    let look = || ec.wanted.get().filter(|pt| pt.ec.raw() == callee.addr());
    let Some(pt) = ec.claim(state, look) else { return };
    if state == State::Calling {
        let tag = Tag(ec.frame().get(Reg::Rsi));
        let tag = if tag.is_short() { tag } else { transfer(ec, callee, tag) };
        enter(ec, callee, pt, tag.0, words(ec));
    } else {
        let (mtd, words) = event::deliver(ec, callee, pt);
        enter(ec, callee, pt, mtd, words);
    }
}

/// Hypercall `reply`.
#[inline(always)]
pub fn reply(cpu: &'static Cpu, ec: &'static Ec, tag: Tag, words: Words) -> Resume {
    if ec.sp.get() == 0 {
        return fail(ec, Status::BadCapability);
    }
    let caller = ec.caller.get();
    let Some(caller) = caller.filter(|caller| {
        caller.frame().kind() == Kind::Sysret as u64
            && caller.cpu.get() == cpu.index()
            && cpu.helping.get() | cpu.resched.get() | caller.frame().get(Reg::Recall) == 0
    }) else {
        return reply_slow(cpu, ec, caller, tag, words);
    };
    let tag = if tag.is_short() { tag } else { transfer(ec, caller, tag) };
    ec.become_(State::Idle);
    answer(caller, tag, words);
    sched::run(cpu, caller)
}

/// Gives a caller its reply.
#[inline(always)]
fn answer(caller: &'static Ec, tag: Tag, words: Words) {
    let frame = caller.frame();
    frame.set(Reg::Rax, Status::Success as u64);
    set_words(frame, tag.0, words);
    // Last: a caller of another CPU may be continued there at once.
    caller.become_(State::Runnable);
}

/// Reply to an event, to another CPU, to nobody, or while helping. A caller that lives still waits: who aborts is on this CPU, too.
#[inline(never)]
fn reply_slow(cpu: &'static Cpu, ec: &'static Ec, caller: Option<&'static Ec>, tag: Tag, words: Words) -> Resume {
    let Some(caller) = caller.filter(|caller| caller.frame().kind() == Kind::Sysret as u64) else {
        return reply_to_event(cpu, ec, caller, tag.0 as u32);
    };
    let tag = if tag.is_short() { tag } else { transfer(ec, caller, tag) };
    ec.become_(State::Idle);
    answer(caller, tag, words);
    continue_elsewhere()
}

/// Reply of handler `ec` to an event of `caller`, if that still waits.
pub fn reply_to_event(cpu: &'static Cpu, ec: &'static Ec, caller: Option<&'static Ec>, selection: u32) -> Resume {
    let Some(caller) = caller.filter(|c| c.is(State::Waiting)) else {
        ec.become_(State::Idle);
        return sched::reactivate(cpu);
    };
    let frame = caller.frame();
    let alive = event::accept(caller, frame, ec, selection);
    ec.become_(State::Idle);
    if !alive {
        caller.become_(State::Dead);
        return continue_elsewhere();
    }
    let hurry = cpu.helping.get() | cpu.resched.get() | frame.get(Reg::Recall);
    // Last: a caller of another CPU may be continued there at once.
    caller.become_(State::Runnable);
    if caller.cpu.get() == cpu.index() && hurry == 0 { sched::run(cpu, caller) } else { continue_elsewhere() }
}

/// What runs next is not whom a handler replied to.
#[cold]
#[inline(never)]
pub extern "sysv64" fn continue_elsewhere() -> Resume {
    let cpu = percpu::current();
    if cpu.resched.get() != 0 {
        return sched::preempt(cpu);
    }
    sched::reactivate(cpu)
}

/// There is no handler for `ec`: it goes on with `Aborted`; an EC that raised an event stops.
fn abort(ec: &'static Ec) {
    if ec.frame().kind() == Kind::Sysret as u64 {
        ec.frame().set(Reg::Rax, Status::Aborted as u64);
        ec.become_(State::Runnable);
    } else {
        ec.become_(State::Dead);
    }
}

/// Aborts what `ec`, calling or raising, wants, unless that is settled otherwise by now.
pub fn abort_wish(ec: &'static Ec, state: State) {
    if ec.claim(state, || handler(ec).is_none().then_some(())).is_some() {
        abort(ec);
    }
}

/// Handler `ec` of this CPU, dead or stopped, will not reply: aborts its caller, if it has one. A handler refers to its last caller,
/// which may have another one by now.
pub fn abort_caller(ec: &'static Ec) {
    let waits = |caller: &&'static Ec| caller.is(State::Waiting) && caller.callee.raw() == ec.addr();
    ec.caller.get().filter(waits).into_iter().for_each(abort);
}

/// Returns to the caller of a hypercall with `status`.
#[inline(always)]
pub fn fail(ec: &'static Ec, status: Status) -> Resume {
    ec.frame().set(Reg::Rax, status as u64);
    Resume::of(ec)
}

/// Sets what the hypercall of `ec` returns.
#[inline(always)]
pub fn done(ec: &'static Ec, outcome: Outcome) {
    let frame = ec.frame();
    let (status, [rdx, r8]) = match outcome {
        Ok(values) => (Status::Success, values),
        Err(status) => (status, [0, 0]),
    };
    frame.set(Reg::Rax, status as u64);
    frame.set(Reg::Rdx, rdx);
    frame.set(Reg::R8, r8);
}

/// Copies the UTCB part of a message. The tag that arrives counts what was copied.
#[inline(never)]
fn transfer(from: &'static Ec, to: &'static Ec, tag: Tag) -> Tag {
    let words = tag.words();
    if words > 0 {
        to.utcb().copy_from(from.utcb(), words);
    }
    let caps = tag.caps();
    if caps > 0 {
        transfer_caps(from, to, caps);
    }
    Tag::new(tag.label(), words, caps)
}

const ITEM_WORDS: usize = size_of::<CapItem>() / 8;
const CAPS: usize = offset::CAPS / 8;

/// Passes capabilities on: into the receiver's window, or as the id of its own portal.
fn transfer_caps(from: &'static Ec, to: &'static Ec, caps: usize) {
    let (source, target) = (from.utcb(), to.utcb());
    let mut next = target.read(offset::WINDOW_BASE / 8);
    let mut left = target.read(offset::WINDOW_COUNT / 8);
    for i in 0..caps {
        let at = CAPS + i * ITEM_WORDS;
        let (sel, info) = (source.read(at), source.read(at + 1));
        let item = pass(from, to, Sel(sel), Perms::from_bits_truncate(info as u8), next, left > 0);
        if item.identity != 0 && item.info & CapItem::OWN == 0 {
            next += 1;
            left -= 1;
        }
        target.write(at, item.sel);
        target.write(at + 1, item.info);
        target.write(at + 2, item.identity);
    }
}

fn pass(from: &'static Ec, to: &'static Ec, sel: Sel, perms: Perms, window: u64, room: bool) -> CapItem {
    let Some(from_obj) = from.obj.get() else {
        return CapItem::default();
    };
    let Some(cap) = from_obj.load(sel).map(|cap| cap.restrict(perms)) else {
        return CapItem::default();
    };
    let info = u64::from(cap.perms().bits()) | cap.kind() << CapItem::TYPE_SHIFT;
    if cap.kind() == ObjectType::Pt as u64 {
        let home = from_obj.lookup::<Pt>(sel, Perms::empty()).ok();
        let own = home.filter(|pt| pt.owner().map(Object::addr) == to.owner().map(Object::addr));
        if let Some(pt) = own {
            return CapItem { sel: pt.id.get(), info: info | CapItem::OWN, identity: cap.id() };
        }
    }
    if room && to.obj.get().is_some_and(|obj| obj.store(Sel(window), Some(cap)).is_ok()) {
        return CapItem { sel: window, info, identity: cap.id() };
    }
    CapItem::default()
}
