//! From an operand to guest-physical addresses: effective address, segmentation, paging.

use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::decode::Extent;
use super::error::{Exception, ExceptionVector, Stop};
use super::{Bus, Executor, Width};
use crate::paging::{self, Access, AccessKind, PAGE_SIZE, TranslationError, translate};
use crate::state::{CpuMode, Cr4, Gpr, Segment, SegmentAttributes, SegmentRegister, VcpuState};

/// Size of effective addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressSize {
    Bits16,
    Bits32,
    Bits64,
}

impl AddressSize {
    pub(super) fn from_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            2 => Some(AddressSize::Bits16),
            4 => Some(AddressSize::Bits32),
            8 => Some(AddressSize::Bits64),
            _ => None,
        }
    }

    /// Keeps the bits that an effective address of this size has.
    pub(super) fn truncate(self, offset: u64) -> u64 {
        match self {
            AddressSize::Bits16 => offset & u64::from(u16::MAX),
            AddressSize::Bits32 => offset & u64::from(u32::MAX),
            AddressSize::Bits64 => offset,
        }
    }
}

/// A memory operand: segment:[base + index * scale + displacement].
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryOperand {
    pub(super) segment: SegmentRegister,
    pub(super) base: Option<Gpr>,
    pub(super) index: Option<Gpr>,
    pub(super) scale: u8,
    /// Displacement; the target itself where the operand is relative to RIP.
    pub(super) displacement: u64,
    pub(super) size: AddressSize,
}

impl MemoryOperand {
    /// Offset in the segment.
    pub(super) fn effective(&self, state: &VcpuState) -> u64 {
        let base = self.base.map_or(0, |register| state.gpr(register));
        let index = self.index.map_or(0, |register| state.gpr(register));
        let sum = base.wrapping_add(index.wrapping_mul(u64::from(self.scale))).wrapping_add(self.displacement);
        self.size.truncate(sum)
    }
}

/// One guest-physical piece of an operand; no piece crosses a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) address: GuestAddress,
    pub(super) length: u8,
}

/// A located operand, permission checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// Known to be one access to a device, whatever its alignment.
    Device { address: GuestAddress, width: Width },
    /// In RAM or not, and in two pieces if it crosses the boundary of a page.
    Pieces { first: Piece, second: Option<Piece> },
}

impl Location {
    /// Of the first byte.
    pub(super) fn address(&self) -> GuestAddress {
        match self {
            Location::Device { address, .. } => *address,
            Location::Pieces { first, .. } => first.address,
        }
    }
}

/// What an instruction does to its memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    Read,
    Write,
}

pub(super) fn stop_of(error: TranslationError) -> Stop {
    match error {
        TranslationError::PageFault { address, code } => {
            Stop::Fault(Exception { vector: ExceptionVector::Page, error_code: Some(code.bits()), cr2: Some(address) })
        }
        TranslationError::Raced => Stop::Again,
    }
}

/// Linear address of `offset` in `register`, limits and canonical form checked.
#[inline]
pub(super) fn linear_address(
    state: &VcpuState,
    register: SegmentRegister,
    offset: u64,
    length: u8,
    intent: Intent,
) -> Result<u64, Exception> {
    if state.mode() != CpuMode::Long64 {
        return segmented_address(state, register, offset, length, intent);
    }
    let based = matches!(register, SegmentRegister::Fs | SegmentRegister::Gs);
    let linear = if based { state.segment(register).base.wrapping_add(offset) } else { offset };
    let last = linear.wrapping_add(u64::from(length.saturating_sub(1)));
    if is_canonical(state, linear) && is_canonical(state, last) {
        Ok(linear)
    } else {
        Err(Exception::segment_violation(register))
    }
}

/// The same outside 64-bit mode, where segments have types and limits.
fn segmented_address(
    state: &VcpuState,
    register: SegmentRegister,
    offset: u64,
    length: u8,
    intent: Intent,
) -> Result<u64, Exception> {
    let segment = state.segment(register);
    let checks_type = !matches!(state.mode(), CpuMode::Real | CpuMode::Virtual8086);
    if checks_type && !allows(segment, intent) || !within_limit(segment, offset, length) {
        return Err(Exception::segment_violation(register));
    }
    Ok(segment.base.wrapping_add(offset) & u64::from(u32::MAX))
}

pub(super) fn is_canonical(state: &VcpuState, linear: u64) -> bool {
    paging::is_canonical(linear, if state.cr4.contains(Cr4::LA57) { 57 } else { 48 })
}

