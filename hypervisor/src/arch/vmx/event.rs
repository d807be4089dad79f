//! Events and exits between the forms of VMX and of the ABI.

use abi::state::{EventKind, Injection, Interruptibility};

/// Interruption types that the ABI does not tell from software interrupts: all are raised again by executing the instruction
/// again (SDM vol. 3, table 25-16).
const PRIVILEGED_SOFTWARE_EXCEPTION: u64 = 5;
const SOFTWARE_EXCEPTION: u64 = 6;
const KIND_SHIFT: u32 = 8;
const KIND: u64 = 7 << KIND_SHIFT;
const VECTOR: u64 = 0xff;
/// Error codes have 16 bits as far as entries accept them (SDM vol. 3, 27.2.1.3).
const ERROR_CODE_SHIFT: u32 = 32;
const ERROR_CODE: u64 = 0xffff;

/// Debug exceptions (SDM vol. 3, table 28-1): breakpoints, access of a debug register, single step.
pub const DEBUG_BREAKPOINTS: u64 = 0xf;
pub const DEBUG_ACCESS: u64 = 1 << 13;
pub const DEBUG_CAUSES: u64 = DEBUG_BREAKPOINTS | DEBUG_ACCESS | 1 << 14;
/// DR7.GD.
pub const DEBUG_GENERAL_DETECT: u64 = 1 << 13;

/// Vector of an event.
pub const fn vector(info: u64) -> u64 {
    info & VECTOR
}

/// Type of an event.
pub const fn kind(info: u64) -> u64 {
    (info & KIND) >> KIND_SHIFT
}

/// Whether an instruction raised the event, whose length then belongs to it.
pub const fn is_software(info: u64) -> bool {
    kind(info) >= EventKind::Software as u64
}

/// An event of the processor (exit, vectoring or entry information, with error code) in the ABI's form.
pub const fn to_abi(info: u64, error: u64) -> u64 {
    if info & Injection::VALID == 0 {
        return 0;
    }
    let kind = match kind(info) {
        PRIVILEGED_SOFTWARE_EXCEPTION | SOFTWARE_EXCEPTION => EventKind::Software as u64,
        kind => kind,
    };
    let event = Injection::VALID | kind << KIND_SHIFT | info & VECTOR;
    if info & Injection::ERROR_VALID != 0 { event | Injection::ERROR_VALID | error << ERROR_CODE_SHIFT } else { event }
}

/// Entry information and error code of an event to inject. In real mode there are no error codes (SDM vol. 3, 27.2.1.3).
pub const fn to_entry(injection: u64, protected: bool) -> (u64, u64) {
    if injection & Injection::VALID == 0 {
        return (0, 0);
    }
    let error_valid = if protected { injection & Injection::ERROR_VALID } else { 0 };
    let info = Injection::VALID | injection & (KIND | VECTOR) | error_valid;
    (info, injection >> ERROR_CODE_SHIFT & ERROR_CODE)
}

/// Interruptibility state (SDM vol. 3, table 25-3).
pub const STI: u64 = 1 << 0;
pub const MOV_SS: u64 = 1 << 1;
pub const NMI: u64 = 1 << 3;

/// Without the shadow of STI or MOV SS.
pub const fn without_shadow(state: u64) -> u64 {
    state & !(STI | MOV_SS)
}

/// Interruptibility in the ABI's form.
pub fn interruptibility(state: u64) -> Interruptibility {
    let mut result = Interruptibility::empty();
    result.set(Interruptibility::SHADOW, state & (STI | MOV_SS) != 0);
    result.set(Interruptibility::NMI_BLOCKED, state & NMI != 0);
    result
}

/// Interruptibility state for what the VMM wants, after `old`. A shadow that lasts stays what it is; STI makes one only with
/// interrupts enabled (SDM vol. 3, 27.3.1.5).
pub fn blocking(old: u64, wanted: Interruptibility, interrupts_enabled: bool) -> u64 {
    let mut state = 0;
    if wanted.contains(Interruptibility::SHADOW) {
        let is_sti = old & MOV_SS == 0 && interrupts_enabled;
        state |= if is_sti { STI } else { MOV_SS };
    }
    if wanted.contains(Interruptibility::NMI_BLOCKED) {
        state |= NMI;
    }
    state
}

/// Qualification of EPT violations (SDM vol. 3, table 28-7).
mod violation {
    pub const WRITE: u64 = 1 << 1;
    pub const FETCH: u64 = 1 << 2;
    /// The translation permits reads, writes, or fetches: there is one.
    pub const PERMITS: u64 = 7 << 3;
    pub const LINEAR_VALID: u64 = 1 << 7;
    /// The access was to the translation of the linear address, not to a page table.
    pub const FINAL: u64 = 1 << 8;
}

