//! Events: exceptions of threads and exits of vCPUs, sent as messages to the EC's event portals.

use crate::arch::{fpu, percpu, switch, virt};
use crate::cpu::Cpu;
use crate::ec::{Ec, State};
use crate::frame::{Frame, Kind, Reg};
use crate::ipc::{self, Words};
use crate::journal;
use crate::mem::{Object, Page};
use crate::pt::Pt;
use crate::sched::{self, Resume};
use abi::cap::{Perms, Sel};
use abi::event::{guest, host};
use abi::hypercall::SEL_SHIFT;
use abi::journal::Stopped;
use abi::state::{Mtd, gpr, word};

/// What is pending for an EC: bits of [`Reg::Recall`].
pub mod pending {
    use crate::frame::{Frame, Reg};
    use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

    /// Nothing.
    pub const NONE: u64 = 0;
    /// A recall.
    pub const RECALL: u64 = 1 << 0;
    /// The first activation of a vCPU.
    pub const STARTUP: u64 = 1 << 1;
    /// A recall because of the deadline, which another deadline withdraws.
    pub const DEADLINE: u64 = 1 << 2;

    /// Adds `what`. What was pending before.
    pub fn add(frame: Frame, what: u64) -> u64 {
        // Ordering: Release pairs with the Acquire in `take`: also that of a recall which finds one pending comes before the event.
        frame.atomic(Reg::Recall).fetch_or(what, Release)
    }

    /// Withdraws `what`.
    pub fn withdraw(frame: Frame, what: u64) {
        frame.atomic(Reg::Recall).fetch_and(!what, Relaxed);
    }

    /// Takes all that is pending.
    pub fn take(frame: Frame) -> u64 {
        // Ordering: Acquire, see `add`.
        frame.atomic(Reg::Recall).swap(NONE, Acquire)
    }
}

/// Flags that a handler may set in a thread: arithmetic flags, TF, DF, RF, AC, ID (SDM vol. 1, 3.4.3). IF stays set.
pub const FLAGS_WRITABLE: u64 = 0x0025_0dd5;

/// Frame register by [`gpr`] index.
pub const GPRS: [Reg; 16] = [
    Reg::Rax,
    Reg::Rcx,
    Reg::Rdx,
    Reg::Rbx,
    Reg::Rsp,
    Reg::Rbp,
    Reg::Rsi,
    Reg::Rdi,
    Reg::R8,
    Reg::R9,
    Reg::R10,
    Reg::R11,
    Reg::R12,
    Reg::R13,
    Reg::R14,
    Reg::R15,
];

/// Copies the selected general-purpose registers to a handler's UTCB.
#[inline(always)]
pub fn save_gprs(frame: Frame, utcb: Page, mtd: Mtd) {
    gprs(mtd, |i, reg| utcb.write(word::GPR + i, frame.get(reg)));
}

/// Takes the selected general-purpose registers from a handler's UTCB.
#[inline(always)]
pub fn load_gprs(frame: Frame, utcb: Page, mtd: Mtd) {
    gprs(mtd, |i, reg| frame.set(reg, utcb.read(word::GPR + i)));
}

/// Calls `f` with each register that is selected: its index in the UTCB and its place in the frame.
#[inline(always)]
fn gprs(mtd: Mtd, mut f: impl FnMut(usize, Reg)) {
    // One by one, because loops stay loops.
    macro_rules! each {
        ($($index:ident)*) => { $(f(gpr::$index, GPRS[gpr::$index]);)* };
    }
    if !mtd.intersects(Mtd::GPR) {
        return;
    }
    if mtd.contains(Mtd::ACDB) {
        each!(RAX RCX RDX RBX);
    }
    if mtd.contains(Mtd::BSD) {
        each!(RSP RBP RSI RDI);
    }
    if mtd.contains(Mtd::R8_R15) {
        each!(R8 R9 R10 R11 R12 R13 R14 R15);
    }
}

/// An event: its number, and what is delivered of it in registers.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Relative to the EC's event base.
    pub number: u64,
    /// Vector or exit number.
    pub reason: u64,
    /// First information word.
    pub info1: u64,
    /// Second information word.
    pub info2: u64,
}

/// Has the EC with this frame, which was interrupted and is current, raise an event: to be returned to `arch::entry`.
#[inline(always)]
pub fn raise(frame: Frame, event: Event) -> Resume {
    note(frame, event);
    Resume::raise(event.number)
}

/// The handler of an event that the current EC has raised is busy, on another CPU, or missing. Entered from `arch::fastpath`
/// with the selector of the portal.
pub extern "sysv64" fn raise_slow(rdi: u64) -> Resume {
    let cpu = percpu::current();
    let Some(ec) = cpu.current() else {
        return sched::schedule(cpu);
    };
    let number = (rdi >> SEL_SHIFT) - ec.event_base.get();
    if let Some(pt) = portal(ec, number) {
        ec.wanted.set(Some(pt));
        ec.become_(State::Raising);
        switch::put_down(cpu, ec);
    } else {
        kill(cpu, ec, number);
    }
    sched::reactivate(cpu)
}

#[inline(always)]
fn note(frame: Frame, event: Event) {
    frame.set(Reg::EventReason, event.reason);
    frame.set(Reg::EventInfo1, event.info1);
    frame.set(Reg::EventInfo2, event.info2);
}

