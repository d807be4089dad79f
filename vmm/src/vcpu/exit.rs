//! What an exit is about, told once, at the door: from here on nobody knows the vendor's numbers.

use abi::event::{EventWords, guest};
use device_models::bus::port::{PortAccess, PortSize};
use vm_memory::GuestAddress;

use crate::exit_stats::ExitKind;

/// A reason for which a virtual CPU stopped executing instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It has not executed any yet.
    Startup,
    /// Somebody wants it to look after itself.
    Recall,
    /// It can take an interrupt now, as was asked for.
    InterruptWindow,
    /// It is about to leave a handler of non-maskable interrupts, as was asked for.
    NmiWindow,
    /// CPUID.
    Cpuid,
    /// RDMSR.
    MsrRead,
    /// WRMSR.
    MsrWrite,
    /// IN.
    PortIn(PortAccess, NextRip),
    /// OUT.
    PortOut(PortAccess, NextRip),
    /// INS or OUTS.
    PortString,
    /// An access to guest-physical memory that is not there.
    NestedFault(MemoryFault),
    /// HLT.
    Halt,
    /// PAUSE.
    Pause,
    /// MOV to or from a control register, CLTS or LMSW.
    ControlRegister,
    /// MOV to or from a debug register.
    DebugRegister,
    /// INVD or WBINVD.
    CacheControl,
    /// XSETBV.
    Xsetbv,
    /// RDPMC.
    ReadCounter,
    /// An instruction that the virtual CPU does not have.
    Undefined,
    /// Task switch by hardware.
    TaskSwitch,
    /// Triple fault.
    Shutdown,
    /// The hypervisor could not enter the guest with this state.
    InvalidState,
    /// Something that is never asked for.
    Unexpected,
}

/// Where the instruction behind the intercepted one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRip(pub u64);

/// A nested page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFault {
    /// Guest-physical address.
    pub address: GuestAddress,
    /// Permission to write was needed.
    pub write: bool,
    /// The address is that of the final access, not of an entry of the guest's page tables.
    pub is_final: bool,
}

/// Exit codes of SVM (APM2 appendix C), as far as they are told apart.
mod svm {
    pub(super) const CR_READ: u64 = 0x00;
    pub(super) const CR_WRITE_LAST: u64 = 0x1f;
    pub(super) const DR_READ: u64 = 0x20;
    pub(super) const DR_WRITE_LAST: u64 = 0x3f;
    pub(super) const VINTR: u64 = 0x64;
    pub(super) const CR0_SEL_WRITE: u64 = 0x65;
    pub(super) const RDPMC: u64 = 0x6f;
    pub(super) const CPUID: u64 = 0x72;
    pub(super) const RSM: u64 = 0x73;
    pub(super) const IRET: u64 = 0x74;
    pub(super) const INVD: u64 = 0x76;
    pub(super) const PAUSE: u64 = 0x77;
    pub(super) const HLT: u64 = 0x78;
    pub(super) const INVLPGA: u64 = 0x7a;
    pub(super) const IOIO: u64 = 0x7b;
    pub(super) const MSR: u64 = 0x7c;
    pub(super) const TASK_SWITCH: u64 = 0x7d;
    pub(super) const SHUTDOWN: u64 = 0x7f;
    pub(super) const VMRUN: u64 = 0x80;
    pub(super) const SKINIT: u64 = 0x86;
    pub(super) const WBINVD: u64 = 0x89;
    pub(super) const MONITOR: u64 = 0x8a;
    pub(super) const MWAIT_CONDITIONAL: u64 = 0x8c;
    pub(super) const XSETBV: u64 = 0x8d;
}

/// EXITINFO1 of port I/O (APM2 15.10.2).
mod ioio {
    pub(super) const IN: u64 = 1 << 0;
    pub(super) const STRING: u64 = 1 << 2;
    pub(super) const SIZE_SHIFT: u32 = 4;
    pub(super) const SIZE_MASK: u64 = 7;
    pub(super) const PORT_SHIFT: u32 = 16;
}

/// EXITINFO1 of a nested page fault (APM2 15.25.6); the hypervisor makes it from the exit
/// qualification where there is no SVM.
mod npf {
    pub(super) const WRITE: u64 = 1 << 1;
    pub(super) const FINAL: u64 = 1 << 32;
}

impl Exit {
    /// Decodes an exit of a CPU with SVM. (Exits of VMX would be decoded beside, into the same.)
    #[inline]
    #[must_use]
    pub fn of_svm(event: u64, words: &EventWords) -> Exit {
        match event {
            svm::IOIO => Self::port_io(words),
            guest::NESTED_FAULT => Exit::NestedFault(MemoryFault {
                address: GuestAddress(words.info2),
                write: words.info1 & npf::WRITE != 0,
                is_final: words.info1 & npf::FINAL != 0,
            }),
            svm::MSR if words.info1 & 1 != 0 => Exit::MsrWrite,
            svm::MSR => Exit::MsrRead,
            svm::HLT => Exit::Halt,
            svm::CPUID => Exit::Cpuid,
            svm::VINTR => Exit::InterruptWindow,
            guest::RECALL => Exit::Recall,
            _ => Self::rare(event),
        }
    }

