//! Registers of one virtual CPU, as an exit hands them over and as a resume takes them back.
//!
//! Layouts and bit positions are those of the AMD64 Architecture Programmer's Manual, volume 2
//! ("APM2"); Intel's SDM volume 3 agrees wherever both define a bit.

use bitflags::bitflags;

/// General-purpose register by its architectural number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "architectural register names")]
pub enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Gpr {
    /// All registers in the order of their numbers.
    pub const ALL: [Gpr; 16] = [
        Gpr::Rax,
        Gpr::Rcx,
        Gpr::Rdx,
        Gpr::Rbx,
        Gpr::Rsp,
        Gpr::Rbp,
        Gpr::Rsi,
        Gpr::Rdi,
        Gpr::R8,
        Gpr::R9,
        Gpr::R10,
        Gpr::R11,
        Gpr::R12,
        Gpr::R13,
        Gpr::R14,
        Gpr::R15,
    ];

    /// The register with architectural number `number`, if there is one.
    pub fn from_number(number: usize) -> Option<Gpr> {
        Self::ALL.get(number).copied()
    }
}

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

impl Xcr0 {
    /// Whether XSETBV takes it: x87 always, AVX only with SSE, AVX-512 only with AVX, and whole.
    pub fn is_valid(self) -> bool {
        let needs = |part: Self, needed: Self| !self.intersects(part) || self.contains(needed);
        self.contains(Self::X87) && needs(Self::AVX, Self::SSE) && needs(Self::AVX512, Self::AVX512 | Self::AVX)
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
        /// Paging.
        const PG = 1 << 31;
        const _ = !0;
    }

    /// CR4 (APM2 3.1.3).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Cr4: u64 {
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

/// How the CPU forms addresses and what code it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuMode {
    /// CR0.PE = 0.
    Real,
    /// RFLAGS.VM = 1.
    Virtual8086,
    /// Protected or compatibility mode with 16-bit default sizes.
    Protected16,
    /// Protected or compatibility mode with 32-bit default sizes.
    Protected32,
    /// 64-bit mode.
    Long64,
}

impl CpuMode {
    /// Default code size in bits: 16, 32 or 64.
    pub fn bits(self) -> u32 {
        match self {
            CpuMode::Real | CpuMode::Virtual8086 | CpuMode::Protected16 => 16,
            CpuMode::Protected32 => 32,
            CpuMode::Long64 => 64,
        }
    }
}

/// Architectural state of one virtual CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VcpuState {
    /// General-purpose registers, indexed by [`Gpr`].
    pub gpr: [u64; 16],
    /// Which of them [`VcpuState::set_gpr`] has replaced: bit n is that of `gpr[n]`.
    pub written: u16,
    /// Offset of the current instruction in CS.
    pub rip: u64,
    /// Flags.
    pub rflags: Rflags,
    /// Control register 0.
    pub cr0: Cr0,
    /// Linear address of the last page fault.
    pub cr2: u64,
    /// Page-table root.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: Cr4,
    /// Extended features.
    pub efer: Efer,
    /// Segment registers, indexed by [`SegmentRegister`].
    pub segments: [Segment; 6],
    /// Task register.
    pub tr: Segment,
    /// Local descriptor table register.
    pub ldtr: Segment,
    /// Global descriptor table.
    pub gdtr: DescriptorTable,
    /// Interrupt descriptor table.
    pub idtr: DescriptorTable,
    /// XMM0..XMM15 where the exit transferred them.
    pub xmm: Option<[u128; 16]>,
    /// Width of physical addresses in the guest's CPUID (leaf 0x80000008 EAX 7..0).
    pub physical_address_bits: u8,
}

impl VcpuState {
    /// Full 64-bit value of `register`.
    pub fn gpr(&self, register: Gpr) -> u64 {
        self.gpr[register as usize]
    }

