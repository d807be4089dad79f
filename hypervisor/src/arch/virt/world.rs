//! World switches: what happens right before an entry and right after an exit, whatever the vendor.

use super::transfer::Backend;
use crate::arch::{fpu, percpu, svm, vmx, x86};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::event;
use crate::frame::Reg;
use crate::sched::{self, Resume};

/// What the last exit of the current vCPU is about.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
    /// The hypervisor's business only: a host interrupt.
    Host,
    /// For the VMM: event number, reason word, and the two information words.
    Event(u64, u64, u64, u64),
}

/// Last thing before a vCPU is entered with SVM; the assembly code passes the frame through.
pub(in crate::arch) extern "sysv64" fn prepare(frame: u64) -> u64 {
    let cpu = percpu::current();
    if let Some(ec) = cpu.current() {
        svm::Vmcb::of(ec).prepare(cpu, ec);
        load_xcr0(ec);
    }
    frame
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
        load_xcr0(ec);
        how
    });
    Entry { frame, how }
}

#[inline(always)]
fn load_xcr0(ec: &'static Ec) {
    let (xcr0, host) = (ec.frame().get(Reg::Xcr0), fpu::host_xcr0());
    if xcr0 != host {
        fpu::set_xcr0(xcr0);
    }
}

#[inline(always)]
fn restore_xcr0(ec: &'static Ec, may_have_changed: bool) {
    let (host, entered) = (fpu::host_xcr0(), ec.frame().get(Reg::Xcr0));
    if host == 0 || entered == host && !may_have_changed {
        return;
    }
    let now = if may_have_changed {
        fpu::xcr0()
    } else {
        entered
    };
    ec.frame().set(Reg::Xcr0, now);
    if now != host {
        fpu::set_xcr0(host);
    }
}

/// A vCPU has exited, with SVM.
pub(in crate::arch) extern "sysv64" fn vm_exit() -> Resume {
    exited(|this: svm::Vmcb, cpu, ec| this.exit(cpu, ec))
}

/// The same with VMX.
pub(in crate::arch) extern "sysv64" fn vm_exit_vmx() -> Resume {
    exited(|this: vmx::Vmcs, cpu, _| vmx::exit(this, cpu))
}

/// VMX refused to enter a vCPU.
pub(in crate::arch) extern "sysv64" fn entry_failed() -> Resume {
    exited(|_: vmx::Vmcs, _, _| vmx::entry_failed())
}

#[inline(always)]
fn exited<B: Backend>(exit: impl FnOnce(B, &'static Cpu, &'static Ec) -> Exit) -> Resume {
    let cpu = percpu::current();
    let Some(ec) = cpu.current() else {
        return sched::schedule(cpu);
    };
    let this = B::of(ec);
    let exit = exit(this, cpu, ec);
    restore_xcr0(ec, this.may_have_set_xcr0());
    match exit {
        Exit::Event(number, reason, info1, info2) => {
            event::raise(cpu, ec, number, reason, info1, info2)
        }
        Exit::Host => host_interrupt(cpu, ec),
    }
}

fn host_interrupt(cpu: &'static Cpu, ec: &'static Ec) -> Resume {
    x86::interrupt_window();
    if ec.frame().get(Reg::Recall) != 0 {
        cpu.resched.set(1);
    }
    sched::continue_or_preempt(cpu, ec)
}