/// Present, and of a type that can be read or written (APM2 4.12.1).
fn allows(segment: &Segment, intent: Intent) -> bool {
    let attributes = segment.attributes;
    let capable = attributes.contains(SegmentAttributes::WRITABLE_OR_READABLE);
    let code = attributes.contains(SegmentAttributes::CODE);
    attributes.contains(SegmentAttributes::PRESENT)
        && match intent {
            Intent::Read => !code || capable,
            Intent::Write => !code && capable,
        }
}

fn within_limit(segment: &Segment, offset: u64, length: u8) -> bool {
    let last = offset.saturating_add(u64::from(length.saturating_sub(1)));
    let limit = u64::from(segment.limit);
    let attributes = segment.attributes;
    let expands_down = attributes.contains(SegmentAttributes::EXPAND_DOWN_OR_CONFORMING)
        && attributes.contains(SegmentAttributes::NOT_SYSTEM)
        && !attributes.contains(SegmentAttributes::CODE);
    if expands_down {
        let wide = attributes.contains(SegmentAttributes::DEFAULT_32);
        let upper = if wide { u64::from(u32::MAX) } else { u64::from(u16::MAX) };
        offset > limit && last <= upper
    } else {
        last <= limit
    }
}

impl<M: GuestMemoryBackend, B: Bus> Executor<'_, M, B> {
    /// Locates the single memory operand of an instruction, with the help of the nested fault
    /// where it names the same address.
    #[inline]
    pub(super) fn locate(&self, operand: &MemoryOperand, extent: Extent, intent: Intent) -> Result<Location, Stop> {
        let offset = operand.effective(self.state);
        let length = extent.bytes();
        let linear = linear_address(self.state, operand.segment, offset, length, intent)?;
        if let Extent::Integer(width) = extent
            && let Some(address) = self.reported_address(linear, length, intent)
        {
            return Ok(Location::Device { address, width });
        }
        self.locate_linear(linear, length, intent)
    }

    /// Locates one of several memory operands: the nested fault may be that of another one.
    pub(super) fn locate_walking(
        &self,
        operand: &MemoryOperand,
        extent: Extent,
        intent: Intent,
    ) -> Result<Location, Stop> {
        let length = extent.bytes();
        let linear = linear_address(self.state, operand.segment, operand.effective(self.state), length, intent)?;
        self.locate_linear(linear, length, intent)
    }

    /// The nested fault's address, if it is that of `linear`: same offset in the page, all in one
    /// page, and write permission checked by the hardware where it is needed. Without the last
    /// condition a guest could change the instruction on another vCPU after the fault and have a
    /// write performed that its tables forbid.
    #[inline]
    fn reported_address(&self, linear: u64, length: u8, intent: Intent) -> Option<GuestAddress> {
        let fault = self.fault?;
        let offset = linear % PAGE_SIZE;
        let inside = offset + u64::from(length) <= PAGE_SIZE;
        let permitted = fault.write || intent == Intent::Read;
        (inside && permitted && fault.address.0 % PAGE_SIZE == offset).then_some(fault.address)
    }

    /// Locates `length` bytes (at most a page) at `linear` by walking the guest's tables.
    pub(super) fn locate_linear(&self, linear: u64, length: u8, intent: Intent) -> Result<Location, Stop> {
        let kind = match intent {
            Intent::Read => AccessKind::Read,
            Intent::Write => AccessKind::Write,
        };
        let access = Access { kind, user: self.state.cpl() == 3 };
        let (first, second) = pieces(self.memory, self.state, linear, length, access)?;
        Ok(Location::Pieces { first, second })
    }
}

/// `length` bytes (at most a page) at `linear`, by a walk of the guest's tables: in two pieces where they cross the boundary of a page.
#[inline]
pub(super) fn pieces<M: GuestMemoryBackend>(
    memory: &M,
    state: &VcpuState,
    linear: u64,
    length: u8,
    access: Access,
) -> Result<(Piece, Option<Piece>), Stop> {
    let walk = |linear: u64| translate(memory, state, linear, access);
    let in_page = PAGE_SIZE - linear % PAGE_SIZE;
    let first_length = u64::from(length).min(in_page) as u8;
    let first = Piece { address: walk(linear).map_err(stop_of)?.address, length: first_length };
    let second = if first_length < length {
        let mut next = linear.wrapping_add(in_page);
        if state.mode() != CpuMode::Long64 {
            next &= u64::from(u32::MAX);
        }
        Some(Piece { address: walk(next).map_err(stop_of)?.address, length: length - first_length })
    } else {
        None
    };
    Ok((first, second))
}