    /// Replaces all 64 bits of `register`.
    pub fn set_gpr(&mut self, register: Gpr, value: u64) {
        self.gpr[register as usize] = value;
        self.written |= 1 << register as u16;
    }

    /// One segment register.
    pub fn segment(&self, register: SegmentRegister) -> &Segment {
        &self.segments[register as usize]
    }

    /// Mode derived from CR0, EFER, RFLAGS and CS.
    #[inline]
    pub fn mode(&self) -> CpuMode {
        let code = self.segment(SegmentRegister::Cs).attributes;
        // Long mode excludes real and virtual-8086 mode; it is the common case and comes first.
        if self.efer.contains(Efer::LMA) && code.contains(SegmentAttributes::LONG) {
            CpuMode::Long64
        } else if !self.cr0.contains(Cr0::PE) {
            CpuMode::Real
        } else if self.rflags.contains(Rflags::VM) {
            CpuMode::Virtual8086
        } else if code.contains(SegmentAttributes::DEFAULT_32) {
            CpuMode::Protected32
        } else {
            CpuMode::Protected16
        }
    }

    /// Current privilege level. SS.DPL equals it in protected mode on both vendors (APM2 15.5.1,
    /// SDM3 24.4.1).
    #[inline]
    pub fn cpl(&self) -> u8 {
        match self.mode() {
            CpuMode::Real => 0,
            CpuMode::Virtual8086 => 3,
            _ => self.segment(SegmentRegister::Ss).attributes.dpl(),
        }
    }

    /// Moves RIP past an instruction of `length` bytes, wrapping as the code size does.
    pub fn advance_rip(&mut self, length: u8) {
        let next = self.rip.wrapping_add(u64::from(length));
        self.rip = match self.mode().bits() {
            16 => next & u64::from(u16::MAX),
            32 => next & u64::from(u32::MAX),
            _ => next,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_follows_the_control_bits() {
        let mut state = VcpuState::default();
        assert_eq!(state.mode(), CpuMode::Real);
        state.cr0 = Cr0::PE;
        assert_eq!(state.mode(), CpuMode::Protected16);
        state.segments[SegmentRegister::Cs as usize].attributes = SegmentAttributes::DEFAULT_32;
        assert_eq!(state.mode(), CpuMode::Protected32);
        state.segments[SegmentRegister::Cs as usize].attributes = SegmentAttributes::LONG;
        assert_eq!(state.mode(), CpuMode::Protected16, "L is void outside long mode");
        state.efer = Efer::LMA;
        assert_eq!(state.mode(), CpuMode::Long64);
        state.efer = Efer::empty();
        state.rflags = Rflags::VM;
        assert_eq!((state.mode(), state.cpl()), (CpuMode::Virtual8086, 3));
    }

    #[test]
    fn rip_wraps_at_the_code_size() {
        let mut state = VcpuState { rip: 0xffff, ..VcpuState::default() };
        state.advance_rip(2);
        assert_eq!(state.rip, 1);
        state.cr0 = Cr0::PE;
        state.segments[SegmentRegister::Cs as usize].attributes = SegmentAttributes::DEFAULT_32;
        state.rip = 0xffff_ffff;
        state.advance_rip(2);
        assert_eq!(state.rip, 1);
    }

    #[test]
    fn xcr0_has_parts_that_need_others() {
        let valid = [1, 3, 7, 0xe7];
        for value in 0..=0xff {
            assert_eq!(Xcr0::from_bits_retain(value).is_valid(), valid.contains(&(value & 0xe7)), "{value:#x}");
        }
    }

    #[test]
    fn cpl_is_the_stack_privilege() {
        let mut state = VcpuState { cr0: Cr0::PE, ..VcpuState::default() };
        state.segments[SegmentRegister::Ss as usize].attributes = SegmentAttributes::DPL_0 | SegmentAttributes::DPL_1;
        assert_eq!(state.cpl(), 3);
    }
}
