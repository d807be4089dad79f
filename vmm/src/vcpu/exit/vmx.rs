//! Exits of Intel VMX (SDM3 chapter 28 and appendix C).

use abi::event::EventWords;
use abi::state::{EventKind, Injection};
use device_models::bus::port::{PortAccess, PortSize};

use super::{EntryFailure, Exit, NextRip, general};
use crate::emulator::{Cause, ControlRegister, InterceptedOperation, TaskSwitch};

/// Basic exit reasons (SDM3 appendix C), as far as they are told apart.
pub(super) mod reason {
    pub const TRIPLE_FAULT: u64 = 2;
    pub const INTERRUPT_WINDOW: u64 = 7;
    pub const NMI_WINDOW: u64 = 8;
    pub const TASK_SWITCH: u64 = 9;
    pub const CPUID: u64 = 10;
    pub const GETSEC: u64 = 11;
    pub const HLT: u64 = 12;
    pub const INVD: u64 = 13;
    pub const RDPMC: u64 = 15;
    pub const RSM: u64 = 17;
    /// The first of the instructions of VMX itself.
    pub const VMCALL: u64 = 18;
    pub const VMXON: u64 = 27;
    pub const CONTROL_REGISTER: u64 = 28;
    pub const DEBUG_REGISTER: u64 = 29;
    pub const IO: u64 = 30;
    pub const RDMSR: u64 = 31;
    pub const WRMSR: u64 = 32;
    pub const INVALID_GUEST_STATE: u64 = 33;
    pub const MSR_LOADING: u64 = 34;
    pub const MWAIT: u64 = 36;
    pub const MONITOR: u64 = 39;
    pub const PAUSE: u64 = 40;
    pub const MACHINE_CHECK: u64 = 41;
    pub const INVEPT: u64 = 50;
    pub const INVVPID: u64 = 53;
    pub const WBINVD: u64 = 54;
    pub const XSETBV: u64 = 55;
    pub const VMFUNC: u64 = 59;
    /// The entry failed.
    pub const ENTRY_FAILURE: u64 = 1 << 31;
}

/// Qualification of port I/O (SDM3 table 28-5).
mod io {
    /// One less than the number of bytes.
    pub const SIZE_MASK: u64 = 7;
    pub const IN: u64 = 1 << 3;
    pub const STRING: u64 = 1 << 4;
    pub const PORT_SHIFT: u32 = 16;
}

#[inline]
pub(super) fn decode(event: u64, words: &EventWords) -> Exit {
    match event {
        reason::IO => port_io(words),
        reason::WRMSR => Exit::MsrWrite,
        reason::RDMSR => Exit::MsrRead,
        reason::HLT => Exit::Halt,
        reason::CPUID => Exit::Cpuid,
        reason::INTERRUPT_WINDOW => Exit::InterruptWindow,
        _ => rare(event),
    }
}

fn rare(event: u64) -> Exit {
    match event {
        reason::CONTROL_REGISTER => Exit::ControlRegister,
        reason::DEBUG_REGISTER => Exit::DebugRegister,
        reason::RDPMC => Exit::ReadCounter,
        reason::NMI_WINDOW => Exit::NmiWindow,
        reason::INVD | reason::WBINVD => Exit::CacheControl,
        reason::PAUSE => Exit::Pause,
        reason::GETSEC | reason::RSM | reason::VMCALL..=reason::VMXON => Exit::Undefined,
        reason::MWAIT | reason::MONITOR | reason::INVEPT | reason::INVVPID | reason::VMFUNC => Exit::Undefined,
        reason::XSETBV => Exit::Xsetbv,
        reason::TASK_SWITCH => Exit::TaskSwitch,
        reason::TRIPLE_FAULT => Exit::Shutdown,
        _ => Exit::Unexpected,
    }
}

/// The task switch that an exit is about (SDM3 table 28-2), in whose course this event was to be delivered.
pub(super) fn task_switch(words: &EventWords, event: Injection) -> TaskSwitch {
    const SOURCE_SHIFT: u32 = 30;
    let by = match words.info1 >> SOURCE_SHIFT & 3 {
        0 => Cause::Call,
        1 => Cause::Iret,
        2 => Cause::Jump,
        _ => {
            let is_external = event.kind() != Some(EventKind::Software);
            Cause::Event { error_code: event.error_code(), is_external }
        }
    };
    let next = if by.is_external() { words.rip } else { words.info2 };
    TaskSwitch { to: words.info1 as u16, by, next }
}

/// Qualification of accesses to control and debug registers (SDM3 tables 28-3 and 28-4).
mod access {
    pub const NUMBER: u64 = 0xf;
    pub const DEBUG_NUMBER: u64 = 7;
    /// To a control register: MOV there, MOV from there; CLTS and LMSW are others.
    pub const TYPE_SHIFT: u32 = 4;
    pub const TYPE_MASK: u64 = 3;
    pub const TO: u64 = 0;
    pub const FROM: u64 = 1;
    /// From a debug register.
    pub const FROM_DEBUG: u64 = 1 << 4;
    pub const GENERAL_SHIFT: u32 = 8;
}

