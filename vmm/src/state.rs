//! Registers of one virtual CPU, as an exit hands them over and as a resume takes them back.
//!
//! Layouts and bit positions are those of the AMD64 Architecture Programmer's Manual, volume 2
//! ("APM2"); Intel's SDM volume 3 agrees wherever both define a bit.

mod control;
mod segment;

pub use control::{Cr0, Cr4, Efer, Rflags, Xcr0};
pub use segment::{DescriptorTable, Segment, SegmentAttributes, SegmentRegister};

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
    fn cpl_is_the_stack_privilege() {
        let mut state = VcpuState { cr0: Cr0::PE, ..VcpuState::default() };
        state.segments[SegmentRegister::Ss as usize].attributes = SegmentAttributes::DPL_0 | SegmentAttributes::DPL_1;
        assert_eq!(state.cpl(), 3);
    }
}
