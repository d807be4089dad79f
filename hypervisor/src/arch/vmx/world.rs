//! Around a world switch: what the processor does not do itself before an entry and after an exit.

use super::state::{Vmcs, active};
use super::vmcs::{self, Code};
use super::{caps, event, flush};
use crate::arch::percpu::Area;
use crate::arch::tags;
use crate::arch::virt::{Backend, Field, debug, exception};
use crate::arch::x86;
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::event::{Event, GPRS, raise};
use crate::frame::{Frame, RENEW, Reg};
use crate::sched::Resume;
use abi::event::guest;
use abi::state::Injection;

/// VPIDs have 16 bits.
const VPIDS: u64 = 1 << 16;

/// How to enter, for `arch::entry`: VMLAUNCH; anything else is VMRESUME.
pub const ENTRY_LAUNCH: u64 = active::FRESH;

/// Basic exit reasons (SDM vol. 3, appendix C).
mod reason {
    pub const EXCEPTION: u64 = 0;
    pub const INTERRUPT: u64 = 1;
    pub const INTERRUPT_WINDOW: u64 = 7;
    pub const NMI_WINDOW: u64 = 8;
    pub const CONTROL_REGISTER: u64 = 28;
    pub const MACHINE_CHECK_AT_ENTRY: u64 = 41;
    pub const EPT_VIOLATION: u64 = 48;
    pub const PREEMPTION_TIMER: u64 = 52;
    /// The entry failed.
    pub const ENTRY_FAILURE: u64 = 1 << 31;
    pub const BASIC: u64 = 0xffff;
    /// Highest one that is its own event number.
    pub const LAST: u64 = 0xef;
}

/// Gets `ec`, which is current, ready for its next entry. Returns how to enter it.
#[inline(always)]
pub fn prepare(cpu: &'static Cpu, ec: &'static Ec, frame: Frame) -> u64 {
    let this = Vmcs::with(frame);
    let generation = ec.guest.get().map_or(0, |space| space.generation());
    if frame.get(Reg::AsidGeneration) == cpu.asid_generation.get() && frame.get(Reg::SpaceGeneration) == generation {
        complete(cpu, this)
    } else {
        renew(cpu, this, generation)
    }
}

/// Gets the rest ready that is not as it was at the last entry. Returns how to enter.
#[inline(always)]
fn complete(cpu: &'static Cpu, this: Vmcs) -> u64 {
    let frame = this.frame();
    let root = cpu.root.get();
    if frame.get(Reg::HostRoot) != root {
        frame.set(Reg::HostRoot, root);
        vmcs::write(Code::HostCr3, root);
    }
    let cr2 = frame.get(Reg::Cr2);
    if x86::read_cr2() != cr2 {
        x86::write_cr2(cr2);
    }
    vmcs::write(Code::GuestRsp, frame.get(Reg::Rsp));
    frame.get(Reg::Active)
}

/// [`prepare`] where the tag or the translations are not what they were at the last entry, or there are breakpoints: gives the vCPU
/// a tag and flushes what must not be used any more.
#[cold]
#[inline(never)]
fn renew(cpu: &'static Cpu, this: Vmcs, generation: u64) -> u64 {
    let frame = this.frame();
    let next = tags::take(cpu, frame, VPIDS);
    if caps::has_vpid() {
        vmcs::write(Code::Vpid, next.tag.number);
    }
    let flush = flush::needed(next, frame.get(Reg::SpaceGeneration) & !RENEW, generation);
    frame.set(Reg::SpaceGeneration, generation | debug::arm(this, frame));
    flush.perform(vmcs::read(Code::EptPointer));
    complete(cpu, this)
}

/// What an exit leaves of the host's state that is not as the kernel wants it (SDM vol. 3, 28.5).
#[inline(always)]
fn repair_host(cpu: &'static Cpu) {
    cpu.fs_base.set(0);
    // The task segment now ends before the I/O bitmap: the next access to a port loads both again.
    cpu.pio.set(None);
    // Behind the segment descriptors there is other data, which user mode must not be able to load as one.
    Area::of(cpu).tables.load_gdt_register();
}

/// After each exit: raises the event that it is for the VMM, if it is.
#[inline(always)]
pub fn exit(this: Vmcs, cpu: &'static Cpu) -> Option<Resume> {
    repair_host(cpu);
    let frame = this.frame();
    frame.set(Reg::Rsp, vmcs::read(Code::GuestRsp));
    frame.set(Reg::Cr2, x86::read_cr2());
    let reason = vmcs::read(Code::ExitReason);
    if reason & reason::ENTRY_FAILURE != 0 {
        if reason & reason::BASIC == reason::MACHINE_CHECK_AT_ENTRY {
            exception::machine_check();
        }
        vmcs::write(Code::EntryEvent, 0);
        return Some(invalid(this, reason, vmcs::read(Code::Qualification)));
    }
    frame.set(Reg::Active, active::LAUNCHED);
    let basic = reason & reason::BASIC;
    match basic {
        reason::INTERRUPT | reason::PREEMPTION_TIMER => {
            this.keep_event();
            None
        }
        reason::EXCEPTION => {
            exception(this);
            None
        }
        reason::EPT_VIOLATION => Some(violation(this)),
        reason::CONTROL_REGISTER if agree(this) => None,
        _ => {
            if matches!(basic, reason::INTERRUPT_WINDOW | reason::NMI_WINDOW) {
                this.ask(0);
            }
            let number = if basic <= reason::LAST { basic } else { guest::INVALID_STATE };
            let next = if event::has_length(basic) {
                vmcs::read(Code::GuestRip).wrapping_add(vmcs::read(Code::ExitInstructionLength))
            } else {
                0
            };
            let event = Event { number, reason: basic, info1: vmcs::read(Code::Qualification), info2: next };
            Some(raise(frame, event))
        }
    }
}

