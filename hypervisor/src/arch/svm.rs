//! AMD SVM (APM vol. 2, chapter 15; offsets from appendix B).

mod features;
mod flush;
mod vmcb;

pub use features::{detect, is_qemu_tcg, used};

use super::virt::{Backend, Field, WINDOWS, debug, exception};
use super::x86::{self, Msr};
use super::{fpu, tags, tsc};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::event::Event;
use crate::frame::{Frame, RENEW, Reg};
use crate::mem::{Page, Phys};
use crate::space::{msr::MsrSpace, pio::PioSpace};
use abi::event::guest;
use abi::state::{Controls, EventKind, Injection, Interruptibility, Mtd, PDPTES, word};
use core::sync::atomic::Ordering::Relaxed;
use features::{ASIDS, Has, VIRTUAL_INTERRUPTS, has};
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

/// A virtual interrupt is pending (APM vol. 2, 15.21.4); the processor clears it when the guest takes it.
const V_IRQ_PENDING: u64 = 1 << 8;
/// The same with the highest priority, ignoring the task priority.
const V_IRQ: u64 = V_IRQ_PENDING | 0xf << 16 | 1 << 20;
const V_VECTOR_SHIFT: u32 = 32;
const V_INTR_MASKING: u64 = 1 << 24;
const TLB_CONTROL_SHIFT: u32 = 32;
const EFER_SVME: u64 = 1 << 12;

/// Some implementations report the invalid state with 32 bits of ones only.
const EXITCODE_MASK: u64 = 0xffff_ffff;

