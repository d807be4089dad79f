//! Flags, control registers, and EFER.

use bitflags::bitflags;

bitflags! {
    /// RFLAGS (APM2 3.1.6).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Rflags: u64 {
        /// Carry.
        const CF = 1 << 0;
        /// Reads as one.
        const FIXED_1 = 1 << 1;
        /// Even parity of the low result byte.
        const PF = 1 << 2;
        /// Carry out of bit 3.
        const AF = 1 << 4;
        /// Zero.
        const ZF = 1 << 6;
        /// Sign.
        const SF = 1 << 7;
        /// Trap after each instruction.
        const TF = 1 << 8;
        /// Interrupts enabled.
        const IF = 1 << 9;
        /// String instructions go down.
        const DF = 1 << 10;
        /// Signed overflow.
        const OF = 1 << 11;
        /// Resume: instruction breakpoints are off for one instruction.
        const RF = 1 << 16;
        /// Virtual-8086 mode.
        const VM = 1 << 17;
        /// Alignment check; with SMAP: supervisor may access user pages.
        const AC = 1 << 18;
        const _ = !0;
    }

    /// CR0 (APM2 3.1.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Cr0: u64 {
        /// Protected mode.
        const PE = 1 << 0;
        /// Monitor coprocessor.
        const MP = 1 << 1;
        /// Task switched.
        const TS = 1 << 3;
        /// Extension type, fixed 1.
        const ET = 1 << 4;
        /// Numeric errors by exception.
        const NE = 1 << 5;
        /// Supervisor writes respect read-only pages.
        const WP = 1 << 16;
        /// Not write-through.
        const NW = 1 << 29;
        /// Cache disable.
        const CD = 1 << 30;
        /// Paging.
        const PG = 1 << 31;
        const _ = !0;
    }

    /// CR4 (APM2 3.1.3).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Cr4: u64 {
        /// Debugging extensions: DR4 and DR5 are no aliases.
        const DE = 1 << 3;
        /// 4 MiB pages in 32-bit paging.
        const PSE = 1 << 4;
        /// Physical-address extension.
        const PAE = 1 << 5;
        /// Global pages.
        const PGE = 1 << 7;
        /// 57-bit linear addresses.
        const LA57 = 1 << 12;
        /// Supervisor may not execute user pages.
        const SMEP = 1 << 20;
        /// Supervisor may not touch user pages.
        const SMAP = 1 << 21;
        const _ = !0;
    }

    /// XCR0: the state components that XSAVE manages (APM2 11.5.2, SDM1 13.3).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Xcr0: u64 {
        /// x87, which cannot be off.
        const X87 = 1 << 0;
        /// XMM registers and MXCSR.
        const SSE = 1 << 1;
        /// Upper halves of YMM registers.
        const AVX = 1 << 2;
        /// Opmasks, upper halves of ZMM registers, ZMM16 to ZMM31: only together.
        const AVX512 = 7 << 5;
        /// Rights of protection keys.
        const PKRU = 1 << 9;
        const _ = !0;
    }

    /// EFER (APM2 3.1.7).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Efer: u64 {
        /// SYSCALL and SYSRET.
        const SCE = 1 << 0;
        /// Long mode enabled.
        const LME = 1 << 8;
        /// Long mode active.
        const LMA = 1 << 10;
        /// No-execute pages.
        const NXE = 1 << 11;
        /// Fast FXSAVE and FXRSTOR.
        const FFXSR = 1 << 14;
        const _ = !0;
    }
}

impl Xcr0 {
    /// Whether XSETBV takes it: x87 always, AVX only with SSE, AVX-512 only with AVX, and whole.
    pub fn is_valid(self) -> bool {
        let needs = |part: Self, needed: Self| !self.intersects(part) || self.contains(needed);
        self.contains(Self::X87) && needs(Self::AVX, Self::SSE) && needs(Self::AVX512, Self::AVX512 | Self::AVX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xcr0_has_parts_that_need_others() {
        let valid = [1, 3, 7, 0xe7];
        for value in 0..=0xff {
            assert_eq!(Xcr0::from_bits_retain(value).is_valid(), valid.contains(&(value & 0xe7)), "{value:#x}");
        }
    }
}
