//! What the kernel asks CPUID (SDM vol. 2, CPUID; APM vol. 3, appendix E).

use super::x86::{self, Cpuid};

/// Leaves.
pub mod leaf {
    /// Features and initial APIC id.
    pub const FEATURES: u32 = 1;
    /// Structured extended features.
    pub const STRUCTURED: u32 = 7;
    /// Components and size of the extended state.
    pub const EXTENDED_STATE: u32 = 0xd;
    /// Who emulates the CPU, if somebody does.
    pub const HYPERVISOR: u32 = 0x4000_0000;
    /// Extended features.
    pub const EXTENDED: u32 = 0x8000_0001;
    /// Sizes of addresses.
    pub const ADDRESSES: u32 = 0x8000_0008;
    /// SVM.
    pub const SVM: u32 = 0x8000_000a;
}

/// A flag: its leaf, and what it is there.
#[derive(Clone, Copy, Debug)]
pub struct Flag(u32, fn(Cpuid) -> u32);

#[allow(missing_docs, reason = "the names are the manuals'")]
impl Flag {
    pub const VMX: Self = Self(leaf::FEATURES, |words| words.ecx & 1 << 5);
    pub const X2APIC: Self = Self(leaf::FEATURES, |words| words.ecx & 1 << 21);
    pub const TSC_DEADLINE: Self = Self(leaf::FEATURES, |words| words.ecx & 1 << 24);
    pub const XSAVE: Self = Self(leaf::FEATURES, |words| words.ecx & 1 << 26);
    pub const HYPERVISOR: Self = Self(leaf::FEATURES, |words| words.ecx & 1 << 31);
    pub const SVM: Self = Self(leaf::EXTENDED, |words| words.ecx & 1 << 2);
    pub const PAGES_1G: Self = Self(leaf::EXTENDED, |words| words.edx & 1 << 26);

    /// Whether this CPU has it.
    pub fn is_set(self) -> bool {
        self.1(x86::cpuid(self.0, 0)) != 0
    }
}