/// The processor refused the instruction: its error number (SDM vol. 3, 31.4) tells why.
pub fn entry_failed(this: Vmcs) -> Resume {
    let error = vmcs::read(Code::InstructionError);
    vmcs::write(Code::EntryEvent, 0);
    invalid(this, error, 0)
}

#[cold]
fn invalid(this: Vmcs, reason: u64, info1: u64) -> Resume {
    raise(this.frame(), Event { number: guest::INVALID_STATE, reason, info1, info2: 0 })
}

#[cold]
fn violation(this: Vmcs) -> Resume {
    let qualification = vmcs::read(Code::Qualification);
    block_nmi_again(event::unblocked_nmi(qualification));
    let (info1, info2) = (event::nested_fault(qualification), vmcs::read(Code::GuestPhysical));
    raise(this.frame(), Event { number: guest::NESTED_FAULT, reason: reason::EPT_VIOLATION, info1, info2 })
}

/// An IRET that unblocks NMIs and then faults, though not in the delivery of another event, is executed again, with NMIs blocked.
fn block_nmi_again(unblocked: bool) {
    if unblocked && vmcs::read(Code::VectoringEvent) & Injection::VALID == 0 {
        let state = vmcs::read(Code::Interruptibility);
        vmcs::write(Code::Interruptibility, state | event::NMI);
    }
}

/// An exception or an NMI. The latter is the host's, which does nothing about it.
#[cold]
fn exception(this: Vmcs) {
    let info = vmcs::read(Code::ExitEvent);
    if event::kind(info) == abi::state::EventKind::Nmi as u64 {
        this.keep_event();
        return;
    }
    match event::vector(info) {
        exception::DEBUG => note_debug(this),
        exception::MACHINE_CHECK => exception::machine_check(),
        _ => {}
    }
    block_nmi_again(event::unblocked_nmi(info));
    this.deliver_again(info, vmcs::read(Code::ExitError));
}

/// Does to DR6 and DR7 what the processor left undone because the exception exited (SDM vol. 3, 28.1). A shadow, which INT1 does not wait
/// for, ends with the delivery: while single-stepping, an entry with one wants a debug exception pending that the exit has forgotten (27.3.1.5).
fn note_debug(this: Vmcs) {
    vmcs::write(Code::Interruptibility, event::without_shadow(vmcs::read(Code::Interruptibility)));
    let found = vmcs::read(Code::Qualification) & event::DEBUG_CAUSES;
    let status = this.field(Field::Dr6) & !event::DEBUG_BREAKPOINTS;
    this.set_field(Field::Dr6, status | found);
    if found & event::DEBUG_ACCESS != 0 {
        let control = this.field(Field::Dr7);
        this.set_field(Field::Dr7, control & !event::DEBUG_GENERAL_DETECT);
    }
}

/// MOV to CR0 or CR4 exits if it changes a bit that the processor must not have as the guest wants it. If it is only for those that
/// the guest may have so, the shadow takes them, and the guest executes the instruction again: it now changes none of them, and the
/// processor does the rest, with all its checks.
#[cold]
fn agree(this: Vmcs) -> bool {
    /// Qualification (SDM vol. 3, table 28-3): control register and type of access, general-purpose register.
    const REGISTER_AND_TYPE: u64 = 0x3f;
    const MOV_TO_CR0: u64 = 0;
    const MOV_TO_CR4: u64 = 4;
    const SOURCE_SHIFT: u32 = 8;
    const LOW_HALF: u64 = 0xffff_ffff;
    let qualification = vmcs::read(Code::Qualification);
    let (mask, shadow_at, free) = match qualification & REGISTER_AND_TYPE {
        MOV_TO_CR0 => (vmcs::read(Code::Cr0Mask), Code::Cr0Shadow, u64::MAX),
        MOV_TO_CR4 => (vmcs::read(Code::Cr4Mask), Code::Cr4Shadow, exception::CR4_MCE),
        _ => return false,
    };
    if mask == u64::MAX {
        return false;
    }
    let source = GPRS[(qualification >> SOURCE_SHIFT) as usize % GPRS.len()];
    let wanted = this.frame().get(source);
    let changed = (wanted ^ vmcs::read(shadow_at)) & mask;
    if wanted & !LOW_HALF != 0 || changed == 0 || changed & !free != 0 {
        return false;
    }
    vmcs::write(shadow_at, wanted);
    true
}
