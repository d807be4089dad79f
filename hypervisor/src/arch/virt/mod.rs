//! Virtual CPUs, independent of the vendor.
//!
//! [`field`] is the table of exit state: it is written once and drives delivery and acceptance ([`transfer`]); a [`Backend`]
//! only says where it keeps a [`Field`]. Which backend there is, is found out at boot.

pub mod debug;
pub mod exception;
pub mod field;
mod transfer;
mod world;

pub use field::{FIELDS, Field};
pub use transfer::{Backend, WINDOWS, load, rip, save};
pub(super) use transfer::{accept_svm, accept_vmx, deliver_svm, deliver_vmx};
pub(super) use world::{entry_failed, prepare, prepare_vmx, vm_exit, vm_exit_vmx};

use super::{svm, vmx};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::frame::Reg;
use crate::mem::{Page, pool};
use crate::space::{guest::GuestSpace, msr::MsrSpace, pio::PioSpace};
use abi::hip::{Features, VcpuAbsence};
use abi::status::Status;
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Features found at boot.
static FEATURES: AtomicU64 = AtomicU64::new(0);

/// 1 if the backend is VMX, 0 if it is SVM or there is none.
pub(super) static IS_VMX: AtomicU8 = AtomicU8::new(0);

static ABSENCE: AtomicU32 = AtomicU32::new(VcpuAbsence::Hardware as u32);

/// Why there is no virtualisation, if there is none.
pub fn absence() -> VcpuAbsence {
    VcpuAbsence::from_number(ABSENCE.load(Relaxed))
}

/// What there is, or why there is nothing, for the log.
pub struct Description;

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let features = features();
        if features.contains(Features::SVM) {
            f.write_str("SVM with nested paging")?;
            svm::used().try_for_each(|name| write!(f, ", {name}"))
        } else if features.contains(Features::VMX) {
            f.write_str("VMX with EPT")
        } else {
            write!(f, "none, {}", absence())
        }
    }
}

#[inline(always)]
fn is_vmx() -> bool {
    IS_VMX.load(Relaxed) != 0
}

/// Looks for hardware virtualisation, on the boot CPU. None has both kinds.
pub fn detect() {
    let found = match svm::detect() {
        Err(VcpuAbsence::Hardware) => vmx::detect().map(|()| Features::VMX),
        svm => svm,
    };
    match found {
        Ok(features) => {
            IS_VMX.store(features.contains(Features::VMX).into(), Relaxed);
            FEATURES.store(features.bits(), Relaxed);
        }
        Err(why) => withdraw(why),
    }
}

/// There is no virtualisation after all. Before the root task exists, to which it would have been promised.
fn withdraw(why: VcpuAbsence) {
    ABSENCE.store(why as u32, Relaxed);
    let others = features() - (Features::SVM | Features::VMX);
    FEATURES.store(others.bits(), Relaxed);
}

/// Pages that a CPU needs.
pub const CPU_PAGES: u64 = 2;

/// Turns virtualisation on, on this CPU.
///
/// # Errors
/// `OutOfMemory`.
pub fn enable(cpu: &'static Cpu) -> Result<(), Status> {
    if !available() {
        return Ok(());
    }
    let page = || pool::alloc(0, 0).ok_or(Status::OutOfMemory);
    let (processor, host) = (page()?, page()?);
    if !is_vmx() {
        svm::init(cpu, processor, host);
    } else if !vmx::init(cpu, processor, host) {
        withdraw(VcpuAbsence::Firmware);
    }
    Ok(())
}

/// Sets up the control block of a vCPU in a zeroed page, for CPU `cpu`. Without a space, everything exits.
pub fn set_up(control: Page, ec: &'static Ec, cpu: &'static Cpu, guest: &GuestSpace, pio: &PioSpace, msr: &MsrSpace) {
    ec.frame().set(Reg::Control, control.phys().0);
    ec.frame().set(Reg::ControlAt, control.virt());
    ec.frame().set(Reg::MsrMap, msr.phys().0);
    if is_vmx() {
        vmx::set_up(control, ec, cpu, guest.root().phys(), pio, msr);
    } else {
        svm::Vmcb::init(control, guest.root().phys(), pio, msr);
    }
}

/// Takes a vCPU's state off this CPU, if it is there: before it is accessed on another one, and before its memory is freed.
pub fn release(cpu: &'static Cpu, ec: &'static Ec) {
    if is_vmx() && ec.is_vcpu() && ec.cpu.get() == cpu.index() {
        vmx::release(cpu, ec);
    }
}

/// Format of the tables of guest spaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nested {
    /// SVM: that of page tables.
    Npt,
    /// VMX.
    Ept,
}

/// The one that the CPUs have.
#[inline(always)]
pub fn nested() -> Nested {
    if is_vmx() { Nested::Ept } else { Nested::Npt }
}

/// Whether vCPUs can be created.
pub fn available() -> bool {
    features().intersects(Features::SVM | Features::VMX)
}

/// Features found at boot.
pub fn features() -> Features {
    Features::from_bits_truncate(FEATURES.load(Relaxed))
}