    fn rare(event: u64) -> Exit {
        match event {
            svm::CR_READ..=svm::CR_WRITE_LAST | svm::CR0_SEL_WRITE => Exit::ControlRegister,
            svm::DR_READ..=svm::DR_WRITE_LAST => Exit::DebugRegister,
            svm::RDPMC => Exit::ReadCounter,
            svm::IRET => Exit::NmiWindow,
            svm::INVD | svm::WBINVD => Exit::CacheControl,
            svm::PAUSE => Exit::Pause,
            svm::RSM | svm::INVLPGA | svm::VMRUN..=svm::SKINIT => Exit::Undefined,
            svm::MONITOR..=svm::MWAIT_CONDITIONAL => Exit::Undefined,
            svm::XSETBV => Exit::Xsetbv,
            svm::TASK_SWITCH => Exit::TaskSwitch,
            svm::SHUTDOWN => Exit::Shutdown,
            guest::STARTUP => Exit::Startup,
            guest::INVALID_STATE => Exit::InvalidState,
            _ => Exit::Unexpected,
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
        match (words.info1 & ioio::STRING != 0, words.info1 & ioio::IN != 0) {
            (true, _) => Exit::PortString,
            (false, true) => Exit::PortIn(access, next),
            (false, false) => Exit::PortOut(access, next),
        }
    }

    /// Under what it is counted.
    #[must_use]
    pub fn kind(&self) -> ExitKind {
        match self {
            Exit::Recall => ExitKind::Recall,
            Exit::InterruptWindow => ExitKind::InterruptWindow,
            Exit::NmiWindow => ExitKind::NmiWindow,
            Exit::Cpuid => ExitKind::Cpuid,
            Exit::MsrRead => ExitKind::MsrRead,
            Exit::MsrWrite => ExitKind::MsrWrite,
            Exit::PortIn(..) => ExitKind::PortIn,
            Exit::PortOut(..) => ExitKind::PortOut,
            Exit::PortString => ExitKind::PortString,
            Exit::NestedFault(MemoryFault { write: true, .. }) => ExitKind::MmioWrite,
            Exit::NestedFault(_) => ExitKind::MmioRead,
            Exit::Halt => ExitKind::Halt,
            Exit::Pause => ExitKind::Pause,
            Exit::ControlRegister | Exit::Xsetbv => ExitKind::ControlRegister,
            Exit::DebugRegister => ExitKind::DebugRegister,
            Exit::CacheControl => ExitKind::CacheControl,
            Exit::Undefined => ExitKind::Hypercall,
            Exit::Shutdown => ExitKind::Shutdown,
            Exit::Startup | Exit::ReadCounter | Exit::TaskSwitch | Exit::InvalidState | Exit::Unexpected => {
                ExitKind::Other
            }
        }
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
        // OUT DX, AL to 3F8h, as a CPU without decode assists reports it.
        let out = Exit::of_svm(svm::IOIO, &words(0x03f8_0010, 0x1234));
        let com1 = PortAccess::byte(0x3f8);
        assert_eq!(out, Exit::PortOut(com1, NextRip(0x1234)));
        // IN EAX, DX from CFCh.
        let access = PortAccess { port: 0xcfc, size: PortSize::Dword };
        let input = Exit::of_svm(svm::IOIO, &words(0x0cfc_0041, 2));
        assert_eq!(input, Exit::PortIn(access, NextRip(2)));
        // REP INSW.
        assert_eq!(Exit::of_svm(svm::IOIO, &words(0x01f0_002d, 2)), Exit::PortString);
        // No size.
        assert_eq!(Exit::of_svm(svm::IOIO, &words(0x01f0_0000, 2)), Exit::Unexpected);
    }

    #[test]
    fn nested_faults_tell_final_accesses_from_walks() {
        let fault = |info1| Exit::of_svm(guest::NESTED_FAULT, &words(info1, 0xfee0_00b0));
        let address = GuestAddress(0xfee0_00b0);
        let expected = MemoryFault { address, write: true, is_final: true };
        assert_eq!(fault(1 << 32 | 0x6), Exit::NestedFault(expected));
        let expected = MemoryFault { address, write: false, is_final: false };
        assert_eq!(fault(1 << 33 | 0x4), Exit::NestedFault(expected));
    }

    #[test]
    fn every_always_intercepted_exit_is_known() {
        // SMI, INIT, exceptions and descriptor-table accesses are not the VMM's or never asked for.
        let known = [0x08, 0x18, 0x20, 0x37, 0x64, 0x6f, 0x72, 0x73, 0x74, 0x76, 0x78, 0x7a, 0x7c, 0x7d]
            .into_iter()
            .chain([0x7f, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x8a, 0x8b, 0x8c, 0x8d])
            .chain([guest::NESTED_FAULT, guest::INVALID_STATE, guest::STARTUP, guest::RECALL]);
        for event in known {
            assert_ne!(Exit::of_svm(event, &words(0, 0)), Exit::Unexpected, "{event:#x}");
        }
        assert_eq!(Exit::of_svm(0x4e, &words(0, 0)), Exit::Unexpected);
    }
}
