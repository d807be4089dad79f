//! Events: exceptions of threads and exits of vCPUs, sent as messages to the EC's event portals.

use crate::arch::{fastpath, log, switch, virt};
use crate::cpu::Cpu;
use crate::ec::{Ec, State};
use crate::frame::{Frame, Kind, Reg};
use crate::ipc::{self, Words};
use crate::mem::{Page, object::Object};
use crate::pt::Pt;
use crate::sched::{self, Resume};
use abi::cap::{Perms, Sel};
use abi::event::{guest, host};
use abi::state::{Mtd, gpr, word};

/// Pending in [`Reg::Recall`].
pub mod pending {
    /// Nothing.
    pub const NONE: u64 = 0;
    /// A recall.
    pub const RECALL: u64 = 1;
    /// The first activation of a vCPU.
    pub const STARTUP: u64 = 2;
    /// A recall because of the deadline, which another deadline withdraws.
    pub const DEADLINE: u64 = 3;
}

/// Flags that a handler may set in a thread: arithmetic flags, TF, DF, RF, AC, ID (SDM vol. 1, 3.4.3). IF stays set.
const FLAGS_WRITABLE: u64 = 0x0025_0dd5;

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

/// Raises an event of `ec`, which was interrupted and is current. `deliver` copies the selected state but the general-purpose
/// registers into the handler's UTCB, and returns the instruction pointer.
#[inline(always)]
pub fn raise(
    cpu: &'static Cpu,
    ec: &'static Ec,
    frame: Frame,
    event: Event,
    deliver: impl FnOnce(Page, Mtd) -> u64,
) -> Resume {
    if let Some(pt) = portal(ec, event.number)
        && let Some(handler) = pt.ec.get()
        && handler.cpu.get() == cpu.index()
        && handler.is(State::Idle)
    {
        let (mtd, utcb) = (pt.mtd(), handler.utcb());
        gprs(mtd, |i, reg| utcb.write(word::GPR + i, frame.get(reg)));
        let rip = deliver(utcb, mtd);
        let words = [event.reason, event.info1, event.info2, rip];
        ipc::link(ec, handler, pt);
        switch::to_handler(cpu, frame, handler);
        fastpath::enter_portal(pt, handler, u64::from(mtd.bits()), words);
    }
    let Event { number, reason, info1, info2 } = event;
    raise_slow(cpu, ec, number, reason, info1, info2)
}

/// The handler is busy, on another CPU, or missing.
#[cold]
#[inline(never)]
fn raise_slow(cpu: &'static Cpu, ec: &'static Ec, number: u64, reason: u64, info1: u64, info2: u64) -> Resume {
    let event = Event { number, reason, info1, info2 };
    note(ec, event);
    if let Some(pt) = portal(ec, event.number) {
        ec.wanted.set(Some(pt));
        ec.become_(State::Raising);
        switch::put_down(cpu, ec);
    } else {
        kill(ec, event.number);
    }
    sched::reactivate(cpu)
}

fn note(ec: &'static Ec, event: Event) {
    let frame = ec.frame();
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
fn kill(ec: &'static Ec, number: u64) {
    let frame = ec.frame();
    log::line(format_args!(
        "EC {} stopped: no portal for event {number:#x} (reason {:#x}, info {:#x} {:#x}, ip {:#x})",
        ec.id(),
        frame.get(Reg::EventReason),
        frame.get(Reg::EventInfo1),
        frame.get(Reg::EventInfo2),
        rip(ec),
    ));
    ec.become_(State::Dead);
}

/// The recall that is pending for the vCPU with this frame, which was interrupted while it ran, if it keeps the CPU: it is
/// [raised](raise) as any exit is, and pending no more. Else it stays pending, and the scheduler finds it when the vCPU has its turn, if
/// it lives by then.
#[inline(always)]
pub fn take_recall(cpu: &Cpu, frame: Frame) -> Option<Event> {
    if cpu.resched.get() != 0 || frame.get(Reg::Recall) == pending::NONE {
        return None;
    }
    frame.set(Reg::Recall, pending::NONE);
    // The event is not about an instruction, which backends tell by this.
    frame.set(Reg::EventReason, guest::RECALL);
    Some(Event { number: guest::RECALL, reason: guest::RECALL, info1: 0, info2: 0 })
}

/// Turns a pending recall or startup of a runnable EC into its event. False if there is nobody to tell.
pub fn recall(cpu: &'static Cpu, ec: &'static Ec) -> bool {
    let frame = ec.frame();
    let what = frame.get(Reg::Recall);
    frame.set(Reg::Recall, pending::NONE);
    let number = match (ec.is_vcpu(), what) {
        (true, pending::STARTUP) => guest::STARTUP,
        (true, _) => guest::RECALL,
        (false, _) => host::RECALL,
    };
    let event = Event { number, reason: number, info1: 0, info2: 0 };
    note(ec, event);
    match portal(ec, number) {
        Some(pt) => {
            switch::put_down(cpu, ec);
            if frame.kind() == Kind::Sysret as u64 {
                // From here on it continues with all registers. SYSCALL left RIP and RFLAGS in RCX and R11.
                frame.set(Reg::Rcx, frame.get(Reg::Rip));
                frame.set(Reg::R11, frame.get(Reg::Rflags));
                crate::arch::fpu::reset(ec);
                frame.set(Reg::Kind, Kind::Iret as u64);
            }
            ec.wanted.set(Some(pt));
            ec.become_(State::Raising);
            true
        }
        None if ec.is_vcpu() => {
            kill(ec, number);
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
    gprs(mtd, |i, reg| utcb.write(word::GPR + i, frame.get(reg)));
    let rip = if ec.is_vcpu() { virt::save(ec, utcb, mtd) } else { deliver_host(frame, utcb) };
    let words = [frame.get(Reg::EventReason), frame.get(Reg::EventInfo1), frame.get(Reg::EventInfo2), rip];
    (u64::from(mtd.bits()), words)
}

/// Copies the state of a host EC but the general-purpose registers. Returns the instruction pointer.
#[inline(always)]
pub fn deliver_host(frame: Frame, utcb: Page) -> u64 {
    let rip = frame.get(Reg::Rip);
    utcb.write(word::RIP, rip);
    utcb.write(word::RFLAGS, frame.get(Reg::Rflags));
    rip
}

/// Takes the state that the handler's reply selects from its UTCB. False if the EC is to stop.
#[inline(always)]
pub fn accept(ec: &'static Ec, frame: Frame, handler: &'static Ec, mtd: u32) -> bool {
    let mtd = Mtd::from_bits_retain(mtd);
    let utcb = handler.utcb();
    if mtd.contains(Mtd::KILL) {
        return false;
    }
    gprs(mtd, |i, reg| frame.set(reg, utcb.read(word::GPR + i)));
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
