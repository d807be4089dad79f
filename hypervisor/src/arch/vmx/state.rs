//! Where a vCPU's state is: in the control structure, in the context page, or in the MSR area that entries load and exits store.

use super::vmcs::{self, Code};
use super::{caps, event, segment, setup};
use crate::arch::percpu;
use crate::arch::virt::{Backend, FIELDS, Field, WINDOWS};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::frame::{Frame, MSRS_AT, Reg};
use crate::mem::{Page, Phys};
use abi::state::{Controls, Injection, Interruptibility, Mtd, PDPTES, word};

/// Where a [`Field`] is.
#[derive(Clone, Copy)]
enum Place {
    /// In this field of the control structure.
    Plain(Code),
    /// Selector, attributes and limit of a segment, in three fields.
    Segment(usize),
    /// Base of a segment.
    Base(usize),
    /// Limit of a descriptor table, by the index of its base.
    Limit(usize),
    /// In the context page.
    Frame(Reg),
    /// In the MSR area, at this index of [`crate::frame::MSRS`].
    Msr(usize),
    /// In a register with mask and shadow.
    Cr0,
    Cr4,
}

/// Place of each field, in its order.
const PLACES: [Place; FIELDS] = {
    let mut places = [Place::Cr0; FIELDS];
    let plain = [
        (Field::Rip, Code::GuestRip),
        (Field::Rflags, Code::GuestRflags),
        (Field::Cr3, Code::GuestCr3),
        (Field::Dr7, Code::GuestDr7),
        (Field::Efer, Code::GuestEfer),
        (Field::SysenterCs, Code::GuestSysenterCs),
        (Field::SysenterEsp, Code::GuestSysenterEsp),
        (Field::SysenterEip, Code::GuestSysenterEip),
        (Field::Pat, Code::GuestPat),
        (Field::TscOffset, Code::TscOffset),
    ];
    let mut i = 0;
    while i < plain.len() {
        places[plain[i].0 as usize] = Place::Plain(plain[i].1);
        i += 1;
    }
    let mut at = Field::Es as usize;
    while at <= Field::IdtrBase as usize {
        let index = (at - Field::Es as usize) / 2;
        places[at] = if at < Field::Gdtr as usize { Place::Segment(index) } else { Place::Limit(index) };
        places[at + 1] = Place::Base(index);
        at += 2;
    }
    let mut msr = Field::Star as usize;
    while msr <= Field::KernelGsBase as usize {
        places[msr] = Place::Msr(msr - Field::Star as usize);
        msr += 1;
    }
    places[Field::Cr0 as usize] = Place::Cr0;
    places[Field::Cr4 as usize] = Place::Cr4;
    places[Field::Cr2 as usize] = Place::Frame(Reg::Cr2);
    places[Field::Dr6 as usize] = Place::Frame(Reg::Dr6);
    places
};

/// Bits of a segment word: selector, attributes, limit.
const ATTRIBUTES_SHIFT: u32 = 16;
const LIMIT_SHIFT: u32 = 32;
const SELECTOR: u64 = 0xffff;
/// Limits of descriptor tables have 16 bits (SDM vol. 3, 27.3.1.3).
const TABLE_LIMIT: u64 = 0xffff;

/// Bits of CR0 that do nothing while memory is cached as EPT and PAT say, and that the processor must not have.
pub const CR0_CACHE: u64 = 1 << 30 | 1 << 29;
/// Protection and paging.
pub const CR0_PE: u64 = 1 << 0;
/// See [`CR0_PE`].
pub const CR0_PG: u64 = 1 << 31;
const RFLAGS_IF: u64 = 1 << 9;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// State of a control structure in [`Reg::Active`].
pub mod active {
    /// In memory only.
    pub const NO: u64 = 0;
    /// On the vCPU's CPU, to be launched.
    pub const FRESH: u64 = 1;
    /// On the vCPU's CPU, to be resumed.
    pub const LAUNCHED: u64 = 2;
}

/// The control structure of a vCPU, current on this CPU.
#[derive(Clone, Copy)]
pub struct Vmcs(Frame);

impl Vmcs {
    /// The context page of the vCPU.
    #[inline(always)]
    pub fn frame(self) -> Frame {
        self.0
    }

    /// Value that the guest sees in a control register with mask and shadow.
    fn visible(register: Code, mask: Code, shadow: Code) -> u64 {
        let mask = vmcs::read(mask);
        vmcs::read(register) & !mask | vmcs::read(shadow) & mask
    }

    fn set_cr0(value: u64) {
        vmcs::write(Code::GuestCr0, value & !CR0_CACHE | caps::cr0_fixed());
        vmcs::write(Code::Cr0Shadow, value);
    }

