//! Delivery of a vCPU's state to the handler of its event, and acceptance of what the handler changed.

use super::field::{EMULATE_PLAIN, EMULATE_WORDS, Field, PLAIN, TABLE};
use super::{debug, is_vmx};
use crate::arch::{fpu, percpu, svm, tsc, vmx};
use crate::ec::Ec;
use crate::event;
use crate::frame::{Frame, Reg};
use crate::mem::{Object, Page};
use crate::sched;
use abi::state::{Controls, Injection, Mtd, word};

/// A vendor's way to run vCPUs: where a vCPU's state is kept between an exit and the next entry.
pub trait Backend: Copy {
    /// The state of the vCPU with this frame.
    fn with(frame: Frame) -> Self;
    /// A word of state.
    fn field(self, field: Field) -> u64;
    /// Sets a word of state.
    fn set_field(self, field: Field, value: u64);
    /// Delivers what is not a plain word.
    fn save_special(self, ec: &'static Ec, utcb: Page, mtd: Mtd);
    /// Delivers what comes with the instruction pointer and is not a plain word.
    fn save_instruction_length(self, utcb: Page);
    /// Sets which instructions exit at the VMM's wish.
    fn set_controls(self, wish: Controls);
    /// Accepts what is not a plain word, after those that are.
    fn load_special(self, ec: &'static Ec, utcb: Page, mtd: Mtd);
    /// Selection bits that lead to [`Backend::load_special`] although they are plain words.
    const WITH_MORE: Mtd;
    /// Whether the guest may have changed XCR0 since it was entered.
    fn may_have_set_xcr0(self) -> bool;
    /// The state has been delivered or accepted, perhaps on another CPU than the vCPU's.
    #[inline(always)]
    fn done(self, _ec: &'static Ec) {}
}

/// Window requests in an injection word.
pub const WINDOWS: u64 = Injection::INTERRUPT_WINDOW | Injection::NMI_WINDOW;

/// What a decision about interrupts takes where no instruction has ended, as at a recall.
const DECIDE: Mtd = Mtd::RFLAGS.union(Mtd::STA).union(Mtd::INJ);

/// Instruction pointer of a vCPU.
pub fn rip(ec: &'static Ec) -> u64 {
    fn of<B: Backend>(ec: &'static Ec) -> u64 {
        let this = B::with(ec.frame());
        let rip = this.field(Field::Rip);
        this.done(ec);
        rip
    }
    if is_vmx() { of::<vmx::Vmcs>(ec) } else { of::<svm::Vmcb>(ec) }
}

/// Copies the selected state (but the general-purpose registers) to `utcb`. Returns the instruction pointer.
pub fn save(ec: &'static Ec, utcb: Page, mtd: Mtd) -> u64 {
    fn of<B: Backend>(ec: &'static Ec, utcb: Page, mtd: Mtd) -> u64 {
        let this = B::with(ec.frame());
        let rip = save_from(this, ec, utcb, mtd);
        this.done(ec);
        rip
    }
    if is_vmx() { of::<vmx::Vmcs>(ec, utcb, mtd) } else { of::<svm::Vmcb>(ec, utcb, mtd) }
}

/// [`save`], registers too, after an exit with SVM. Entered from `arch::fastpath`.
pub(in crate::arch) extern "sysv64" fn deliver_svm(frame: Frame, ec: &'static Ec, utcb: Page, mtd: u32) -> u64 {
    event::save_gprs(frame, utcb, Mtd::from_bits_retain(mtd));
    save_from(svm::Vmcb::with(frame), ec, utcb, Mtd::from_bits_retain(mtd))
}

/// The same with VMX.
pub(in crate::arch) extern "sysv64" fn deliver_vmx(frame: Frame, ec: &'static Ec, utcb: Page, mtd: u32) -> u64 {
    event::save_gprs(frame, utcb, Mtd::from_bits_retain(mtd));
    save_from(vmx::Vmcs::entered(frame), ec, utcb, Mtd::from_bits_retain(mtd))
}

/// [`save`] from a backend's state of `ec`.
#[inline(always)]
fn save_from<B: Backend>(this: B, ec: &'static Ec, utcb: Page, mtd: Mtd) -> u64 {
    let more = mtd - Mtd::GPR;
    // What most events are handled with does without the table.
    if more == Mtd::RIP {
        let rip = this.field(Field::Rip);
        utcb.write(word::RIP, rip);
        this.save_instruction_length(utcb);
        return rip;
    }
    if more == Mtd::RFLAGS {
        utcb.write(word::RFLAGS, this.field(Field::Rflags));
    } else if more == Mtd::RFLAGS | Mtd::XCR0 {
        utcb.write(word::RFLAGS, this.field(Field::Rflags));
        save_xcr0(this, ec, utcb);
    } else if !more.is_empty() {
        return save_more(this, ec, utcb, more);
    }
    this.field(Field::Rip)
}

/// Any selected state.
#[inline(never)]
fn save_more<B: Backend>(this: B, ec: &'static Ec, utcb: Page, mtd: Mtd) -> u64 {
    if mtd == DECIDE {
        utcb.write(word::RFLAGS, this.field(Field::Rflags));
        this.save_special(ec, utcb, DECIDE);
        return this.field(Field::Rip);
    }
    let mut bits = mtd.bits() & PLAIN;
    if bits & EMULATE_PLAIN == EMULATE_PLAIN {
        save_emulated(this, utcb);
        bits &= !EMULATE_PLAIN;
    }
    while bits != 0 {
        for &(word, field) in TABLE[bits.trailing_zeros() as usize] {
            utcb.write(word, this.field(field));
        }
        bits &= bits - 1;
    }
    if mtd.bits() & !PLAIN | mtd.bits() & (Mtd::RIP | Mtd::DR | Mtd::TSC).bits() != 0 {
        this.save_special(ec, utcb, mtd);
        save_extended(this, ec, utcb, mtd);
    }
    this.field(Field::Rip)
}

/// XCR0 as the guest can read it.
#[inline(always)]
fn save_xcr0<B: Backend>(this: B, ec: &'static Ec, utcb: Page) {
    let is_visible = this.field(Field::Cr4) & fpu::CR4_OSXSAVE != 0;
    utcb.write(word::XCR0, if is_visible { ec.frame().get(Reg::Xcr0) } else { 0 });
}

/// What an emulator reads: a load and a store for each word, because a loop would take six times as many instructions.
#[inline(always)]
fn save_emulated<B: Backend>(this: B, utcb: Page) {
    macro_rules! save {
        ($($index:literal)*) => {
            const _: () = assert!(EMULATE_WORDS.len() == [$($index),*].len());
            $(
                let (word, field) = const { EMULATE_WORDS[$index] };
                utcb.write(word, this.field(field));
            )*
        };
    }
    save!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18);
}

/// What the context page holds, whatever the vendor.
fn save_extended<B: Backend>(this: B, ec: &'static Ec, utcb: Page, mtd: Mtd) {
    if mtd.contains(Mtd::XCR0) {
        save_xcr0(this, ec, utcb);
    }
    if mtd.contains(Mtd::DR) {
        debug::save(ec.frame(), utcb);
    }
    if mtd.contains(Mtd::TSC) {
        utcb.write(word::TSC_VALUE, tsc::read().wrapping_add(this.field(Field::TscOffset)));
    }
    if mtd.contains(Mtd::XMM) {
        if percpu::current().current().is_some_and(|current| current.addr() == ec.addr()) {
            fpu::save(ec);
        }
        for i in 0..fpu::XMM_WORDS {
            utcb.write(word::XMM + i, ec.frame().0.read(fpu::XMM_AT + i));
        }
    }
}

/// Takes the selected state (but the general-purpose registers) from `utcb`.
pub fn load(ec: &'static Ec, utcb: Page, mtd: Mtd) {
    fn of<B: Backend>(ec: &'static Ec, utcb: Page, mtd: Mtd) {
        let this = B::with(ec.frame());
        load_into(this, ec, utcb, mtd);
        this.done(ec);
    }
    if is_vmx() { of::<vmx::Vmcs>(ec, utcb, mtd) } else { of::<svm::Vmcb>(ec, utcb, mtd) }
}

/// [`load`], registers too, on the vCPU's own CPU, with SVM. Entered from `arch::fastpath`.
pub(in crate::arch) extern "sysv64" fn accept_svm(frame: Frame, ec: &'static Ec, utcb: Page, mtd: u32) {
    event::load_gprs(frame, utcb, Mtd::from_bits_retain(mtd));
    load_into(svm::Vmcb::with(frame), ec, utcb, Mtd::from_bits_retain(mtd));
}

/// The same with VMX.
pub(in crate::arch) extern "sysv64" fn accept_vmx(frame: Frame, ec: &'static Ec, utcb: Page, mtd: u32) {
    event::load_gprs(frame, utcb, Mtd::from_bits_retain(mtd));
    load_into(vmx::Vmcs::with(frame), ec, utcb, Mtd::from_bits_retain(mtd));
}

#[inline(always)]
fn load_into<B: Backend>(this: B, ec: &'static Ec, utcb: Page, mtd: Mtd) {
    let more = mtd - Mtd::GPR;
    if more == Mtd::RIP {
        this.set_field(Field::Rip, utcb.read(word::RIP));
    } else if more == Mtd::RIP | Mtd::RFLAGS {
        this.set_field(Field::Rip, utcb.read(word::RIP));
        this.set_field(Field::Rflags, utcb.read(word::RFLAGS));
    } else if !more.is_empty() {
        load_more(this, ec, utcb, more);
    }
}

/// Any selected state.
#[inline(never)]
fn load_more<B: Backend>(this: B, ec: &'static Ec, utcb: Page, mtd: Mtd) {
    if mtd == Mtd::RIP | Mtd::DEADLINE {
        this.set_field(Field::Rip, utcb.read(word::RIP));
        return load_deadline(ec, utcb);
    }
    if mtd == Mtd::INJ {
        return this.load_special(ec, utcb, Mtd::INJ);
    }
    let mut bits = mtd.bits() & PLAIN;
    while bits != 0 {
        for &(word, field) in TABLE[bits.trailing_zeros() as usize] {
            this.set_field(field, utcb.read(word));
        }
        bits &= bits - 1;
    }
    if mtd.bits() & !(PLAIN & !(B::WITH_MORE | Mtd::DR).bits()) != 0 {
        this.load_special(ec, utcb, mtd);
        load_extended(this, ec, utcb, mtd);
    }
}

fn load_deadline(ec: &'static Ec, utcb: Page) {
    sched::set_deadline(percpu::current(), ec, utcb.read(word::DEADLINE));
}

/// Apart from [`load_more`], whose frequent replies are not to pay for the registers that this needs.
#[cold]
#[inline(never)]
fn load_controls<B: Backend>(this: B, utcb: Page) {
    let wish = (utcb.read(word::ACTIVITY_CONTROLS) >> 32) as u32;
    this.set_controls(Controls::from_bits_truncate(wish));
}

fn load_extended<B: Backend>(this: B, ec: &'static Ec, utcb: Page, mtd: Mtd) {
    if mtd.contains(Mtd::XCR0) {
        let (value, host) = (utcb.read(word::XCR0), fpu::host_xcr0());
        if value & !host == 0 && value & 1 != 0 {
            ec.frame().set(Reg::Xcr0, value);
        }
    }
    if mtd.contains(Mtd::DR) {
        debug::load(this, ec.frame(), utcb);
    }
    if mtd.contains(Mtd::CTRL) {
        load_controls(this, utcb);
    }
    if mtd.contains(Mtd::TLB_FLUSH) {
        // A new tag has no translations.
        ec.frame().set(Reg::AsidGeneration, 0);
    }
    if mtd.contains(Mtd::DEADLINE) {
        load_deadline(ec, utcb);
    }
    if mtd.contains(Mtd::XMM) {
        for i in 0..fpu::XMM_WORDS {
            ec.frame().0.write(fpu::XMM_AT + i, utcb.read(word::XMM + i));
        }
        fpu::sse_written(ec);
    }
}