/// Exit codes (APM vol. 2, appendix C).
mod code {
    use super::exception;
    const EXCEPTION: u64 = 0x40;
    pub const DEBUG: u64 = EXCEPTION + exception::DEBUG;
    pub const ALIGNMENT_CHECK: u64 = EXCEPTION + exception::ALIGNMENT_CHECK;
    pub const MACHINE_CHECK: u64 = EXCEPTION + exception::MACHINE_CHECK;
    pub const INTR: u64 = 0x60;
    pub const NMI: u64 = 0x61;
    pub const SMI: u64 = 0x62;
    pub const INIT: u64 = 0x63;
    pub const VINTR: u64 = 0x64;
    pub const IRET: u64 = 0x74;
    pub const NPF: u64 = 0x400;
    /// Highest one that is its own event number.
    pub const LAST: u64 = 0xef;
}

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

    /// Instruction bytes (APM vol. 2, 15.33.2): their number in the lowest byte, 0 where the exit does not come with any.
    fn save_instruction(self, utcb: Page) {
        let (low, high) = (self.0.read(at::INST_BYTES), self.0.read(at::INST_BYTES + 1));
        utcb.write(word::INST_BYTES_LEN, if has(Has::DECODE_ASSISTS) { low & 0xf } else { 0 });
        utcb.write(word::INST_BYTES, low >> 8 | high << 56);
        utcb.write(word::INST_BYTES + 1, high >> 8);
    }

    /// Injects an event, and asks for windows by a virtual interrupt that exits when it could be taken.
    fn inject(self, frame: Frame, injection: u64) {
        self.ask(frame, injection & WINDOWS);
        if injection & Injection::INTERRUPT_WINDOW != 0 {
            self.0.write(at::VIRTUAL_INTERRUPT, V_INTR_MASKING | V_IRQ);
            self.0.write(at::EVENTINJ, injection & !WINDOWS);
        } else {
            self.set_event(injection & !WINDOWS);
        }
    }

    /// Intercepts what opens these windows, and no others.
    fn ask(self, frame: Frame, windows: u64) {
        if frame.get(Reg::Windows) != windows {
            frame.set(Reg::Windows, windows);
            let when = |window, intercept| if windows & window != 0 { intercept } else { 0 };
            let (interrupt, iret) = (Injection::INTERRUPT_WINDOW, Injection::NMI_WINDOW);
            let intercepts = when(interrupt, intercept3::VINTR) | when(iret, intercept3::IRET);
            let others = self.0.read(at::EXCEPTIONS_3) & !(intercept3::VINTR | intercept3::IRET);
            self.0.write(at::EXCEPTIONS_3, others | intercepts);
        }
    }

    /// Has the next entry deliver an event, where no interrupt window is asked for. A virtual interrupt stays pending by itself if an
    /// interrupt of the host comes first; nothing else can, because the guest can take it at once.
    fn set_event(self, event: u64) {
        let (event, pending) = match Injection(event) {
            event
                if event.is_valid()
                    && event.kind() == Some(EventKind::Interrupt)
                    && VIRTUAL_INTERRUPTS.load(Relaxed) =>
            {
                (0, V_IRQ | u64::from(event.vector()) << V_VECTOR_SHIFT)
            }
            _ => (event, 0),
        };
        self.0.write(at::VIRTUAL_INTERRUPT, V_INTR_MASKING | pending);
        self.0.write(at::EVENTINJ, event);
    }

    /// The interrupt that is to be delivered as a virtual one, as an event.
    fn pending_interrupt(self) -> Option<u64> {
        let pending = self.0.read(at::VIRTUAL_INTERRUPT);
        let is_event = pending & V_IRQ_PENDING != 0 && self.0.read(at::EXCEPTIONS_3) & intercept3::VINTR == 0;
        is_event.then_some(Injection::event(EventKind::Interrupt, (pending >> V_VECTOR_SHIFT) as u8).0)
    }

    /// The event whose delivery the exit interrupted. Of a virtual interrupt, which it has left pending, QEMU reports another type.
    fn interrupted_event(self) -> u64 {
        let event = self.0.read(at::EXITINTINFO);
        match self.pending_interrupt().filter(|_| event & Injection::VALID != 0) {
            Some(interrupt) => {
                self.0.write(at::VIRTUAL_INTERRUPT, V_INTR_MASKING);
                interrupt
            }
            None => event,
        }
    }

    /// After each exit. Returns the exit code.
    #[inline(always)]
    pub fn left(self, frame: Frame) -> u64 {
        frame.set(Reg::Rax, self.0.read(at::RAX));
        frame.set(Reg::Rsp, self.0.read(at::RSP));
        self.0.ran();
        self.0.write(at::EVENTINJ, 0);
        self.0.read(at::EXITCODE) & EXITCODE_MASK
    }

    /// What an exit is about for the VMM, unless it is for [`Vmcb::special`].
    #[inline(always)]
    pub fn event(self, reason: u64) -> Option<Event> {
        match reason {
            code::DEBUG | code::ALIGNMENT_CHECK | code::MACHINE_CHECK => None,
            code::INTR | code::NMI | code::SMI | code::INIT | code::VINTR | code::IRET => None,
            reason => (reason <= code::LAST).then(|| self.numbered(reason, reason)),
        }
    }

    #[inline(always)]
    fn numbered(self, number: u64, reason: u64) -> Event {
        Event { number, reason, info1: self.0.read(at::EXITINFO1), info2: self.0.read(at::EXITINFO2) }
    }

    /// After an exit whose code is not its event's number, or for an interrupt of the host or an exception that the guest gets, which
    /// are no events, or because a window has opened.
    #[inline(always)]
    pub fn special(self, frame: Frame, reason: u64) -> Option<Event> {
        let number = match reason {
            code::NPF => guest::NESTED_FAULT,
            // SMI and INIT are taken as the host's with GIF (APM vol. 2, 15.13), right after the exit, as NMIs are.
            code::INTR | code::NMI | code::SMI | code::INIT => {
                self.keep_event();
                return None;
            }
            // DR6 and DR7 are as the guest's handler is to see them already (APM vol. 2, 15.12.2); the error code of #AC is 0.
            code::DEBUG => {
                self.0.write(at::EVENTINJ, Injection::exception(exception::DEBUG as u8, None).0);
                return None;
            }
            code::ALIGNMENT_CHECK => {
                self.0.write(at::EVENTINJ, Injection::exception(exception::ALIGNMENT_CHECK as u8, Some(0)).0);
                return None;
            }
            code::MACHINE_CHECK => exception::machine_check(),
            code::VINTR | code::IRET => {
                self.inject(frame, self.0.read(at::EVENTINJ) & !Injection::VALID);
                reason
            }
            _ => {
                self.0.refused();
                guest::INVALID_STATE
            }
        };
        Some(self.numbered(number, reason))
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

    /// A host interrupt that arrived while an event was being delivered to the guest: deliver it at the next entry.
    fn keep_event(self) {
        let interrupted = self.0.read(at::EXITINTINFO);
        if interrupted & Injection::VALID == 0 || self.pending_interrupt().is_some() {
            return;
        }
        if self.0.read(at::EXCEPTIONS_3) & intercept3::VINTR == 0 {
            self.set_event(interrupted);
        } else {
            self.0.write(at::EVENTINJ, interrupted);
        }
    }
}

