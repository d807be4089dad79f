//! From bytes to the operations that the executor knows.

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, OpKind, Register};
use vm_memory::GuestMemoryBackend;

use super::Width;
use super::address::{AddressSize, MemoryOperand};
use super::error::{MAX_INSTRUCTION, Stop, Unemulated};
use super::fetch::{Code, Fetcher};
use super::operation::{Operation, operation_of};
use crate::state::{Gpr, SegmentRegister};

/// An operand other than memory's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    None,
    /// Part of a general-purpose register; `high` for AH, CH, DH, BH.
    Register {
        register: Gpr,
        high: bool,
    },
    /// XMM register by number.
    Vector(u8),
    /// Selector of a segment register.
    Selector(SegmentRegister),
    /// The memory operand in [`Decoded::memory`].
    Memory,
    /// Immediate, sign-extended to 64 bits.
    Immediate(u64),
}

/// Repeat prefix of a string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    None,
    /// REP, REPE.
    WhileEqual,
    /// REPNE.
    WhileNotEqual,
}

/// Size of a memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Integer(Width),
    /// 16 bytes.
    Wide,
}

impl Extent {
    const WIDE: usize = size_of::<u128>();

    fn from_bytes(bytes: usize) -> Option<Self> {
        if bytes == Self::WIDE { Some(Extent::Wide) } else { Width::from_bytes(bytes).map(Extent::Integer) }
    }

    /// Number of bytes.
    #[inline]
    pub(super) fn bytes(self) -> u8 {
        match self {
            Extent::Integer(width) => width.bytes(),
            Extent::Wide => Self::WIDE as u8,
        }
    }
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoded {
    pub(super) operation: Operation,
    pub(super) destination: Operand,
    pub(super) source: Operand,
    /// Third operand.
    pub(super) extra: Operand,
    pub(super) memory: MemoryOperand,
    /// Width of the destination, and of the source but for extending moves.
    pub(super) width: Width,
    /// Size of the memory operand.
    pub(super) extent: Extent,
    pub(super) repeat: Repeat,
    pub(super) length: u8,
}

/// Decodes the raw instruction at the start of `code`, fetching its next page if it needs one.
pub(super) fn decode_raw<'m, M: GuestMemoryBackend>(
    code: &mut Code<'m, M>,
    fetcher: &Fetcher<'m, '_, M>,
) -> Result<Instruction, Stop> {
    let state = fetcher.state;
    loop {
        let mut decoder = Decoder::with_ip(state.mode().bits(), code.bytes.as_slice(), state.rip, DecoderOptions::NONE);
        let instruction = decoder.decode();
        if !instruction.is_invalid() {
            return Ok(instruction);
        }
        let incomplete = decoder.last_error() == DecoderError::NoMoreBytes;
        if !incomplete || code.bytes.length >= MAX_INSTRUCTION {
            return Err(Unemulated::Undecodable.into());
        }
        fetcher.fetch_next_page(code)?;
    }
}

/// Reduces an instruction to an operation of the emulated set.
pub(super) fn lower(instruction: &Instruction) -> Option<Decoded> {
    let operation = operation_of(instruction)?;
    let operand = |index| operand_of(instruction, index);
    let optional = |index| if instruction.op_count() > index { operand(index) } else { Some(Operand::None) };
    let (destination, source, extra) = match operation {
        Operation::String(_) | Operation::CacheHint | Operation::CompareExchangeWide => {
            (Operand::None, Operand::None, Operand::None)
        }
        Operation::Return => (optional(0)?, Operand::None, Operand::None),
        _ => (operand(0)?, optional(1)?, optional(2)?),
    };
    let is_stack_alone = operation.uses_stack() && destination != Operand::Memory;
    let extent = match operation {
        Operation::CacheHint => Extent::Integer(Width::Byte),
        _ if is_stack_alone => stack_extent(instruction, operation)?,
        // Instructions without a memory operand did not exit for memory.
        _ => Extent::from_bytes(instruction.memory_size().size())?,
    };
    let memory = match operation {
        Operation::String(_) => string_operand(instruction),
        Operation::Translate => translation_operand(instruction),
        _ if is_stack_alone => Some(STACK),
        _ => memory_operand(instruction),
    };
    Some(Decoded {
        operation,
        destination,
        source,
        extra,
        memory: memory?,
        width: width_of(instruction, destination, extent)?,
        extent,
        repeat: repeat_of(instruction),
        length: instruction.len() as u8,
    })
}

/// How much is pushed or popped. RET may release more than it takes.
fn stack_extent(instruction: &Instruction, operation: Operation) -> Option<Extent> {
    let released = if operation == Operation::Return { instruction.try_immediate(0).unwrap_or(0) } else { 0 };
    let moved = u64::from(instruction.stack_pointer_increment().unsigned_abs());
    usize::try_from(moved.checked_sub(released)?).ok().and_then(Extent::from_bytes)
}

