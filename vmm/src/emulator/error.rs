//! Ways in which an instruction does not complete.

use std::fmt;

use super::descriptor::Selector;
use crate::state::{CpuMode, SegmentRegister, VcpuState};

/// Exceptions that emulation can raise (APM2 8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExceptionVector {
    /// #DE.
    Divide = 0,
    /// #UD.
    InvalidOpcode = 6,
    /// #TS.
    InvalidTss = 10,
    /// #NP.
    SegmentNotPresent = 11,
    /// #SS.
    Stack = 12,
    /// #GP.
    GeneralProtection = 13,
    /// #PF.
    Page = 14,
}

/// An exception to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Which one.
    pub vector: ExceptionVector,
    /// Error code to push; none in real mode.
    pub error_code: Option<u32>,
    /// Value for CR2 (#PF only).
    pub cr2: Option<u64>,
}

impl Exception {
    /// #GP(0).
    pub(super) const GENERAL_PROTECTION: Exception =
        Exception { vector: ExceptionVector::GeneralProtection, error_code: Some(0), cr2: None };

    /// #UD.
    pub const INVALID_OPCODE: Exception =
        Exception { vector: ExceptionVector::InvalidOpcode, error_code: None, cr2: None };

    /// #DE.
    pub(super) const DIVIDE: Exception = Exception { vector: ExceptionVector::Divide, error_code: None, cr2: None };

    /// The exception as it is delivered in `mode`: real mode pushes no error codes (APM2 8.4).
    pub(super) fn in_mode(self, mode: CpuMode) -> Exception {
        let error_code = self.error_code.filter(|_| mode != CpuMode::Real);
        Exception { error_code, ..self }
    }

    /// An exception about a selector, with EXT in the lowest bit of the error code (SDM3 6.13).
    pub(super) fn of_selector(vector: ExceptionVector, selector: Selector, external: u32) -> Exception {
        let error_code = selector.error_code() | external;
        Exception { vector, error_code: Some(error_code), cr2: None }
    }

    /// #SS(0) for the stack segment, #GP(0) for any other.
    pub(super) fn segment_violation(segment: SegmentRegister) -> Exception {
        match segment {
            SegmentRegister::Ss => Exception { vector: ExceptionVector::Stack, ..Exception::GENERAL_PROTECTION },
            _ => Exception::GENERAL_PROTECTION,
        }
    }
}

/// Why an instruction is not emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unemulated {
    /// The bytes are no instruction that the decoder knows.
    #[error("undecodable instruction")]
    Undecodable,
    /// A known instruction outside the emulated set.
    #[error("instruction not emulated")]
    Instruction,
    /// A task whose state, or a descriptor, is not in RAM.
    #[error("task switch with tables outside RAM")]
    SystemSegment,
    /// An SSE operand, but the exit did not transfer the XMM registers.
    #[error("XMM registers not available")]
    NoVectorState,
}

/// Longest instruction, in bytes (APM3 1.2).
pub(super) const MAX_INSTRUCTION: usize = 15;

/// Instruction bytes as far as they could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstructionBytes {
    pub(super) bytes: [u8; MAX_INSTRUCTION],
    pub(super) length: usize,
}

impl InstructionBytes {
    /// The bytes, possibly with some of what follows the instruction.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// As many of `bytes` as an instruction can have.
    pub(super) fn first_of(bytes: &[u8]) -> Self {
        let mut this = Self { length: bytes.len().min(MAX_INSTRUCTION), ..Self::default() };
        this.bytes.iter_mut().zip(bytes).for_each(|(own, byte)| *own = *byte);
        this
    }
}

/// An instruction that cannot be emulated. Where it is user code, the guest's kernel is told that it is undefined; otherwise the
/// guest has to be stopped.
#[derive(Clone, Debug)]
pub struct EmulationError {
    /// Why.
    pub reason: Unemulated,
    /// The instruction.
    pub bytes: InstructionBytes,
    /// Registers before it.
    pub state: Box<VcpuState>,
}

impl EmulationError {
    /// Whether it is the instruction of user code.
    pub fn is_of_user(&self) -> bool {
        const USER: u8 = 3;
        self.state.cpl() == USER
    }
}

impl fmt::Display for EmulationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.reason, Place { state: &self.state, bytes: self.bytes })
    }
}

/// Where a guest is: CS:RIP, and the bytes there as far as they could be read.
pub(crate) struct Place<'a> {
    pub(crate) state: &'a VcpuState,
    pub(crate) bytes: InstructionBytes,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.state.segment(SegmentRegister::Cs);
        write!(f, "{:#x}:{:#x}, bytes", code.selector, self.state.rip)?;
        self.bytes.as_slice().iter().try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}

impl std::error::Error for EmulationError {}

/// Internal: anything that ends an instruction early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Fault(Exception),
    Unemulated(Unemulated),
    Again,
}

impl From<Exception> for Stop {
    fn from(exception: Exception) -> Self {
        Stop::Fault(exception)
    }
}

impl From<Unemulated> for Stop {
    fn from(reason: Unemulated) -> Self {
        Stop::Unemulated(reason)
    }
}