/// Before each entry: an address-space id that is this vCPU's on this CPU, and a flush where translations changed. Returns the
/// address of the frame.
#[inline(always)]
pub fn prepare(cpu: &'static Cpu, ec: &'static Ec, frame: Frame) -> u64 {
    enter(cpu, frame, ec.guest.get().map_or(0, |space| space.generation()))
}

/// [`prepare`] in a guest space of this generation.
#[inline(always)]
fn enter(cpu: &'static Cpu, frame: Frame, generation: u64) -> u64 {
    if frame.get(Reg::AsidGeneration) == cpu.asid_generation.get() && frame.get(Reg::SpaceGeneration) == generation {
        complete(frame)
    } else {
        renew(cpu, frame, generation)
    }
}

/// [`prepare`] where the address-space id or the translations are not what they were at the last entry, or there are breakpoints.
#[cold]
#[inline(never)]
fn renew(cpu: &'static Cpu, frame: Frame, generation: u64) -> u64 {
    let all = frame.get(Reg::AsidGeneration) != cpu.asid_generation.get()
        && tags::take(cpu, frame, ASIDS.load(Relaxed)).flush_all;
    let seen = frame.get(Reg::SpaceGeneration) & !RENEW;
    let flush = flush::needed(all, seen, generation, has(Has::FLUSH_BY_ASID));
    // The processor leaves the request as it is: the next entry comes here to take it back.
    let asks = if flush == flush::KEEP { 0 } else { RENEW };
    frame.set(Reg::SpaceGeneration, generation | asks | debug::arm(Vmcb::with(frame), frame));
    Vmcb::with(frame).0.write(at::ASID_TLB, frame.get(Reg::Asid) | flush << TLB_CONTROL_SHIFT);
    complete(frame)
}

#[inline(always)]
fn complete(frame: Frame) -> u64 {
    let block = Vmcb::with(frame).0;
    block.write(at::RAX, frame.get(Reg::Rax));
    block.write(at::RSP, frame.get(Reg::Rsp));
    frame.addr()
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
        if mtd.contains(Mtd::TSC) {
            let offset = self.0.read(at::TSC_OFFSET);
            utcb.write(word::TSC_OFFSET, offset);
            utcb.write(word::TSC_VALUE, tsc::read().wrapping_add(offset));
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
        if mtd.contains(Mtd::CTRL) {
            let wish = (utcb.read(word::ACTIVITY_CONTROLS) >> 32) as u32;
            self.set_controls(Controls::from_bits_truncate(wish));
        }
        if mtd.contains(Mtd::TSC) {
            self.0.write(at::TSC_OFFSET, utcb.read(word::TSC_OFFSET));
        }
        if mtd.contains(Mtd::CS_SS) {
            // The processor takes the privilege level from here, not from SS (APM vol. 2, 15.5.1).
            let dpl = self.0.read(at::SS) >> 16 >> 5 & 3;
            self.0.write(at::CPL, dpl << 24);
        }
    }

    /// Not every implementation lets XSETBV exit, which a guest could have executed with CR4.OSXSAVE only.
    #[inline(always)]
    fn may_have_set_xcr0(self) -> bool {
        self.field(Field::Cr4) & fpu::CR4_OSXSAVE != 0
    }
}

#[cfg(test)]
mod tests;