fn width_of(instruction: &Instruction, destination: Operand, extent: Extent) -> Option<Width> {
    match (destination, extent) {
        (Operand::Register { .. }, _) => Width::from_bytes(instruction.op0_register().size()),
        (_, Extent::Integer(width)) => Some(width),
        // Wide operands are moved as bytes; their width is not used.
        (_, Extent::Wide) => Some(Width::Qword),
    }
}

fn operand_of(instruction: &Instruction, index: u32) -> Option<Operand> {
    match instruction.try_op_kind(index).ok()? {
        OpKind::Register => {
            let register = instruction.try_op_register(index).ok()?;
            if register.is_xmm() {
                return Some(Operand::Vector(register.number() as u8));
            }
            if let Some(register) = segment_of(register) {
                return Some(Operand::Selector(register));
            }
            let high = matches!(register, Register::AH | Register::CH | Register::DH | Register::BH);
            gpr_of(register).map(|register| Operand::Register { register, high })
        }
        OpKind::Memory => Some(Operand::Memory),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            Some(Operand::Immediate(instruction.near_branch_target()))
        }
        _ => instruction.try_immediate(index).ok().map(Operand::Immediate),
    }
}

/// The general-purpose register that `register` is part of.
pub(super) fn gpr_of(register: Register) -> Option<Gpr> {
    if register.is_gpr() { Gpr::from_number(register.full_register().number()) } else { None }
}

fn segment_of(register: Register) -> Option<SegmentRegister> {
    Some(match register {
        Register::ES => SegmentRegister::Es,
        Register::CS => SegmentRegister::Cs,
        Register::SS => SegmentRegister::Ss,
        Register::DS => SegmentRegister::Ds,
        Register::FS => SegmentRegister::Fs,
        Register::GS => SegmentRegister::Gs,
        _ => return None,
    })
}

/// The operand of kind [`OpKind::Memory`].
pub(super) fn memory_operand(instruction: &Instruction) -> Option<MemoryOperand> {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let bytes = match (base, index) {
        (Register::None, Register::None) => instruction.memory_displ_size() as usize,
        (Register::None, index) => index.size(),
        (base, _) => base.size(),
    };
    // Only EIP and RIP are no general-purpose registers; the displacement then is the target.
    let relative = matches!(base, Register::RIP | Register::EIP);
    let part = |register: Register| match register {
        Register::None => Some(None),
        register => gpr_of(register).map(Some),
    };
    Some(MemoryOperand {
        segment: segment_of(instruction.memory_segment())?,
        base: if relative { None } else { part(base)? },
        index: part(index)?,
        scale: instruction.memory_index_scale() as u8,
        displacement: instruction.memory_displacement64(),
        size: AddressSize::from_bytes(bytes)?,
    })
}

/// The top of the stack. Nothing is addressed by it: see `locate_stack`.
const STACK: MemoryOperand = MemoryOperand {
    segment: SegmentRegister::Ss,
    base: Some(Gpr::Rsp),
    index: None,
    scale: 1,
    displacement: 0,
    size: AddressSize::Bits64,
};

/// The table of XLAT. Its index, AL, is added when it is executed: it is no whole register.
fn translation_operand(instruction: &Instruction) -> Option<MemoryOperand> {
    let base = instruction.memory_base();
    Some(MemoryOperand {
        segment: segment_of(instruction.memory_segment())?,
        base: Some(gpr_of(base)?),
        index: None,
        scale: 1,
        displacement: 0,
        size: AddressSize::from_bytes(base.size())?,
    })
}

/// Source segment and address size of a string instruction; its registers are implied.
fn string_operand(instruction: &Instruction) -> Option<MemoryOperand> {
    let kinds = [instruction.op0_kind(), instruction.op1_kind()];
    let size = kinds.iter().find_map(|kind| match kind {
        OpKind::MemorySegSI | OpKind::MemoryESDI => Some(AddressSize::Bits16),
        OpKind::MemorySegESI | OpKind::MemoryESEDI => Some(AddressSize::Bits32),
        OpKind::MemorySegRSI | OpKind::MemoryESRDI => Some(AddressSize::Bits64),
        _ => None,
    })?;
    let segment = segment_of(instruction.memory_segment()).unwrap_or(SegmentRegister::Ds);
    Some(MemoryOperand { segment, base: None, index: None, scale: 1, displacement: 0, size })
}

fn repeat_of(instruction: &Instruction) -> Repeat {
    if instruction.has_repne_prefix() {
        Repeat::WhileNotEqual
    } else if instruction.has_rep_prefix() {
        Repeat::WhileEqual
    } else {
        Repeat::None
    }
}
