//! World switches: what happens right before an entry and right after an exit, whatever the vendor.

use super::transfer::Backend;
use crate::arch::{fpu, percpu, svm, vmx, x86};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::event::{self, Event};
use crate::frame::{Frame, Reg};
use crate::sched::{self, Resume};

/// Last thing before `ec`, which is current, is entered with SVM. Returns the address of its frame.
pub(in crate::arch) extern "sysv64" fn prepare(frame: Frame, ec: &'static Ec) -> u64 {
    load_xcr0(frame);
    svm::prepare(percpu::current(), ec, frame)
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
pub(in crate::arch) extern "sysv64" fn prepare_vmx(frame: Frame, ec: &'static Ec) -> Entry {
    load_xcr0(frame);
    Entry { frame: frame.addr(), how: vmx::prepare(percpu::current(), ec, frame) }
}

#[inline(always)]
fn load_xcr0(frame: Frame) {
    let (xcr0, host) = (frame.get(Reg::Xcr0), fpu::host_xcr0());
    if xcr0 != host {
        fpu::set_xcr0(xcr0);
    }
}

/// Gives the host its XCR0 back, which the guest may have changed.
#[inline(always)]
fn restore_xcr0(frame: Frame, may_have_changed: bool) {
    let host = fpu::host_xcr0();
    if may_have_changed {
        frame.set(Reg::Xcr0, if host == 0 { 0 } else { fpu::xcr0() });
    }
    if frame.get(Reg::Xcr0) != host {
        fpu::set_xcr0(host);
    }
}

/// The current vCPU, with this frame, has exited, with SVM.
pub(in crate::arch) extern "sysv64" fn vm_exit(frame: Frame) -> Resume {
    let this = svm::Vmcb::with(frame);
    let reason = this.left(frame);
    restore_xcr0(frame, this.may_have_set_xcr0());
    match this.event(reason) {
        Some(event) => event::raise(frame, event),
        None => special(frame, reason),
    }
}

/// [`vm_exit`] for what is not as simple as most.
#[inline(never)]
fn special(frame: Frame, reason: u64) -> Resume {
    match svm::Vmcb::with(frame).special(frame, reason) {
        Some(event) => event::raise(frame, event),
        None => host_interrupt(frame),
    }
}

/// The same as [`vm_exit`] with VMX.
pub(in crate::arch) extern "sysv64" fn vm_exit_vmx(frame: Frame) -> Resume {
    exited(frame, vmx::exit)
}

/// VMX refused to enter a vCPU.
pub(in crate::arch) extern "sysv64" fn entry_failed(frame: Frame) -> Resume {
    exited(frame, |_, _| vmx::entry_failed())
}

#[inline(always)]
fn exited(frame: Frame, exit: impl FnOnce(vmx::Vmcs, &'static Cpu) -> Option<Event>) -> Resume {
    let this = vmx::Vmcs::entered(frame);
    restore_xcr0(frame, this.may_have_set_xcr0());
    match exit(this, percpu::current()) {
        Some(event) => event::raise(frame, event),
        None => host_interrupt(frame),
    }
}

/// The current vCPU, with this frame, has exited for an interrupt of the host. That may be why it is recalled.
#[inline(never)]
fn host_interrupt(frame: Frame) -> Resume {
    let cpu = percpu::current();
    let Some(ec) = cpu.current() else {
        return sched::schedule(cpu);
    };
    x86::interrupt_window();
    match event::take_recall(cpu, frame) {
        Some(event) => event::raise(frame, event),
        None => sched::continue_or_preempt(cpu, ec),
    }
}
