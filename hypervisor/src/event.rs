//! Events: exceptions of threads and exits of vCPUs, sent as messages to the EC's event portals.

use crate::arch::{log, switch, virt};
use crate::cpu::Cpu;
use crate::ec::{Ec, State};
use crate::frame::{Kind, Reg};
use crate::ipc::{self, Words};
use crate::mem::object::Object;
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

/// Registers selected by a bit of an [`Mtd`].
#[inline(always)]
fn gprs(mtd: Mtd, mut f: impl FnMut(usize, Reg)) {
    if mtd.contains(Mtd::ACDB) {
        (gpr::RAX..=gpr::RBX).for_each(|i| f(i, GPRS[i]));
    }
    if mtd.contains(Mtd::BSD) {
        (gpr::RSP..=gpr::RDI).for_each(|i| f(i, GPRS[i]));
    }
    if mtd.contains(Mtd::R8_R15) {
        (gpr::R8..=gpr::R15).for_each(|i| f(i, GPRS[i]));
    }
}

/// Raises event `number` of `ec`, which was current and is runnable.
#[inline(always)]
pub fn raise(
    cpu: &'static Cpu,
    ec: &'static Ec,
    number: u64,
    reason: u64,
    info1: u64,
    info2: u64,
) -> Resume {
    note(ec, reason, info1, info2);
    let Some(pt) = portal(ec, number) else {
        kill(ec, number);
        return sched::reactivate(cpu);
    };
    ec.wanted.set(Some(pt));
    ec.become_(State::Raising);
    match pt
        .ec
        .get()
        .filter(|handler| handler.cpu.get() == cpu.index() && handler.is(State::Idle))
    {
        Some(handler) => {
            ipc::send(ec, handler);
            sched::run(cpu, handler)
        }
        None => {
            // The handler may be on another CPU.
            switch::put_down(cpu, ec);
            sched::reactivate(cpu)
        }
    }
}

fn note(ec: &'static Ec, reason: u64, info1: u64, info2: u64) {
    let frame = ec.frame();
    frame.set(Reg::EventReason, reason);
    frame.set(Reg::EventInfo1, info1);
    frame.set(Reg::EventInfo2, info2);
}

#[inline(always)]
fn portal(ec: &'static Ec, number: u64) -> Option<&'static Pt> {
    ec.obj
        .get()?
        .slot(Sel(ec.event_base.get() + number))?
        .lookup::<Pt>(Perms::PT_EVENT)
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
    note(ec, number, 0, 0);
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
    if ec.is_vcpu() {
        virt::rip(ec)
    } else {
        ec.frame().get(Reg::Rip)
    }
}

/// Copies the state that the portal selects into the handler's UTCB. Returns tag and words for its registers.
#[inline(always)]
pub fn deliver(ec: &'static Ec, handler: &'static Ec, pt: &'static Pt) -> (u64, Words) {
    let (mtd, frame, utcb) = (pt.mtd(), ec.frame(), handler.utcb());
    gprs(mtd, |i, reg| utcb.write(word::GPR + i, frame.get(reg)));
    let ip = if ec.is_vcpu() {
        virt::save(ec, utcb, mtd)
    } else {
        let ip = frame.get(Reg::Rip);
        utcb.write(word::RIP, ip);
        utcb.write(word::RFLAGS, frame.get(Reg::Rflags));
        ip
    };
    let words = [
        frame.get(Reg::EventReason),
        frame.get(Reg::EventInfo1),
        frame.get(Reg::EventInfo2),
        ip,
    ];
    (u64::from(mtd.bits()), words)
}

/// Takes the state that the handler's reply selects from its UTCB. False if the EC is to stop.
#[inline(always)]
pub fn accept(ec: &'static Ec, handler: &'static Ec, mtd: u32) -> bool {
    let mtd = Mtd::from_bits_retain(mtd);
    let (frame, utcb) = (ec.frame(), handler.utcb());
    if mtd.contains(Mtd::KILL) {
        return false;
    }
    gprs(mtd, |i, reg| frame.set(reg, utcb.read(word::GPR + i)));
    if ec.is_vcpu() {
        virt::load(ec, utcb, mtd);
        return true;
    }
    if mtd.contains(Mtd::RIP) {
        // IRET to a non-canonical address faults in the kernel; user space ends below the first one.
        frame.set(Reg::Rip, utcb.read(word::RIP).min(abi::USER_TOP));
    }
    if mtd.contains(Mtd::RFLAGS) {
        frame.set(
            Reg::Rflags,
            utcb.read(word::RFLAGS) & FLAGS_WRITABLE | ipc::USER_FLAGS,
        );
    }
    true
}
