//! Formats of page tables (APM2 5.2, 5.3).

use super::{Entry, PAGE_SIZE};
use crate::state::{Cr0, Cr4, Efer, VcpuState};

/// Address field of an 8-byte entry: bits 51..12.
pub(super) const ADDRESS_MASK: u64 = ((1 << 52) - 1) & !(PAGE_SIZE - 1);

/// Format of the tables in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// No paging: linear is physical.
    Flat,
    /// Two levels of 4-byte entries.
    TwoLevel,
    /// Three levels of 8-byte entries, the first of a reduced kind.
    Pae,
    /// Four levels.
    FourLevel,
    /// Five levels.
    FiveLevel,
}

impl Format {
    pub(super) fn of(state: &VcpuState) -> Self {
        if !state.cr0.contains(Cr0::PG) {
            Format::Flat
        } else if state.efer.contains(Efer::LMA) {
            if state.cr4.contains(Cr4::LA57) { Format::FiveLevel } else { Format::FourLevel }
        } else if state.cr4.contains(Cr4::PAE) {
            Format::Pae
        } else {
            Format::TwoLevel
        }
    }

    pub(super) fn levels(self) -> u32 {
        match self {
            Format::Flat => 0,
            Format::TwoLevel => 2,
            Format::Pae => 3,
            Format::FourLevel => 4,
            Format::FiveLevel => 5,
        }
    }

    pub(super) fn index_bits(self) -> u32 {
        if self == Format::TwoLevel { 10 } else { 9 }
    }

    /// Bits of CR3 that hold the address of the first table (APM2 5.2.1, 5.2.2, 5.3.2).
    pub(super) fn root(self, cr3: u64) -> u64 {
        match self {
            Format::Flat => 0,
            Format::TwoLevel => cr3 & 0xffff_f000,
            Format::Pae => cr3 & 0xffff_ffe0,
            Format::FourLevel | Format::FiveLevel => cr3 & ADDRESS_MASK,
        }
    }
}

/// Bit n is set if entries of level n may map a large page.
pub(super) fn large_levels(format: Format, state: &VcpuState) -> u32 {
    const LEVEL_2: u32 = 1 << 2;
    const LEVEL_3: u32 = 1 << 3;
    match format {
        Format::TwoLevel if !state.cr4.contains(Cr4::PSE) => 0,
        Format::Flat => 0,
        Format::TwoLevel | Format::Pae => LEVEL_2,
        Format::FourLevel | Format::FiveLevel => LEVEL_2 | LEVEL_3,
    }
}

/// Bits that must be clear in entries of every level (APM2 5.3, SDM3 4.4..4.5).
pub(super) fn always_reserved(format: Format, state: &VcpuState) -> u64 {
    /// Bits 52..62, ignored by long mode and reserved by PAE.
    const PAE_HIGH: u64 = 0x7ff << 52;
    if format == Format::TwoLevel {
        return 0;
    }
    let bits = u32::from(state.physical_address_bits).clamp(32, 52);
    let mut reserved = ADDRESS_MASK & !((1 << bits) - 1);
    if !state.efer.contains(Efer::NXE) {
        reserved |= Entry::NO_EXECUTE.bits();
    }
    if format == Format::Pae {
        reserved |= PAE_HIGH;
    }
    reserved
}
