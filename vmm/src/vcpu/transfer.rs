//! Between the state as exits deliver it and as the emulator and the loaders know it.

use std::ops::Range;

use abi::state::{ArchState, Controls, Injection, Mtd, gpr, seg};

use super::debug::{DR6_RESET, DR7_RESET};
use crate::msr::PAT_RESET;
use crate::state::{
    Cr0, Cr4, DescriptorTable, Efer, Rflags, Segment, SegmentAttributes, SegmentRegister, VcpuState, Xcr0,
};

/// Index in [`ArchState::seg`] of each segment register.
const SEGMENTS: [(SegmentRegister, usize); 6] = [
    (SegmentRegister::Es, seg::ES),
    (SegmentRegister::Cs, seg::CS),
    (SegmentRegister::Ss, seg::SS),
    (SegmentRegister::Ds, seg::DS),
    (SegmentRegister::Fs, seg::FS),
    (SegmentRegister::Gs, seg::GS),
];

fn from_abi(segment: &abi::state::Segment) -> Segment {
    Segment {
        selector: segment.selector,
        attributes: SegmentAttributes::from_bits_retain(segment.attributes),
        limit: segment.limit,
        base: segment.base,
    }
}

fn to_abi(segment: &Segment) -> abi::state::Segment {
    abi::state::Segment {
        selector: segment.selector,
        attributes: segment.attributes.bits(),
        limit: segment.limit,
        base: segment.base,
    }
}

fn table_to_abi(table: &DescriptorTable) -> abi::state::Segment {
    abi::state::Segment { limit: table.limit.into(), base: table.base, ..abi::state::Segment::default() }
}

/// What [`Mtd::EMULATE`] delivers.
pub(super) fn read(arch: &ArchState, physical_address_bits: u8) -> VcpuState {
    let mut state = VcpuState { physical_address_bits, ..VcpuState::default() };
    read_into(&mut state, arch);
    state
}

/// The same, in place.
#[inline]
pub(super) fn read_into(state: &mut VcpuState, arch: &ArchState) {
    state.gpr = arch.gpr;
    state.written = 0;
    state.rip = arch.rip;
    state.rflags = Rflags::from_bits_retain(arch.rflags);
    state.cr0 = Cr0::from_bits_retain(arch.cr0);
    state.cr2 = arch.cr2;
    state.cr3 = arch.cr3;
    state.cr4 = Cr4::from_bits_retain(arch.cr4);
    state.efer = Efer::from_bits_retain(arch.efer);
    for (segment, index) in SEGMENTS {
        state.segments[segment as usize] = from_abi(&arch.seg[index]);
    }
}

/// What a task switch needs besides.
pub(super) fn read_tables(state: &mut VcpuState, arch: &ArchState) {
    (state.tr, state.ldtr) = (from_abi(&arch.seg[seg::TR]), from_abi(&arch.seg[seg::LDTR]));
    state.gdtr = DescriptorTable { base: arch.seg[seg::GDTR].base, limit: arch.seg[seg::GDTR].limit as u16 };
}

/// The XMM registers, where they were delivered.
pub(super) fn read_xmm(arch: &ArchState) -> [u128; 16] {
    arch.xmm.map(|[low, high]| u128::from(high) << u64::BITS | u128::from(low))
}

/// EDX:EAX, as RDMSR, WRMSR and XSETBV have it.
pub(super) fn edx_eax(arch: &ArchState) -> u64 {
    u64::from(arch.gpr[gpr::RDX] as u32) << u32::BITS | u64::from(arch.gpr[gpr::RAX] as u32)
}

/// The parts that the general-purpose registers are taken back in: the registers, and their bits in [`VcpuState::written`].
const REGISTERS: [(Mtd, Range<usize>, u16); 3] =
    [(Mtd::ACDB, 0..4, 0x000f), (Mtd::BSD, 4..8, 0x00f0), (Mtd::R8_R15, 8..16, 0xff00)];

