//! AMD SVM (APM vol. 2, chapter 15; offsets from appendix B).
//!
//! | file | holds |
//! |---|---|
//! | this one | a new vCPU's control block: what exits, and where a vCPU's state is |
//! | `features` | what the CPU can do |
//! | `vmcb` | words of the control block, and which of them the processor may keep |
//! | `event` | injected and interrupted events |
//! | `world` | what happens right before an entry and right after an exit |
//! | `flush` | when translations are flushed |

mod event;
mod features;
mod flush;
mod vmcb;
mod world;

pub use features::{detect, is_qemu_tcg, used};
pub use world::prepare;

use super::fpu;
use super::virt::{Backend, Field, exception};
use super::x86::{self, Msr};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::frame::{Frame, Reg};
use crate::mem::{Page, Phys};
use crate::space::{msr::MsrSpace, pio::PioSpace};
use abi::state::{Controls, Interruptibility, Mtd, PDPTES, word};
use event::V_INTR_MASKING;
use features::{Has, has};
use vmcb::{Block, at};

/// Intercepts in the upper half of word [`at::EXCEPTIONS_3`] (vector 3, offset 0xc); the lower half has those of exceptions.
mod intercept3 {
    pub const INTR: u64 = 1 << 32;
    pub const NMI: u64 = 1 << 33;
    pub const SMI: u64 = 1 << 34;
    pub const INIT: u64 = 1 << 35;
    pub const VINTR: u64 = 1 << 36;
    pub const RDTSC: u64 = 1 << 46;
    pub const RDPMC: u64 = 1 << 47;
    pub const CPUID: u64 = 1 << 50;
    pub const RSM: u64 = 1 << 51;
    pub const IRET: u64 = 1 << 52;
    pub const INVD: u64 = 1 << 54;
    pub const PAUSE: u64 = 1 << 55;
    pub const HLT: u64 = 1 << 56;
    pub const INVLPG: u64 = 1 << 57;
    pub const INVLPGA: u64 = 1 << 58;
    pub const IOIO: u64 = 1 << 59;
    pub const MSR: u64 = 1 << 60;
    pub const FERR_FREEZE: u64 = 1 << 62;
    pub const SHUTDOWN: u64 = 1 << 63;
    /// What keeps the hypervisor in control, whatever the VMM wants.
    pub const ALWAYS: u64 =
        INTR | NMI | SMI | INIT | RDPMC | CPUID | RSM | INVD | INVLPGA | IOIO | MSR | FERR_FREEZE | SHUTDOWN;
}

/// Vector 4: VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, WBINVD and WBNOINVD, MONITOR, MWAIT (both), XSETBV; and by wish
/// RDTSCP.
const INTERCEPT4_ALWAYS: u64 = 0x7f | 1 << 9 | 7 << 10 | 1 << 13;
const INTERCEPT4_RDTSCP: u64 = 1 << 7;
/// CR8, reads and writes: the task priority belongs to the VMM's interrupt controller.
const CR8: u64 = 1 << 8 | 1 << 24;
const CR3_WRITE: u64 = 1 << 19;
const CR0_CR4_WRITE: u64 = 1 << 16 | 1 << 20;
/// All debug registers, reads and writes: DR0 to DR3 are not switched unless they have to be.
const DR_ALL: u64 = 0xffff_ffff << 32;
const EFER_SVME: u64 = 1 << 12;

/// Enables SVM on this CPU. `save` and `host` are pages for the processor's host state and for that of VMSAVE.
pub fn init(cpu: &'static Cpu, save: Page, host: Page) {
    x86::wrmsr(Msr::Efer, x86::rdmsr(Msr::Efer) | EFER_SVME);
    x86::wrmsr(Msr::VmHsavePa, save.phys().0);
    cpu.host_control.set(host.phys().0);
    // SAFETY: SVM is enabled and the page is ours; VMSAVE writes FS, GS, TR, LDTR and system-call registers to it.
    unsafe { core::arch::asm!("vmsave rax", in("rax") host.phys().0, options(nostack, preserves_flags)) };
}

/// A virtual machine control block.
#[derive(Clone, Copy)]
pub struct Vmcb(Block);

impl Vmcb {
    /// Sets up a zeroed page for a vCPU in these spaces. Without a space, everything exits.
    pub fn init(page: Page, root: Phys, pio: &PioSpace, msr: &MsrSpace) {
        let block = Block::at_virt(page.virt());
        let this = Self(block);
        this.set_controls(Controls::HLT);
        block.write(at::IOPM, pio.phys().0);
        block.write(at::MSRPM, msr.phys().0);
        block.write(at::NP_ENABLE, 1);
        block.write(at::N_CR3, root.0);
        block.write(at::VIRTUAL_INTERRUPT, V_INTR_MASKING);
        this.set_field(Field::Efer, 0);
    }