    fn set_cr4(value: u64) {
        vmcs::write(Code::GuestCr4, value | caps::cr4_fixed());
        vmcs::write(Code::Cr4Shadow, value);
    }

    /// Whether paging and protection are on, for which the masks leave the processor's own register right.
    pub(super) fn is_protected() -> bool {
        vmcs::read(Code::GuestCr0) & CR0_PE != 0
    }

    /// Long mode is active exactly if it is enabled and paging is on; the entry control must agree (SDM vol. 3, 27.3.1.1).
    fn agree_on_mode() {
        let efer = vmcs::read(Code::GuestEfer);
        let is_long = efer & EFER_LME != 0 && vmcs::read(Code::GuestCr0) & CR0_PG != 0;
        vmcs::write(Code::GuestEfer, efer & !EFER_LMA | if is_long { EFER_LMA } else { 0 });
        let entry = caps::controls().entry | if is_long { caps::entry::LONG_MODE } else { 0 };
        vmcs::write(Code::EntryControls, u64::from(entry));
    }

    /// Injects an event, and asks for windows.
    pub(super) fn inject(self, injection: u64) {
        let (info, error) = event::to_entry(injection, Self::is_protected());
        vmcs::write(Code::EntryEvent, info);
        if info != 0 {
            vmcs::write(Code::EntryError, error);
            vmcs::write(Code::EntryInstructionLength, 0);
        }
        self.ask(injection & WINDOWS);
    }

    /// Asks for windows, and for no others.
    pub(super) fn ask(self, windows: u64) {
        if self.0.get(Reg::Windows) != windows {
            self.0.set(Reg::Windows, windows);
            setup::set_windows(windows);
        }
    }

    /// An event that an exit interrupted and that is nobody's business but the guest's: deliver it at the next entry.
    pub(super) fn keep_event(self) {
        let interrupted = vmcs::read(Code::VectoringEvent);
        if interrupted & Injection::VALID != 0 {
            self.deliver_again(interrupted, vmcs::read(Code::VectoringError));
        }
    }

    /// Delivers an event of the last exit, in the processor's form, at the next entry.
    pub(super) fn deliver_again(self, info: u64, error: u64) {
        const RESERVED: u64 = 0x7fff_f000;
        vmcs::write(Code::EntryEvent, info & !RESERVED);
        vmcs::write(Code::EntryError, error);
        if event::is_software(info) {
            let length = vmcs::read(Code::ExitInstructionLength);
            vmcs::write(Code::EntryInstructionLength, length);
        }
    }

    /// The structure of a vCPU that has just been in the guest, or was refused: it is current and active.
    #[inline(always)]
    pub fn entered(frame: Frame) -> Self {
        Self(frame)
    }

    /// Length of the instruction that exited; 0 if the event is not about one.
    #[inline(always)]
    fn instruction_length(self) -> u64 {
        // Events that are no exits (startup, recall) have higher numbers than any reason.
        if event::has_length(self.0.get(Reg::EventReason)) { vmcs::read(Code::ExitInstructionLength) } else { 0 }
    }

    /// Gives the structure up if this is not the vCPU's own CPU, which can enter it only then.
    #[inline(always)]
    fn release_foreign(self, ec: &'static Ec) {
        let cpu = percpu::current();
        if ec.cpu.get() != cpu.index() {
            release(cpu, ec);
        }
    }
}

/// Takes the structure of a vCPU off this CPU, if it is there: before another CPU uses it, and before its memory is freed.
#[cold]
pub fn release(cpu: &'static Cpu, ec: &'static Ec) {
    let frame = ec.frame();
    if frame.get(Reg::Active) != active::NO {
        vmcs::clear(cpu, Phys(frame.get(Reg::Control)));
        frame.set(Reg::Active, active::NO);
    }
}

impl Backend for Vmcs {
    /// The entry control for long mode follows from these.
    const WITH_MORE: Mtd = Mtd::CR.union(Mtd::EFER);

    #[inline(always)]
    fn with(frame: Frame) -> Self {
        vmcs::make_current(percpu::current(), Phys(frame.get(Reg::Control)));
        if frame.get(Reg::Active) == active::NO {
            frame.set(Reg::Active, active::FRESH);
        }
        Self(frame)
    }

    #[inline(always)]
    fn field(self, field: Field) -> u64 {
        match PLACES[field as usize] {
            Place::Plain(code) => vmcs::read(code),
            Place::Base(index) => vmcs::read_segment_base(index),
            Place::Limit(index) => vmcs::read_array(Code::GuestLimit, index) << LIMIT_SHIFT,
            Place::Segment(index) => {
                let rights = vmcs::read_array(Code::GuestAccessRights, index);
                vmcs::read_array(Code::GuestSelector, index)
                    | segment::attributes(rights) << ATTRIBUTES_SHIFT
                    | vmcs::read_array(Code::GuestLimit, index) << LIMIT_SHIFT
            }
            Place::Frame(reg) => self.0.get(reg),
            Place::Msr(index) => self.0.0.read(MSRS_AT + 2 * index + 1),
            Place::Cr0 => Self::visible(Code::GuestCr0, Code::Cr0Mask, Code::Cr0Shadow),
            Place::Cr4 => Self::visible(Code::GuestCr4, Code::Cr4Mask, Code::Cr4Shadow),
        }
    }

