//! World switches: what happens right before an entry and right after an exit, whatever the vendor.

use super::transfer::{Backend, save_from};
use crate::arch::{fpu, percpu, svm, vmx, x86};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::event::{self, Event};
use crate::frame::{Frame, Reg};
use crate::sched::{self, Resume};

/// Last thing before a vCPU is entered with SVM; the assembly code passes the frame through.
pub(in crate::arch) extern "sysv64" fn prepare(frame: u64) -> u64 {
    let cpu = percpu::current();
    let Some(ec) = cpu.current() else {
        return frame;
    };
    load_xcr0(ec.frame());
    svm::prepare(cpu, ec, ec.frame())
}

/// How to enter a vCPU with VMX.
#[repr(C)]
pub(in crate::arch) struct Entry {
    /// Address of the frame.
    frame: u64,
    /// [`vmx::ENTRY_LAUNCH`] or to be resumed.
    how: u64,
}

/// The same with VMX.
pub(in crate::arch) extern "sysv64" fn prepare_vmx(frame: u64) -> Entry {
    let cpu = percpu::current();
    let how = cpu.current().map_or(0, |ec| {
        let how = vmx::prepare(cpu, ec);
        load_xcr0(ec.frame());
        how
    });
    Entry { frame, how }
}

#[inline(always)]
fn load_xcr0(frame: Frame) {
    let (xcr0, host) = (frame.get(Reg::Xcr0), fpu::host_xcr0());
    if xcr0 != host {
        fpu::set_xcr0(xcr0);
    }
}

#[inline(always)]
fn restore_xcr0(frame: Frame, may_have_changed: bool) {
    if may_have_changed || frame.get(Reg::Xcr0) != fpu::host_xcr0() {
        keep_xcr0(frame, may_have_changed);
    }
}

#[inline(never)]
fn keep_xcr0(frame: Frame, may_have_changed: bool) {
    let host = fpu::host_xcr0();
    if host == 0 {
        return;
    }
    let now = if may_have_changed { fpu::xcr0() } else { frame.get(Reg::Xcr0) };
    frame.set(Reg::Xcr0, now);
    if now != host {
        fpu::set_xcr0(host);
    }
}

/// A vCPU has exited, with SVM.
pub(in crate::arch) extern "sysv64" fn vm_exit() -> Resume {
    let cpu = percpu::current();
    let Some(ec) = cpu.current() else {
        return sched::schedule(cpu);
    };
    let frame = ec.frame();
    let this = svm::Vmcb::with(frame);
    let reason = this.left(cpu, frame);
    restore_xcr0(frame, this.may_have_set_xcr0());
    match this.event(reason) {
        Some(event) => raise(cpu, ec, frame, this, event),
        None => window(cpu, ec, reason),
    }
}

/// A vCPU has exited for an interrupt of the host, or because a window has opened, with SVM.
#[inline(never)]
fn window(cpu: &'static Cpu, ec: &'static Ec, reason: u64) -> Resume {
    let frame = ec.frame();
    let this = svm::Vmcb::with(frame);
    match this.interrupted(ec, reason).or_else(|| host_interrupt(cpu, frame)) {
        Some(event) => raise(cpu, ec, frame, this, event),
        None => sched::continue_or_preempt(cpu, ec),
    }
}

#[inline(always)]
fn raise<B: Backend>(cpu: &'static Cpu, ec: &'static Ec, frame: Frame, this: B, event: Event) -> Resume {
    event::raise(cpu, ec, frame, event, |utcb, mtd| save_from(this, ec, utcb, mtd))
}

/// The same with VMX.
pub(in crate::arch) extern "sysv64" fn vm_exit_vmx() -> Resume {
    exited(vmx::exit)
}

/// VMX refused to enter a vCPU.
pub(in crate::arch) extern "sysv64" fn entry_failed() -> Resume {
    exited(|_, _| vmx::entry_failed())
}

#[inline(always)]
fn exited(exit: impl FnOnce(vmx::Vmcs, &'static Cpu) -> Option<Event>) -> Resume {
    let cpu = percpu::current();
    let Some(ec) = cpu.current() else {
        return sched::schedule(cpu);
    };
    let frame = ec.frame();
    let this = vmx::Vmcs::entered(frame);
    let event = exit(this, cpu);
    restore_xcr0(frame, this.may_have_set_xcr0());
    match event.or_else(|| host_interrupt(cpu, frame)) {
        Some(event) => raise(cpu, ec, frame, this, event),
        None => sched::continue_or_preempt(cpu, ec),
    }
}

/// Lets the interrupt of the host in for which the vCPU with this frame has exited. It may be why the vCPU is recalled.
#[inline(always)]
fn host_interrupt(cpu: &'static Cpu, frame: Frame) -> Option<Event> {
    x86::interrupt_window();
    event::take_recall(cpu, frame)
}
