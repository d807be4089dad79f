//! What the kernel asks CPUID (SDM vol. 2, CPUID; APM vol. 3, appendix E).

use super::x86;

/// Leaves.
pub mod leaf {
    /// Who made the CPU.
    pub const VENDOR: u32 = 0;
    /// Features.
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

/// First four letters of the name in [`leaf::VENDOR`] or [`leaf::HYPERVISOR`].
pub fn name(leaf: u32) -> [u8; 4] {
    x86::cpuid(leaf, 0).ebx.to_le_bytes()
}

/// Register that holds a flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Register {
    Ebx,
    Ecx,
    Edx,
}

/// A flag: leaf, register, bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag(u32, Register, u32);

#[allow(missing_docs, reason = "the names are the manuals'")]
impl Flag {
    pub const VMX: Self = Self(leaf::FEATURES, Register::Ecx, 5);
    pub const X2APIC: Self = Self(leaf::FEATURES, Register::Ecx, 21);
    pub const TSC_DEADLINE: Self = Self(leaf::FEATURES, Register::Ecx, 24);
    pub const XSAVE: Self = Self(leaf::FEATURES, Register::Ecx, 26);
    pub const HYPERVISOR: Self = Self(leaf::FEATURES, Register::Ecx, 31);
    pub const MCE: Self = Self(leaf::FEATURES, Register::Edx, 7);
    pub const MCA: Self = Self(leaf::FEATURES, Register::Edx, 14);
    pub const SMEP: Self = Self(leaf::STRUCTURED, Register::Ebx, 7);
    pub const SMAP: Self = Self(leaf::STRUCTURED, Register::Ebx, 20);
    pub const UMIP: Self = Self(leaf::STRUCTURED, Register::Ecx, 2);
    pub const ARCH_CAPABILITIES: Self = Self(leaf::STRUCTURED, Register::Edx, 29);
    pub const SVM: Self = Self(leaf::EXTENDED, Register::Ecx, 2);
    pub const PAGES_1G: Self = Self(leaf::EXTENDED, Register::Edx, 26);

    /// Whether this CPU has it.
    pub fn is_set(self) -> bool {
        let words = x86::cpuid(self.0, 0);
        let word = match self.1 {
            Register::Ebx => words.ebx,
            Register::Ecx => words.ecx,
            Register::Edx => words.edx,
        };
        word & 1 << self.2 != 0
    }
}