#[inline(always)]
fn portal(ec: &'static Ec, number: u64) -> Option<&'static Pt> {
    ec.obj.get()?.slot(Sel(ec.event_base.get() + number))?.lookup::<Pt>(Perms::PT_EVENT)
}

/// Stops an EC that nobody handles.
#[cold]
fn kill(cpu: &'static Cpu, ec: &'static Ec, event: u64) {
    let frame = ec.frame();
    let info = [frame.get(Reg::EventInfo1), frame.get(Reg::EventInfo2)];
    let stopped = Stopped { ec: ec.id(), event, reason: frame.get(Reg::EventReason), info, ip: rip(ec) };
    ec.become_(State::Dead);
    journal::tell(cpu, ec, stopped);
}

/// The recall that is pending for the vCPU with this frame, which was interrupted while it ran, if it keeps the CPU: it is
/// [raised](raise) as any exit is, and pending no more. Else it stays pending, and the scheduler finds it when the vCPU has its turn, if
/// it lives by then.
#[inline(always)]
pub fn take_recall(cpu: &Cpu, frame: Frame) -> Option<Event> {
    if cpu.resched.get() != 0 || frame.get(Reg::Recall) == pending::NONE {
        return None;
    }
    pending::take(frame);
    Some(Event { number: guest::RECALL, reason: guest::RECALL, info1: 0, info2: 0 })
}

/// Turns a pending recall or startup of a runnable EC into its event. False if there is nobody to tell.
pub fn recall(cpu: &'static Cpu, ec: &'static Ec) -> bool {
    let frame = ec.frame();
    let number = match (ec.is_vcpu(), pending::take(frame) & pending::STARTUP) {
        (true, pending::NONE) => guest::RECALL,
        (true, _) => guest::STARTUP,
        (false, _) => host::RECALL,
    };
    note(frame, Event { number, reason: number, info1: 0, info2: 0 });
    match portal(ec, number) {
        Some(pt) => {
            switch::put_down(cpu, ec);
            if frame.kind() == Kind::Sysret as u64 {
                // From here on it continues with all registers. SYSCALL left RIP and RFLAGS in RCX and R11.
                frame.set(Reg::Rcx, frame.get(Reg::Rip));
                frame.set(Reg::R11, frame.get(Reg::Rflags));
                fpu::reset(ec);
                frame.set(Reg::Kind, Kind::Iret as u64);
            }
            ec.wanted.set(Some(pt));
            ec.become_(State::Raising);
            true
        }
        None if ec.is_vcpu() => {
            kill(cpu, ec, number);
            true
        }
        None => false,
    }
}

fn rip(ec: &'static Ec) -> u64 {
    if ec.is_vcpu() { virt::rip(ec) } else { ec.frame().get(Reg::Rip) }
}

/// What `ec`, whose event was noted, has for the handler: tag and words, with the state in the handler's UTCB.
pub fn deliver(ec: &'static Ec, handler: &'static Ec, pt: &'static Pt) -> (u64, Words) {
    let (mtd, frame, utcb) = (pt.mtd(), ec.frame(), handler.utcb());
    save_gprs(frame, utcb, mtd);
    let rip = if ec.is_vcpu() { virt::save(ec, utcb, mtd) } else { deliver_host(frame, utcb) };
    let words = [frame.get(Reg::EventReason), frame.get(Reg::EventInfo1), frame.get(Reg::EventInfo2), rip];
    (u64::from(mtd.bits()), words)
}

/// Copies the selected state of a thread. Returns the instruction pointer. Entered from `arch::fastpath`.
pub extern "sysv64" fn deliver_thread(frame: Frame, _: &'static Ec, utcb: Page, mtd: u32) -> u64 {
    save_gprs(frame, utcb, Mtd::from_bits_retain(mtd));
    deliver_host(frame, utcb)
}

/// Copies the state of a host EC but the general-purpose registers. Returns the instruction pointer.
fn deliver_host(frame: Frame, utcb: Page) -> u64 {
    let rip = frame.get(Reg::Rip);
    utcb.write(word::RIP, rip);
    utcb.write(word::RFLAGS, frame.get(Reg::Rflags));
    rip
}

/// Takes the state that the handler's reply selects from its UTCB. False if the EC is to stop.
pub fn accept(ec: &'static Ec, frame: Frame, handler: &'static Ec, mtd: u32) -> bool {
    let mtd = Mtd::from_bits_retain(mtd);
    let utcb = handler.utcb();
    if mtd.contains(Mtd::KILL) {
        return false;
    }
    load_gprs(frame, utcb, mtd);
    if frame.kind() == Kind::Guest as u64 {
        virt::load(ec, utcb, mtd);
        return true;
    }
    if mtd.contains(Mtd::RIP) {
        // IRET to a non-canonical address faults in the kernel; user space ends below the first one.
        frame.set(Reg::Rip, utcb.read(word::RIP).min(abi::USER_TOP));
    }
    if mtd.contains(Mtd::RFLAGS) {
        frame.set(Reg::Rflags, utcb.read(word::RFLAGS) & FLAGS_WRITABLE | ipc::USER_FLAGS);
    }
    true
}