/// What MOV to or from a control or debug register moves.
pub(super) fn special_move(words: &EventWords) -> Option<InterceptedOperation> {
    use InterceptedOperation as O;
    let register = general(words.info1 >> access::GENERAL_SHIFT)?;
    if words.reason == reason::DEBUG_REGISTER {
        let number = (words.info1 & access::DEBUG_NUMBER) as u8;
        let is_read = words.info1 & access::FROM_DEBUG != 0;
        return Some(if is_read { O::ReadDebug { number, register } } else { O::WriteDebug { number, register } });
    }
    let control = ControlRegister::from_number(words.info1 & access::NUMBER)?;
    match words.info1 >> access::TYPE_SHIFT & access::TYPE_MASK {
        access::TO => Some(O::WriteControl { control, register }),
        access::FROM => Some(O::ReadControl { control, register }),
        _ => None,
    }
}

#[inline]
fn port_io(words: &EventWords) -> Exit {
    let bytes = (words.info1 & io::SIZE_MASK) as u8 + 1;
    let Some(size) = PortSize::from_bytes(bytes) else {
        return Exit::Unexpected;
    };
    let access = PortAccess { port: (words.info1 >> io::PORT_SHIFT) as u16, size };
    let next = NextRip(words.info2);
    super::port_io(access, next, words.info1 & io::STRING != 0, words.info1 & io::IN != 0)
}

/// Why the CPU refused an entry.
pub(super) fn entry_failure(words: &EventWords) -> EntryFailure {
    if words.reason & reason::ENTRY_FAILURE == 0 {
        return EntryFailure::Instruction(words.reason);
    }
    match words.reason & !reason::ENTRY_FAILURE {
        reason::INVALID_GUEST_STATE => EntryFailure::GuestState(words.info1),
        reason::MSR_LOADING => EntryFailure::Msr(words.info1),
        reason::MACHINE_CHECK => EntryFailure::MachineCheck,
        _ => EntryFailure::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(info1: u64, info2: u64) -> EventWords {
        EventWords { info1, info2, ..EventWords::default() }
    }

    #[test]
    fn port_accesses_carry_everything() {
        // OUT DX, AL to 3F8h.
        let out = decode(reason::IO, &words(0x03f8_0000, 0x1234));
        assert_eq!(out, Exit::PortOut(PortAccess::byte(0x3f8), NextRip(0x1234)));
        // IN EAX, DX from CFCh.
        let access = PortAccess { port: 0xcfc, size: PortSize::Dword };
        assert_eq!(decode(reason::IO, &words(0x0cfc_000b, 2)), Exit::PortIn(access, NextRip(2)));
        // IN AX, 60h.
        let access = PortAccess { port: 0x60, size: PortSize::Word };
        assert_eq!(decode(reason::IO, &words(0x0060_0049, 2)), Exit::PortIn(access, NextRip(2)));
        // REP INSW.
        assert_eq!(decode(reason::IO, &words(0x01f0_0039, 2)), Exit::PortString);
        // Three bytes.
        assert_eq!(decode(reason::IO, &words(0x01f0_0002, 2)), Exit::Unexpected);
    }

    #[test]
    fn task_switches_tell_where_to_and_why() {
        const GATE: u64 = 3 << 30;
        let words = |source| EventWords { rip: 0x1000, ..words(source | 0x28, 0x1002) };
        for (number, by) in (0..).zip([Cause::Call, Cause::Iret, Cause::Jump]) {
            let expected = TaskSwitch { to: 0x28, by, next: 0x1002 };
            assert_eq!(task_switch(&words(number << 30), Injection::NONE), expected);
        }
        let event = |error_code, is_external| Cause::Event { error_code, is_external };
        let by_gate = |event| task_switch(&words(GATE), event);
        let exception = by_gate(Injection::exception(13, Some(0x18)));
        assert_eq!((exception.by, exception.next), (event(Some(0x18), true), 0x1000));
        let instruction = by_gate(Injection::event(EventKind::Software, 0x80));
        assert_eq!((instruction.by, instruction.next), (event(None, false), 0x1002));
    }

    #[test]
    fn every_exit_that_cannot_be_turned_off_is_known() {
        // SDM3 28.1.2 and 28.1.3, with the controls that the hypervisor always sets. What is not here is the hypervisor's own or
        // never asked for.
        let known = [2, 7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32]
            .into_iter()
            .chain([36, 39, 40, 50, 53, 54, 55, 59]);
        for event in known {
            assert_ne!(decode(event, &words(0, 0)), Exit::Unexpected, "{event}");
        }
        // An EPT entry that cannot be.
        assert_eq!(decode(49, &words(0, 0)), Exit::Unexpected);
    }

    #[test]
    fn the_reason_of_a_failed_entry_is_told() {
        let failure = |reason, info1| entry_failure(&EventWords { reason, info1, ..EventWords::default() });
        assert_eq!(failure(0x8000_0021, 2), EntryFailure::GuestState(2));
        assert_eq!(failure(0x8000_0022, 1), EntryFailure::Msr(1));
        assert_eq!(failure(0x8000_0029, 0), EntryFailure::MachineCheck);
        assert_eq!(failure(7, 0), EntryFailure::Instruction(7));
    }
}
