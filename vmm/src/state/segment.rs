//! Segments.

use bitflags::bitflags;

/// Segment register by its architectural number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "architectural register names")]
pub enum SegmentRegister {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

bitflags! {
    /// Segment attributes in the packed form of the VMCB (APM2 15.5.1): descriptor bits 40..47 in
    /// bits 0..7, descriptor bits 52..55 in bits 8..11.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SegmentAttributes: u16 {
        /// The segment was accessed (type bit 0).
        const ACCESSED = 1 << 0;
        /// Data: writable. Code: readable (type bit 1).
        const WRITABLE_OR_READABLE = 1 << 1;
        /// Data: expand-down. Code: conforming (type bit 2).
        const EXPAND_DOWN_OR_CONFORMING = 1 << 2;
        /// Code rather than data (type bit 3).
        const CODE = 1 << 3;
        /// Code or data rather than a system descriptor.
        const NOT_SYSTEM = 1 << 4;
        /// Low bit of the descriptor privilege level.
        const DPL_0 = 1 << 5;
        /// High bit of the descriptor privilege level.
        const DPL_1 = 1 << 6;
        /// The segment is present.
        const PRESENT = 1 << 7;
        /// Available to software.
        const AVAILABLE = 1 << 8;
        /// 64-bit code.
        const LONG = 1 << 9;
        /// Default operand size is 32 bits; for expand-down data, the upper bound is 4 GiB.
        const DEFAULT_32 = 1 << 10;
        /// The limit counts 4 KiB pages.
        const GRANULARITY = 1 << 11;
        const _ = !0;
    }
}

/// Position of the privilege level.
const DPL_SHIFT: u16 = 5;

impl SegmentAttributes {
    /// Descriptor privilege level, 0..=3.
    pub fn dpl(self) -> u8 {
        ((self.bits() >> DPL_SHIFT) & 3) as u8
    }

    /// No attribute but this descriptor privilege level, 0..=3.
    pub fn with_dpl(dpl: u8) -> Self {
        Self::from_bits_retain(u16::from(dpl & 3) << DPL_SHIFT)
    }
}

/// One segment register with its hidden part, laid out as in [`abi::state::Segment`]: one is copied as a whole from the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Visible selector.
    pub selector: u16,
    /// Hidden attributes.
    pub attributes: SegmentAttributes,
    /// Highest valid offset in bytes (granularity already applied).
    pub limit: u32,
    /// Linear address of offset 0.
    pub base: u64,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DescriptorTable {
    /// Linear address of the table.
    pub base: u64,
    /// Size of the table in bytes, minus one.
    pub limit: u16,
}
