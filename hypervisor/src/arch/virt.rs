//! Virtual CPUs, independent of the vendor: what state travels with which selection, and what an exit leads to.
//!
//! [`TABLE`] is written once and drives delivery and acceptance; a backend only says where it keeps a [`Field`].

use super::svm;
use super::{fpu, percpu, x86};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::event;
use crate::frame::Reg;
use crate::mem::Page;
use crate::sched::{self, Resume};
use abi::hip::Features;
use abi::state::{Injection, Mtd, seg, word};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A word of a vCPU's state that the control block holds as such.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(
    missing_docs,
    reason = "the names are the registers'; segments are two words each, as in the ABI"
)]
#[repr(usize)]
pub enum Field {
    Rip,
    Rflags,
    Es,
    EsBase,
    Cs,
    CsBase,
    Ss,
    SsBase,
    Ds,
    DsBase,
    Fs,
    FsBase,
    Gs,
    GsBase,
    Ldtr,
    LdtrBase,
    Tr,
    TrBase,
    Gdtr,
    GdtrBase,
    Idtr,
    IdtrBase,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Dr6,
    Dr7,
    Efer,
    Star,
    Lstar,
    Cstar,
    Sfmask,
    KernelGsBase,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    Pat,
    Interrupted,
}

/// Number of fields.
pub const FIELDS: usize = Field::Interrupted as usize + 1;

const fn seg_word(index: usize) -> usize {
    word::SEG + index * 2
}

/// UTCB word and field of the state that each selection bit stands for. What is not here needs more than a copy and is
/// handled in [`save`] and [`load`].
const TABLE: [&[(usize, Field)]; 32] = {
    let mut table: [&[(usize, Field)]; 32] = [&[]; 32];
    table[Mtd::RIP.bits().trailing_zeros() as usize] = &[(word::RIP, Field::Rip)];
    table[Mtd::RFLAGS.bits().trailing_zeros() as usize] = &[(word::RFLAGS, Field::Rflags)];
    table[Mtd::CS_SS.bits().trailing_zeros() as usize] = &[
        (seg_word(seg::CS), Field::Cs),
        (seg_word(seg::CS) + 1, Field::CsBase),
        (seg_word(seg::SS), Field::Ss),
        (seg_word(seg::SS) + 1, Field::SsBase),
    ];
    table[Mtd::DS_ES.bits().trailing_zeros() as usize] = &[
        (seg_word(seg::DS), Field::Ds),
        (seg_word(seg::DS) + 1, Field::DsBase),
        (seg_word(seg::ES), Field::Es),
        (seg_word(seg::ES) + 1, Field::EsBase),
    ];
    table[Mtd::FS_GS.bits().trailing_zeros() as usize] = &[
        (seg_word(seg::FS), Field::Fs),
        (seg_word(seg::FS) + 1, Field::FsBase),
        (seg_word(seg::GS), Field::Gs),
        (seg_word(seg::GS) + 1, Field::GsBase),
    ];
    table[Mtd::TR.bits().trailing_zeros() as usize] = &[
        (seg_word(seg::TR), Field::Tr),
        (seg_word(seg::TR) + 1, Field::TrBase),
    ];
    table[Mtd::LDTR.bits().trailing_zeros() as usize] = &[
        (seg_word(seg::LDTR), Field::Ldtr),
        (seg_word(seg::LDTR) + 1, Field::LdtrBase),
    ];
    table[Mtd::GDTR.bits().trailing_zeros() as usize] = &[
        (seg_word(seg::GDTR), Field::Gdtr),
        (seg_word(seg::GDTR) + 1, Field::GdtrBase),
    ];
    table[Mtd::IDTR.bits().trailing_zeros() as usize] = &[
        (seg_word(seg::IDTR), Field::Idtr),
        (seg_word(seg::IDTR) + 1, Field::IdtrBase),
    ];
    table[Mtd::CR.bits().trailing_zeros() as usize] = &[
        (word::CR0, Field::Cr0),
        (word::CR2, Field::Cr2),
        (word::CR3, Field::Cr3),
        (word::CR4, Field::Cr4),
    ];
    table[Mtd::DR.bits().trailing_zeros() as usize] =
        &[(word::DR6, Field::Dr6), (word::DR7, Field::Dr7)];
    table[Mtd::EFER.bits().trailing_zeros() as usize] = &[(word::EFER, Field::Efer)];
    table[Mtd::SYSCALL.bits().trailing_zeros() as usize] = &[
        (word::STAR, Field::Star),
        (word::LSTAR, Field::Lstar),
        (word::CSTAR, Field::Cstar),
        (word::SFMASK, Field::Sfmask),
        (word::KERNEL_GS_BASE, Field::KernelGsBase),
    ];
    table[Mtd::SYSENTER.bits().trailing_zeros() as usize] = &[
        (word::SYSENTER_CS, Field::SysenterCs),
        (word::SYSENTER_ESP, Field::SysenterEsp),
        (word::SYSENTER_EIP, Field::SysenterEip),
    ];
    table[Mtd::PAT.bits().trailing_zeros() as usize] = &[(word::PAT, Field::Pat)];
    table
};