    /// Instruction bytes (APM vol. 2, 15.33.2): their number in the lowest byte, 0 where the exit does not come with any.
    fn save_instruction(self, utcb: Page) {
        let (low, high) = (self.0.read(at::INST_BYTES), self.0.read(at::INST_BYTES + 1));
        utcb.write(word::INST_BYTES_LEN, if has(Has::DECODE_ASSISTS) { low & 0xf } else { 0 });
        utcb.write(word::INST_BYTES, low >> 8 | high << 56);
        utcb.write(word::INST_BYTES + 1, high >> 8);
    }

    /// Length of the instruction that exited; 0 where the hardware does not say what the next one is.
    #[inline(always)]
    fn instruction_length(self) -> u64 {
        let next = self.0.read(at::NRIP);
        if !has(Has::NRIPS) || next == 0 {
            return 0;
        }
        next.wrapping_sub(self.0.read(at::RIP)) & 0xf
    }
}

impl Backend for Vmcb {
    /// With SS comes the privilege level.
    const WITH_MORE: Mtd = Mtd::CS_SS;

    #[inline(always)]
    fn with(frame: Frame) -> Self {
        Self(Block::at_virt(frame.get(Reg::ControlAt)))
    }

    #[inline(always)]
    fn field(self, field: Field) -> u64 {
        let value = self.0.field(field);
        if field as usize == Field::Efer as usize { value & !EFER_SVME } else { value }
    }

    #[inline(always)]
    fn set_field(self, field: Field, value: u64) {
        let value = if field as usize == Field::Efer as usize { value | EFER_SVME } else { value };
        self.0.set_field(field, value);
    }

    #[inline(always)]
    fn save_instruction_length(self, utcb: Page) {
        utcb.write(word::INST_LEN_INTERRUPTIBILITY, self.instruction_length());
    }

    fn save_special(self, ec: &'static Ec, utcb: Page, mtd: Mtd) {
        if mtd.intersects(Mtd::RIP | Mtd::STA) {
            let length = self.instruction_length();
            let shadow = self.0.read(at::SHADOW) & 1;
            utcb.write(word::INST_LEN_INTERRUPTIBILITY, length | shadow << 32);
            utcb.write(word::ACTIVITY_CONTROLS, 0);
        }
        if mtd.contains(Mtd::INJ) {
            utcb.write(word::INTERRUPTED, self.interrupted_event());
            let event = self.pending_interrupt().unwrap_or_else(|| self.0.read(at::EVENTINJ));
            utcb.write(word::INJECTION, event | ec.frame().get(Reg::Windows));
        }
        if mtd.contains(Mtd::CR) {
            utcb.write(word::CR8, self.0.read(at::VIRTUAL_INTERRUPT) & 0xf);
        }
        if mtd.contains(Mtd::PDPTE) {
            (0..PDPTES).for_each(|i| utcb.write(word::PDPTE + i, 0));
        }
        if mtd.contains(Mtd::INST_BYTES) {
            self.save_instruction(utcb);
        }
    }

    fn load_special(self, ec: &'static Ec, utcb: Page, mtd: Mtd) {
        if mtd.contains(Mtd::INJ) {
            self.inject(ec.frame(), utcb.read(word::INJECTION));
        }
        if mtd.contains(Mtd::STA) {
            let state = Interruptibility::from_bits_truncate((utcb.read(word::INST_LEN_INTERRUPTIBILITY) >> 32) as u32);
            self.0.write(at::SHADOW, u64::from(state.contains(Interruptibility::SHADOW)));
        }
        if mtd.contains(Mtd::CS_SS) {
            // The processor takes the privilege level from here, not from SS (APM vol. 2, 15.5.1).
            let dpl = self.0.read(at::SS) >> 16 >> 5 & 3;
            self.0.write(at::CPL, dpl << 24);
        }
    }

    fn set_controls(self, wish: Controls) {
        let mut crs = CR8;
        let mut third = intercept3::ALWAYS | exception::INTERCEPTED;
        let mut fourth = INTERCEPT4_ALWAYS;
        for (control, bits) in [(Controls::CR3_WRITE, CR3_WRITE), (Controls::CR0_CR4_WRITE, CR0_CR4_WRITE)] {
            if wish.contains(control) {
                crs |= bits;
            }
        }
        for (control, bits) in [
            (Controls::HLT, intercept3::HLT),
            (Controls::PAUSE, intercept3::PAUSE),
            (Controls::INVLPG, intercept3::INVLPG),
            (Controls::RDTSC, intercept3::RDTSC),
        ] {
            if wish.contains(control) {
                third |= bits;
            }
        }
        if wish.contains(Controls::RDTSC) {
            fourth |= INTERCEPT4_RDTSCP;
        }
        let window = self.0.read(at::EXCEPTIONS_3) & (intercept3::VINTR | intercept3::IRET);
        self.0.write(at::CR_DR, crs | DR_ALL);
        self.0.write(at::EXCEPTIONS_3, third | window);
        self.0.write(at::VECTOR_4, fourth);
    }

    /// Not every implementation lets XSETBV exit, which a guest could have executed with CR4.OSXSAVE only.
    #[inline(always)]
    fn may_have_set_xcr0(self) -> bool {
        self.field(Field::Cr4) & fpu::CR4_OSXSAVE != 0
    }
}

#[cfg(test)]
mod tests;