    #[inline(always)]
    fn set_field(self, field: Field, value: u64) {
        match PLACES[field as usize] {
            Place::Plain(code) => vmcs::write(code, value),
            Place::Base(index) => vmcs::write_segment_base(index, value),
            Place::Limit(index) => {
                vmcs::write_array(Code::GuestLimit, index, value >> LIMIT_SHIFT & TABLE_LIMIT);
            }
            Place::Segment(index) => {
                let rights = segment::access_rights(value >> ATTRIBUTES_SHIFT);
                vmcs::write_array(Code::GuestSelector, index, value & SELECTOR);
                vmcs::write_array(Code::GuestAccessRights, index, rights);
                vmcs::write_array(Code::GuestLimit, index, value >> LIMIT_SHIFT);
            }
            Place::Frame(reg) => self.0.set(reg, value),
            Place::Msr(index) => self.0.0.write(MSRS_AT + 2 * index + 1, value),
            Place::Cr0 => Self::set_cr0(value),
            Place::Cr4 => Self::set_cr4(value),
        }
    }

    #[inline(always)]
    fn save_instruction_length(self, utcb: Page) {
        utcb.write(word::INST_LEN_INTERRUPTIBILITY, self.instruction_length());
    }

    fn save_special(self, _ec: &'static Ec, utcb: Page, mtd: Mtd) {
        if mtd.intersects(Mtd::RIP | Mtd::STA) {
            let length = self.instruction_length();
            let state = event::interruptibility(vmcs::read(Code::Interruptibility)).bits();
            utcb.write(word::INST_LEN_INTERRUPTIBILITY, length | u64::from(state) << 32);
            utcb.write(word::ACTIVITY_CONTROLS, vmcs::read(Code::Activity));
        }
        if mtd.contains(Mtd::INJ) {
            let pending = event::to_abi(vmcs::read(Code::EntryEvent), vmcs::read(Code::EntryError));
            let interrupted = event::to_abi(vmcs::read(Code::VectoringEvent), vmcs::read(Code::VectoringError));
            utcb.write(word::INTERRUPTED, interrupted);
            utcb.write(word::INJECTION, pending | self.0.get(Reg::Windows));
        }
        if mtd.contains(Mtd::CR) {
            utcb.write(word::CR8, 0);
        }
        if mtd.contains(Mtd::PDPTE) {
            (0..PDPTES).for_each(|i| utcb.write(word::PDPTE + i, vmcs::read_array(Code::GuestPdpte, i)));
        }
        if mtd.contains(Mtd::INST_BYTES) {
            utcb.write(word::INST_BYTES_LEN, 0);
        }
    }

    fn load_special(self, _ec: &'static Ec, utcb: Page, mtd: Mtd) {
        if mtd.intersects(Mtd::CR | Mtd::EFER) {
            Self::agree_on_mode();
        }
        if mtd.contains(Mtd::INJ) {
            self.inject(utcb.read(word::INJECTION));
        }
        if mtd.contains(Mtd::STA) {
            let wanted =
                Interruptibility::from_bits_truncate((utcb.read(word::INST_LEN_INTERRUPTIBILITY) >> 32) as u32);
            let enabled = vmcs::read(Code::GuestRflags) & RFLAGS_IF != 0;
            let old = vmcs::read(Code::Interruptibility);
            vmcs::write(Code::Interruptibility, event::blocking(old, wanted, enabled));
            vmcs::write(Code::Activity, utcb.read(word::ACTIVITY_CONTROLS) & 1);
        }
        if mtd.contains(Mtd::PDPTE) {
            (0..PDPTES).for_each(|i| vmcs::write_array(Code::GuestPdpte, i, utcb.read(word::PDPTE + i)));
        }
    }

    fn set_controls(self, wish: Controls) {
        // The masks change, what the guest sees does not.
        let (cr0, cr4) = (self.field(Field::Cr0), self.field(Field::Cr4));
        setup::set_controls(wish, self.0.get(Reg::Windows));
        Self::set_cr0(cr0);
        Self::set_cr4(cr4);
    }

    #[inline(always)]
    fn done(self, ec: &'static Ec) {
        self.release_foreign(ec);
    }

    /// XSETBV always exits.
    #[inline(always)]
    fn may_have_set_xcr0(self) -> bool {
        false
    }
}