/// Stores what an emulated instruction has changed, and says what that is.
#[inline]
pub(super) fn write(arch: &mut ArchState, state: &VcpuState) -> Mtd {
    arch.rip = state.rip;
    arch.rflags = state.rflags.bits();
    let mut changed = Mtd::RIP | Mtd::RFLAGS;
    for (part, registers, bits) in REGISTERS {
        if state.written & bits != 0 {
            arch.gpr[registers.clone()].copy_from_slice(&state.gpr[registers]);
            changed |= part;
        }
    }
    if let Some(xmm) = &state.xmm {
        arch.xmm = xmm.map(|value| [value as u64, (value >> u64::BITS) as u64]);
        changed |= Mtd::XMM;
    }
    changed
}

/// Stores a task that begins, and says what that is.
pub(super) fn write_task(arch: &mut ArchState, state: &VcpuState) -> Mtd {
    write(arch, state);
    write_segments(arch, state);
    (arch.cr0, arch.cr3) = (state.cr0.bits(), state.cr3);
    Mtd::GPR | Mtd::RIP | Mtd::RFLAGS | Mtd::SEG | Mtd::CR
}

fn write_segments(arch: &mut ArchState, state: &VcpuState) {
    for (segment, index) in SEGMENTS {
        arch.seg[index] = to_abi(state.segment(segment));
    }
    arch.seg[seg::TR] = to_abi(&state.tr);
    arch.seg[seg::LDTR] = to_abi(&state.ldtr);
}

/// Stores all of the state of a virtual CPU that starts.
///
/// XCR0 begins with all of `xcr0`, not with x87 alone as the manuals have it (SDM1 13.3): that is the hypervisor's own, so
/// a guest that never sets it, and cannot tell but by XGETBV, spares two XSETBV in each exit.
pub(super) fn write_initial(arch: &mut ArchState, state: &VcpuState, tsc_offset: u64, xcr0: Xcr0) {
    *arch = ArchState {
        gpr: state.gpr,
        rip: state.rip,
        rflags: state.rflags.bits(),
        controls: Controls::HLT.bits(),
        injection: Injection::NONE,
        cr0: state.cr0.bits(),
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4.bits(),
        efer: state.efer.bits(),
        dr6: DR6_RESET,
        dr7: DR7_RESET,
        pat: PAT_RESET,
        xcr0: xcr0.bits(),
        tsc_offset,
        ..ArchState::default()
    };
    write_segments(arch, state);
    arch.seg[seg::GDTR] = table_to_abi(&state.gdtr);
    arch.seg[seg::IDTR] = table_to_abi(&state.idtr);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_initially_is_read_back() {
        let mut state = VcpuState {
            rip: 0x10_0200,
            cr3: 0x3000,
            cr0: Cr0::PE | Cr0::PG,
            efer: Efer::LMA,
            physical_address_bits: 40,
            ..VcpuState::default()
        };
        state.segments[SegmentRegister::Cs as usize].attributes = SegmentAttributes::LONG;
        state.segments[SegmentRegister::Gs as usize].base = 0x1234;
        let mut arch = ArchState::default();
        write_initial(&mut arch, &state, 0, Xcr0::X87);
        assert_eq!(read(&arch, 40), state);
    }

    #[test]
    fn only_what_changed_is_taken_back() {
        let mut arch = ArchState::default();
        let mut state = read(&arch, 40);
        state.rip = 3;
        assert_eq!(write(&mut arch, &state), Mtd::RIP | Mtd::RFLAGS);
        state.set_gpr(crate::state::Gpr::R15, 1);
        state.xmm = Some([7 << 64 | 5; 16]);
        assert_eq!(write(&mut arch, &state), Mtd::RIP | Mtd::RFLAGS | Mtd::R8_R15 | Mtd::XMM);
        assert_eq!((arch.gpr[15], arch.xmm[3]), (1, [5, 7]));
        assert_eq!(read_xmm(&arch), [7 << 64 | 5; 16]);
    }
}
