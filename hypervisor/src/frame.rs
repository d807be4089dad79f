//! Context page of an execution context: its register frame, what else must be kept while it does not run,
//! and its extended (FPU/SSE/AVX) state. The order of the frame is known to `arch::entry`.

use crate::arch::Msr;
use crate::mem::Page;
use core::sync::atomic::AtomicU64;

/// Word of the context page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are the registers'")]
#[repr(usize)]
pub enum Reg {
    R15 = 0,
    R14,
    R13,
    R12,
    Rbp,
    Rbx,
    Rsp,
    Rip,
    Rflags,
    Rax,
    Rdi,
    Rsi,
    Rdx,
    R8,
    R9,
    R10,
    Rcx,
    R11,
    /// How to continue: [`Kind`].
    Kind,
    /// FS base.
    FsBase,
    /// Vector or exit number of the event that is raised, and the two words about it.
    EventReason,
    EventInfo1,
    EventInfo2,
    /// Physical address of the VMCB or VMCS (vCPUs).
    Control,
    /// The same, virtual.
    ControlAt,
    /// XCR0 of a vCPU.
    Xcr0,
    /// Window requests of a vCPU ([`abi::state::Injection`] bits).
    Windows,
    /// Last ASID and its generation (vCPUs).
    Asid,
    AsidGeneration,
    /// Generation of the guest space's translations that the TLB may hold, and [`RENEW`].
    SpaceGeneration,
    /// What is [pending](crate::event::pending).
    Recall,
    /// User address of the UTCB (host ECs).
    UtcbAt,
    /// Physical address of the MSR map (vCPUs).
    MsrMap,
    /// Registers that the VMCS has no place for.
    Cr2,
    Dr6,
    /// Breakpoint addresses of a vCPU: DR0 to DR3.
    Dr0,
    Dr1,
    Dr2,
    Dr3,
    /// Whether the VMCS is on the CPU ([`crate::arch::vmx`]).
    Active,
    /// Page-table root in the host state of the VMCS.
    HostRoot,
}

/// In [`Reg::SpaceGeneration`]: there is more to do before the next entry.
pub const RENEW: u64 = 1 << 63;

/// How a context continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Kind {
    /// After a hypercall or at a portal entry: by SYSRET; extended state is not preserved.
    Sysret = 0,
    /// After an exception or interrupt: by IRET, with all registers and extended state.
    Iret = 1,
    /// A vCPU.
    Guest = 2,
    /// Nothing to run: wait for an interrupt.
    Idle = 3,
    /// Not at all: it raises an event, see [`crate::sched::Resume::raise`].
    Raise = 4,
}

/// Words that the hypercall entry saves by pushing: R15 up to RFLAGS.
pub const PUSHED: usize = Reg::Rax as usize;
/// Byte offset of the extended state inside the page; 64-byte aligned for XSAVE.
pub const EXTENDED: u64 = 1024;

/// Word of the MSR area of a vCPU with VMX: entries of two words, number and value (SDM vol. 3, table 25-14).
pub const MSRS_AT: usize = 112;
/// The MSRs in it, in the order of their [fields](crate::arch::virt::Field).
pub const MSRS: [u32; 5] =
    [Msr::Star as u32, Msr::Lstar as u32, Msr::Cstar as u32, Msr::Sfmask as u32, Msr::KernelGsBase as u32];
const _: () = assert!(MSRS_AT > Reg::HostRoot as usize && MSRS_AT.is_multiple_of(2));
const _: () = assert!((MSRS_AT + 2 * MSRS.len()) * 8 <= EXTENDED as usize);

/// The context page.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Frame(pub Page);

impl Frame {
    /// A register.
    #[inline(always)]
    pub fn get(self, reg: Reg) -> u64 {
        self.0.read(reg as usize)
    }

    /// Sets a register.
    #[inline(always)]
    pub fn set(self, reg: Reg, value: u64) {
        self.0.write(reg as usize, value);
    }

    /// A register that other CPUs change as well.
    #[inline(always)]
    pub fn atomic(self, reg: Reg) -> &'static AtomicU64 {
        self.0.atomic(reg as usize)
    }

    /// Virtual address of the frame.
    #[inline(always)]
    pub fn addr(self) -> u64 {
        self.0.virt()
    }

    /// Virtual address of the extended state.
    pub fn extended(self) -> u64 {
        self.0.virt() + EXTENDED
    }

    /// How the context continues.
    #[inline(always)]
    pub fn kind(self) -> u64 {
        self.get(Reg::Kind)
    }
}