/// An IRET had unblocked NMIs: in the qualification of EPT violations and in the information about exceptions.
const NMI_UNBLOCKED: u64 = 1 << 12;

/// Nested page faults as SVM reports them (APM vol. 2, 15.25.6).
mod nested {
    pub const PRESENT: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    /// All accesses of guests are user accesses there.
    pub const USER: u64 = 1 << 2;
    pub const FETCH: u64 = 1 << 4;
    pub const FINAL: u64 = 1 << 32;
    pub const TABLE: u64 = 1 << 33;
}

/// First information word of a nested page fault.
pub const fn nested_fault(qualification: u64) -> u64 {
    const fn when(condition: bool, bit: u64) -> u64 {
        if condition { bit } else { 0 }
    }
    let is_table = qualification & (violation::LINEAR_VALID | violation::FINAL) == violation::LINEAR_VALID;
    nested::USER
        | when(qualification & violation::PERMITS != 0, nested::PRESENT)
        | when(qualification & violation::WRITE != 0, nested::WRITE)
        | when(qualification & violation::FETCH != 0, nested::FETCH)
        | if is_table { nested::TABLE } else { nested::FINAL }
}

/// Whether an IRET had unblocked NMIs before it caused this fault or exception.
pub const fn unblocked_nmi(information: u64) -> bool {
    information & NMI_UNBLOCKED != 0
}

/// Whether exits with this basic reason report the length of the instruction that caused them (SDM vol. 3, 28.2.5).
pub const fn has_length(reason: u64) -> bool {
    matches!(reason, 9..=32 | 36 | 39 | 40 | 46 | 47 | 50 | 51 | 53..=55 | 57..=61 | 63 | 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_keep_their_meaning() {
        let fault = 0x8000_0b0e;
        assert_eq!(to_abi(fault, 6), Injection::exception(14, Some(6)).0);
        assert_eq!(to_entry(Injection::exception(14, Some(6)).0, true), (fault, 6));
        assert_eq!(to_entry(Injection::exception(13, Some(6)).0, false).0, 0x8000_030d);
        assert_eq!(to_abi(0xb0e, 6), 0);
        // INT3 is a software event, which is raised again by executing it again.
        assert_eq!(to_abi(0x8000_0603, 0), Injection::event(EventKind::Software, 3).0);
        assert!(is_software(0x8000_0603) && is_software(0x8000_0480) && !is_software(fault));
    }

    proptest! {
        #[test]
        fn an_interrupted_event_can_be_injected_again(vector: u8, kind in 0u64..4, error in proptest::option::of(0u64..0x1_0000)) {
            let valid = if error.is_some() { Injection::ERROR_VALID } else { 0 };
            let info = Injection::VALID | kind << 8 | u64::from(vector) | valid;
            let code = error.unwrap_or(0);
            prop_assert_eq!(to_entry(to_abi(info, code), true), (info, code));
        }

        #[test]
        fn an_injection_request_has_no_reserved_bits(word: u64, protected: bool) {
            let (info, error) = to_entry(word, protected);
            prop_assert_eq!(info & 0x7fff_f000, 0);
            prop_assert!(error <= 0xffff);
        }
    }

    #[test]
    fn a_shadow_stays_what_it_is() {
        let shadow = Interruptibility::SHADOW;
        assert_eq!(blocking(STI, shadow, true), STI);
        assert_eq!(blocking(MOV_SS, shadow, true), MOV_SS);
        assert_eq!(blocking(0, shadow, false), MOV_SS);
        assert_eq!(blocking(STI | NMI, Interruptibility::empty(), true), 0);
        assert_eq!(interruptibility(STI | NMI), Interruptibility::all());
        assert_eq!(blocking(NMI, interruptibility(NMI), true), NMI);
        assert_eq!([STI | NMI, MOV_SS, NMI].map(without_shadow), [NMI, 0, NMI]);
    }

    #[test]
    fn nested_faults_look_as_with_svm() {
        // A write to an address that nothing translates.
        assert_eq!(nested_fault(0x182), 0x1_0000_0006);
        // A write to memory that can be read and executed.
        assert_eq!(nested_fault(0x1aa), 0x1_0000_0007);
        // A fetch.
        assert_eq!(nested_fault(0x184), 0x1_0000_0014);
        // The processor reads the guest's page table.
        assert_eq!(nested_fault(0x081), 0x2_0000_0004);
    }
}
