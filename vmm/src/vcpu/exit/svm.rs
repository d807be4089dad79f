//! Exits of AMD SVM (APM2 chapter 15).

use abi::event::EventWords;
use device_models::bus::port::{PortAccess, PortSize};

use super::{Exit, NextRip, general};
use crate::emulator::{ControlRegister, InterceptedOperation};

/// Exit codes (APM2 appendix C), as far as they are told apart.
pub(super) mod code {
    pub const CR_READ: u64 = 0x00;
    pub const CR_WRITE_LAST: u64 = 0x1f;
    pub const DR_READ: u64 = 0x20;
    pub const DR_WRITE_LAST: u64 = 0x3f;
    pub const VINTR: u64 = 0x64;
    pub const CR0_SEL_WRITE: u64 = 0x65;
    pub const RDPMC: u64 = 0x6f;
    pub const CPUID: u64 = 0x72;
    pub const RSM: u64 = 0x73;
    pub const IRET: u64 = 0x74;
    pub const INVD: u64 = 0x76;
    pub const PAUSE: u64 = 0x77;
    pub const HLT: u64 = 0x78;
    pub const INVLPGA: u64 = 0x7a;
    pub const IOIO: u64 = 0x7b;
    pub const MSR: u64 = 0x7c;
    pub const SHUTDOWN: u64 = 0x7f;
    pub const VMRUN: u64 = 0x80;
    pub const SKINIT: u64 = 0x86;
    pub const WBINVD: u64 = 0x89;
    pub const MONITOR: u64 = 0x8a;
    pub const MWAIT_CONDITIONAL: u64 = 0x8c;
    pub const XSETBV: u64 = 0x8d;
}

/// EXITINFO1 of port I/O (APM2 15.10.2).
mod ioio {
    pub const IN: u64 = 1 << 0;
    pub const STRING: u64 = 1 << 2;
    pub const SIZE_SHIFT: u32 = 4;
    pub const SIZE_MASK: u64 = 7;
    pub const PORT_SHIFT: u32 = 16;
}

/// Decodes an exit. A call would pass the result through memory.
#[inline(always)]
pub(super) fn decode(event: u64, words: &EventWords) -> Exit {
    match event {
        code::IOIO => port_io(words),
        code::MSR if words.info1 & 1 != 0 => Exit::MsrWrite,
        code::MSR => Exit::MsrRead,
        code::HLT => Exit::Halt,
        code::CPUID => Exit::Cpuid,
        code::VINTR => Exit::InterruptWindow,
        _ => rare(event),
    }
}

fn rare(event: u64) -> Exit {
    match event {
        code::CR_READ..=code::CR_WRITE_LAST | code::CR0_SEL_WRITE => Exit::ControlRegister,
        code::DR_READ..=code::DR_WRITE_LAST => Exit::DebugRegister,
        code::RDPMC => Exit::ReadCounter,
        code::IRET => Exit::NmiHandlerEnds,
        code::INVD | code::WBINVD => Exit::CacheControl,
        code::PAUSE => Exit::Pause,
        code::RSM | code::INVLPGA | code::VMRUN..=code::SKINIT => Exit::Undefined,
        code::MONITOR..=code::MWAIT_CONDITIONAL => Exit::Undefined,
        code::XSETBV => Exit::Xsetbv,
        code::SHUTDOWN => Exit::Shutdown,
        _ => Exit::Unexpected,
    }
}

/// EXITINFO1 of accesses to control and debug registers, with decode assists (APM2 15.33.1).
mod decoded {
    /// The instruction is MOV: not CLTS, LMSW or SMSW.
    pub const IS_MOVE: u64 = 1 << 63;
    /// The number of the register is in the exit code.
    pub const NUMBER: u64 = 0xf;
    /// Exit codes of writes.
    pub const WRITE: u64 = 1 << 4;
}

/// What MOV to or from a control or debug register moves.
pub(super) fn special_move(words: &EventWords) -> Option<InterceptedOperation> {
    use InterceptedOperation as O;
    let (number, is_write) = (words.reason & decoded::NUMBER, words.reason & decoded::WRITE != 0);
    let register = general(words.info1)?;
    match (words.reason, is_write) {
        (code::DR_READ..=code::DR_WRITE_LAST, true) => Some(O::WriteDebug { number: number as u8, register }),
        (code::DR_READ..=code::DR_WRITE_LAST, false) => Some(O::ReadDebug { number: number as u8, register }),
        (code::CR_READ..=code::CR_WRITE_LAST, _) if words.info1 & decoded::IS_MOVE == 0 => None,
        (code::CR_READ..=code::CR_WRITE_LAST, true) => {
            Some(O::WriteControl { control: ControlRegister::from_number(number)?, register })
        }
        (code::CR_READ..=code::CR_WRITE_LAST, false) => {
            Some(O::ReadControl { control: ControlRegister::from_number(number)?, register })
        }
        _ => None,
    }
}

#[inline]
fn port_io(words: &EventWords) -> Exit {
    let bytes = (words.info1 >> ioio::SIZE_SHIFT & ioio::SIZE_MASK) as u8;
    let Some(size) = PortSize::from_bytes(bytes) else {
        return Exit::Unexpected;
    };
    let access = PortAccess { port: (words.info1 >> ioio::PORT_SHIFT) as u16, size };
    // The next instruction pointer, whether or not the CPU saves it for other exits.
    let next = NextRip(words.info2);
    super::port_io(access, next, words.info1 & ioio::STRING != 0, words.info1 & ioio::IN != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(info1: u64, info2: u64) -> EventWords {
        EventWords { info1, info2, ..EventWords::default() }
    }

    #[test]
    fn port_accesses_carry_everything() {
        // OUT DX, AL to 3F8h, as a CPU without decode assists reports it.
        let out = decode(code::IOIO, &words(0x03f8_0010, 0x1234));
        assert_eq!(out, Exit::PortOut(PortAccess::byte(0x3f8), NextRip(0x1234)));
        // IN EAX, DX from CFCh.
        let access = PortAccess { port: 0xcfc, size: PortSize::Dword };
        assert_eq!(decode(code::IOIO, &words(0x0cfc_0041, 2)), Exit::PortIn(access, NextRip(2)));
        // REP INSW.
        assert_eq!(decode(code::IOIO, &words(0x01f0_002d, 2)), Exit::PortString);
        // No size.
        assert_eq!(decode(code::IOIO, &words(0x01f0_0000, 2)), Exit::Unexpected);
    }

    #[test]
    fn every_always_intercepted_exit_is_known() {
        // SMI, INIT, exceptions and descriptor-table accesses are not the VMM's or never asked for.
        let known = [0x08, 0x18, 0x20, 0x37, 0x64, 0x6f, 0x72, 0x73, 0x74, 0x76, 0x78, 0x7a, 0x7c]
            .into_iter()
            .chain([0x7f, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x8a, 0x8b, 0x8c, 0x8d]);
        for event in known {
            assert_ne!(decode(event, &words(0, 0)), Exit::Unexpected, "{event:#x}");
        }
        assert_eq!(decode(0x4e, &words(0, 0)), Exit::Unexpected);
    }
}
