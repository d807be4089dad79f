//! What an exit is about, told once, at the door: from here on nobody knows the vendor's numbers.
//!
//! What differs between the vendors (`docs/abi.md`, "Events") is made the same here and in the two modules:
//!
//! | | SVM | VMX |
//! |---|---|---|
//! | numbers, information words | [`svm`] | [`vmx`] |
//! | what is behind the instruction | its length, if the CPU saves that, else [known](super::length) | the second word |
//! | which control or debug register | the first word, if the CPU has decode assists, else the instruction | the first word |
//! | [task switches](Exit::TaskSwitch) | performed by the CPU | left to the VMM |
//! | end of a handler of NMIs | [before](Exit::NmiHandlerEnds) the IRET | [after](Exit::NmiWindow) it |
//! | why the CPU refuses a state | not told | [`EntryFailure`] |

mod svm;
mod vmx;

use std::fmt;

use abi::event::{EventWords, guest};
use abi::hip::Features;
use abi::state::Injection;
use device_models::bus::port::PortAccess;
use vm_memory::GuestAddress;

use crate::emulator::{InterceptedOperation, TaskSwitch};
use crate::exit_stats::ExitKind;
use crate::state::Gpr;

/// A reason for which a virtual CPU stopped executing instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It has not executed any yet.
    Startup,
    /// Somebody wants it to look after itself.
    Recall,
    /// It has handled an exit of an instruction under single step, and is now told: no event, but why a recall was asked for.
    Stepped,
    /// It can take an interrupt now, as was asked for.
    InterruptWindow,
    /// It is about to execute the IRET of a handler of non-maskable interrupts, as was asked for.
    NmiHandlerEnds,
    /// It can take a non-maskable interrupt now, as was asked for.
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
    /// MOV to or from CR8; or one to CR0 or CR4 of bits that the guest cannot have.
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
    InvalidState(EntryFailure),
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

/// Why a CPU refuses to enter a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFailure {
    /// It does not say.
    Unknown,
    /// The guest's state (SDM3 27.3.1), with the exit qualification.
    GuestState(u64),
    /// An MSR to be loaded, counted from 1.
    Msr(u64),
    /// A machine check.
    MachineCheck,
    /// The instruction that enters guests, with its error number (SDM3 31.4).
    Instruction(u64),
}

impl fmt::Display for EntryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the CPU does not say why"),
            Self::GuestState(qualification) => write!(f, "invalid guest state, qualification {qualification:#x}"),
            Self::Msr(number) => write!(f, "entry {number} of the MSRs to load"),
            Self::MachineCheck => f.write_str("machine check"),
            Self::Instruction(error) => write!(f, "VM-instruction error {error}"),
        }
    }
}

/// The CPU's kind of hardware virtualisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// AMD's.
    Svm,
    /// Intel's.
    Vmx,
}

impl Vendor {
    /// That of a CPU with these features.
    #[inline]
    #[must_use]
    pub fn of(features: Features) -> Self {
        if features.contains(Features::VMX) { Vendor::Vmx } else { Vendor::Svm }
    }

    /// The event of IN, OUT, INS and OUTS, which only the information words tell apart.
    pub(super) const fn port_io(self) -> u64 {
        match self {
            Vendor::Svm => svm::code::IOIO,
            Vendor::Vmx => vmx::reason::IO,
        }
    }

    /// Where the instruction behind the intercepted one is, if the exit itself says so.
    #[inline]
    pub(super) fn next_rip(self, words: &EventWords) -> Option<NextRip> {
        match self {
            Vendor::Svm => None,
            Vendor::Vmx => Some(NextRip(words.info2)).filter(|next| next.0 != 0),
        }
    }

    /// The task switch that an exit is about, perhaps in the delivery of an event. Only VMX has such exits.
    pub(super) fn task_switch(words: &EventWords, event: Injection) -> TaskSwitch {
        vmx::task_switch(words, event)
    }