/// Selection bits that [`TABLE`] covers.
const PLAIN: u32 = {
    let (mut bits, mut i) = (0, 0);
    while i < TABLE.len() {
        if !TABLE[i].is_empty() {
            bits |= 1 << i;
        }
        i += 1;
    }
    bits
};

/// Features found at boot.
static FEATURES: AtomicU64 = AtomicU64::new(0);

/// Looks for hardware virtualisation, on the boot CPU.
pub fn detect() -> Features {
    let features = svm::detect();
    FEATURES.store(features.bits(), Relaxed);
    features
}

/// Whether vCPUs can be created.
pub fn available() -> bool {
    Features::from_bits_truncate(FEATURES.load(Relaxed)).intersects(Features::SVM | Features::VMX)
}

/// Features found at boot.
pub fn features() -> Features {
    Features::from_bits_truncate(FEATURES.load(Relaxed))
}

/// Instruction pointer of a vCPU.
pub fn rip(ec: &'static Ec) -> u64 {
    svm::Vmcb::of(ec).field(Field::Rip)
}

/// Copies the selected state (but the general-purpose registers) to `utcb`. Returns the instruction pointer.
#[inline(always)]
pub fn save(ec: &'static Ec, utcb: Page, mtd: Mtd) -> u64 {
    let vmcb = svm::Vmcb::of(ec);
    let mut bits = mtd.bits() & PLAIN;
    while bits != 0 {
        for &(word, field) in TABLE[bits.trailing_zeros() as usize] {
            utcb.write(word, vmcb.field(field));
        }
        bits &= bits - 1;
    }
    if mtd.bits() & !(PLAIN | Mtd::GPR.bits()) | mtd.bits() & Mtd::RIP.bits() != 0 {
        vmcb.save_special(ec, utcb, mtd);
    }
    vmcb.field(Field::Rip)
}

/// Takes the selected state from `utcb`.
#[inline(always)]
pub fn load(ec: &'static Ec, utcb: Page, mtd: Mtd) {
    let vmcb = svm::Vmcb::of(ec);
    let mut bits = mtd.bits() & PLAIN;
    while bits != 0 {
        for &(word, field) in TABLE[bits.trailing_zeros() as usize] {
            vmcb.set_field(field, utcb.read(word));
        }
        bits &= bits - 1;
    }
    if mtd.bits() & !(PLAIN | Mtd::GPR.bits()) != 0 {
        vmcb.load_special(ec, utcb, mtd);
    }
}

/// What the last exit of the current vCPU is about.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
    /// The hypervisor's business only: a host interrupt.
    Host,
    /// For the VMM: event number, reason word, and the two information words.
    Event(u64, u64, u64, u64),
}

/// Last thing before a vCPU is entered; the assembly code passes the frame through.
pub(super) extern "sysv64" fn prepare(frame: u64) -> u64 {
    let cpu = percpu::current();
    if let Some(ec) = cpu.current() {
        svm::Vmcb::of(ec).prepare(cpu, ec);
        let (xcr0, host) = (ec.frame().get(Reg::Xcr0), fpu::host_xcr0());
        if xcr0 != host {
            fpu::set_xcr0(xcr0);
        }
    }
    frame
}

/// CR4.OSXSAVE: only then can the guest have executed XSETBV.
const CR4_OSXSAVE: u64 = 1 << 18;

fn restore_xcr0(ec: &'static Ec) {
    let (host, entered) = (fpu::host_xcr0(), ec.frame().get(Reg::Xcr0));
    let may_have_changed = svm::Vmcb::of(ec).field(Field::Cr4) & CR4_OSXSAVE != 0;
    if host == 0 || entered == host && !may_have_changed {
        return;
    }
    // Not every implementation lets XSETBV exit, so the register is read back.
    let now = if may_have_changed { fpu::xcr0() } else { entered };
    ec.frame().set(Reg::Xcr0, now);
    if now != host {
        fpu::set_xcr0(host);
    }
}

/// A vCPU has exited.
pub(super) extern "sysv64" fn vm_exit() -> Resume {
    let cpu = percpu::current();
    let Some(ec) = cpu.current() else {
        return sched::schedule(cpu);
    };
    let exit = svm::Vmcb::of(ec).exit(cpu, ec);
    restore_xcr0(ec);
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

/// Window requests in an injection word.
pub const WINDOWS: u64 = Injection::INTERRUPT_WINDOW | Injection::NMI_WINDOW;
