//! Around a world switch: what the processor does not do itself before an entry and after an exit.

use super::features::{ASIDS, Has, has};
use super::vmcb::at;
use super::{Vmcb, flush};
use crate::arch::tags;
use crate::arch::virt::{Backend, debug, exception};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::event::Event;
use crate::frame::{Frame, RENEW, Reg};
use abi::event::guest;
use abi::state::Injection;
use core::sync::atomic::Ordering::Relaxed;

pub(super) const TLB_CONTROL_SHIFT: u32 = 32;

/// Some implementations report the invalid state with 32 bits of ones only.
pub(super) const EXITCODE_MASK: u64 = 0xffff_ffff;

/// Exit codes (APM vol. 2, appendix C).
pub(super) mod code {
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

impl Vmcb {
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
}

/// Before each entry: an address-space id that is this vCPU's on this CPU, and a flush where translations changed. Returns the
/// address of the frame.
#[inline(always)]
pub fn prepare(cpu: &'static Cpu, ec: &'static Ec, frame: Frame) -> u64 {
    enter(cpu, frame, ec.guest.get().map_or(0, |space| space.generation()))
}

/// [`prepare`] in a guest space of this generation.
#[inline(always)]
pub(super) fn enter(cpu: &'static Cpu, frame: Frame, generation: u64) -> u64 {
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