    /// The access to a control or debug register that the exit is about, if a CPU with these features says which register and whose
    /// value. Without, the instruction tells.
    pub(super) fn special_move(self, features: Features, words: &EventWords) -> Option<InterceptedOperation> {
        match self {
            Vendor::Svm if !features.contains(Features::DECODE_ASSISTS) => None,
            Vendor::Svm => svm::special_move(words),
            Vendor::Vmx => vmx::special_move(words),
        }
    }
}

/// A general-purpose register by its number, of which there are 16.
fn general(number: u64) -> Option<Gpr> {
    Gpr::from_number(number as usize & 0xf)
}

/// First information word of a nested page fault (APM2 15.25.6); the hypervisor makes it from the exit qualification where
/// there is no SVM.
mod npf {
    pub(super) const WRITE: u64 = 1 << 1;
    pub(super) const FINAL: u64 = 1 << 32;
}

impl Exit {
    /// Decodes an event of a virtual CPU.
    #[inline]
    #[must_use]
    pub fn of(vendor: Vendor, event: u64, words: &EventWords) -> Exit {
        match (event, vendor) {
            (guest::NESTED_FAULT..=guest::RECALL, _) => Self::normalised(vendor, event, words),
            (_, Vendor::Svm) => svm::decode(event, words),
            (_, Vendor::Vmx) => vmx::decode(event, words),
        }
    }

    /// The events that are numbered alike for both vendors.
    fn normalised(vendor: Vendor, event: u64, words: &EventWords) -> Exit {
        match event {
            guest::NESTED_FAULT => Exit::NestedFault(MemoryFault {
                address: GuestAddress(words.info2),
                write: words.info1 & npf::WRITE != 0,
                is_final: words.info1 & npf::FINAL != 0,
            }),
            guest::INVALID_STATE => Exit::InvalidState(match vendor {
                Vendor::Svm => EntryFailure::Unknown,
                Vendor::Vmx => vmx::entry_failure(words),
            }),
            guest::STARTUP => Exit::Startup,
            guest::RECALL => Exit::Recall,
            _ => Exit::Unexpected,
        }
    }

    /// Under what it is counted.
    #[must_use]
    pub fn kind(&self) -> ExitKind {
        match self {
            Exit::Recall | Exit::Stepped => ExitKind::Recall,
            Exit::InterruptWindow => ExitKind::InterruptWindow,
            Exit::NmiHandlerEnds | Exit::NmiWindow => ExitKind::NmiWindow,
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
            Exit::Startup | Exit::ReadCounter | Exit::TaskSwitch | Exit::InvalidState(_) | Exit::Unexpected => {
                ExitKind::Other
            }
        }
    }
}

/// An access to a port, which is of a size that there is.
#[inline]
fn port_io(access: PortAccess, next: NextRip, is_string: bool, is_in: bool) -> Exit {
    match (is_string, is_in) {
        (true, _) => Exit::PortString,
        (false, true) => Exit::PortIn(access, next),
        (false, false) => Exit::PortOut(access, next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_faults_tell_final_accesses_from_walks() {
        let address = GuestAddress(0xfee0_00b0);
        for vendor in [Vendor::Svm, Vendor::Vmx] {
            let fault = |info1| {
                let words = EventWords { info1, info2: address.0, ..EventWords::default() };
                Exit::of(vendor, guest::NESTED_FAULT, &words)
            };
            let expected = MemoryFault { address, write: true, is_final: true };
            assert_eq!(fault(1 << 32 | 0x6), Exit::NestedFault(expected));
            let expected = MemoryFault { address, write: false, is_final: false };
            assert_eq!(fault(1 << 33 | 0x4), Exit::NestedFault(expected));
        }
    }

    #[test]
    fn the_hypervisors_own_events_are_the_same_for_both() {
        for vendor in [Vendor::Svm, Vendor::Vmx] {
            let exit = |event| Exit::of(vendor, event, &EventWords::default());
            assert_eq!((exit(guest::STARTUP), exit(guest::RECALL)), (Exit::Startup, Exit::Recall));
            assert!(matches!(exit(guest::INVALID_STATE), Exit::InvalidState(_)));
        }
    }
}
