//! The operations that instructions are reduced to.

use iced_x86::{ConditionCode, Instruction, Mnemonic, OpKind};

use super::Width;
use super::arithmetic::{Binary, BitAction, Unary};
use super::condition::Condition;
use super::shift::{DoubleShift, Shift};
use super::string::StringOperation;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Memory, of this width, to a register, with its sign or zero-extended.
    Load {
        from: Width,
        signed: bool,
    },
    /// Register or immediate to memory.
    Store,
    Binary(Binary),
    Unary(Unary),
    Bit(BitAction),
    Exchange,
    ExchangeAdd,
    CompareExchange,
    /// CMPXCHG8B or CMPXCHG16B.
    CompareExchangeWide,
    Shift(Shift),
    DoubleShift(DoubleShift),
    /// MUL and IMUL with one operand.
    MultiplyWide {
        signed: bool,
    },
    /// IMUL with two operands, or three.
    Multiply,
    /// DIV and IDIV.
    Divide {
        signed: bool,
    },
    /// SETcc.
    Set(Condition),
    /// CMOVcc.
    ConditionalMove(Condition),
    /// MOVBE.
    SwapLoad,
    SwapStore,
    /// BSF and BSR.
    Scan {
        backward: bool,
    },
    /// POPCNT.
    CountOnes,
    /// XLAT.
    Translate,
    Push,
    Pop,
    /// CALL within the segment.
    Call,
    /// JMP within the segment, to an address in memory.
    Jump,
    /// RET within the segment.
    Return,
    String(StringOperation),
    /// Move between XMM and memory; `aligned` demands 16-byte alignment.
    VectorMove {
        aligned: bool,
    },
    /// Move between one half of an XMM register and memory.
    VectorHalf {
        high: bool,
    },
    /// Prefetches and cache-line flushes: no architectural effect on device memory.
    CacheHint,
}

/// The operation, if it is one of the emulated set.
pub(super) fn operation_of(instruction: &Instruction) -> Option<Operation> {
    use Operation as O;
    let operation = match instruction.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movnti | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd => {
            return move_of(instruction);
        }
        Mnemonic::Add => O::Binary(Binary::Add),
        Mnemonic::Adc => O::Binary(Binary::Adc),
        Mnemonic::Sub => O::Binary(Binary::Sub),
        Mnemonic::Sbb => O::Binary(Binary::Sbb),
        Mnemonic::And => O::Binary(Binary::And),
        Mnemonic::Or => O::Binary(Binary::Or),
        Mnemonic::Xor => O::Binary(Binary::Xor),
        Mnemonic::Cmp => O::Binary(Binary::Cmp),
        Mnemonic::Test => O::Binary(Binary::Test),
        Mnemonic::Inc => O::Unary(Unary::Inc),
        Mnemonic::Dec => O::Unary(Unary::Dec),
        Mnemonic::Neg => O::Unary(Unary::Neg),
        Mnemonic::Not => O::Unary(Unary::Not),
        Mnemonic::Bt => O::Bit(BitAction::Test),
        Mnemonic::Bts => O::Bit(BitAction::Set),
        Mnemonic::Btr => O::Bit(BitAction::Reset),
        Mnemonic::Btc => O::Bit(BitAction::Complement),
        Mnemonic::Xchg => O::Exchange,
        Mnemonic::Xadd => O::ExchangeAdd,
        Mnemonic::Cmpxchg => O::CompareExchange,
        Mnemonic::Cmpxchg8b | Mnemonic::Cmpxchg16b => O::CompareExchangeWide,
        Mnemonic::Push => O::Push,
        // A segment register would be loaded with a descriptor.
        Mnemonic::Pop if !instruction.op0_register().is_segment_register() => O::Pop,
        _ => return integer_operation(instruction).or_else(|| rarer_operation(instruction)),
    };
    Some(operation)
}

fn integer_operation(instruction: &Instruction) -> Option<Operation> {
    use Operation as O;
    let operation = match instruction.mnemonic() {
        Mnemonic::Rol => O::Shift(Shift::RotateLeft),
        Mnemonic::Ror => O::Shift(Shift::RotateRight),
        Mnemonic::Rcl => O::Shift(Shift::RotateCarryLeft),
        Mnemonic::Rcr => O::Shift(Shift::RotateCarryRight),
        Mnemonic::Shl | Mnemonic::Sal => O::Shift(Shift::Left),
        Mnemonic::Shr => O::Shift(Shift::Right),
        Mnemonic::Sar => O::Shift(Shift::ArithmeticRight),
        Mnemonic::Shld => O::DoubleShift(DoubleShift::Left),
        Mnemonic::Shrd => O::DoubleShift(DoubleShift::Right),
        Mnemonic::Mul => O::MultiplyWide { signed: false },
        Mnemonic::Imul if instruction.op_count() == 1 => O::MultiplyWide { signed: true },
        Mnemonic::Imul => O::Multiply,
        Mnemonic::Div => O::Divide { signed: false },
        Mnemonic::Idiv => O::Divide { signed: true },
        Mnemonic::Movbe if instruction.op0_kind() == OpKind::Memory => O::SwapStore,
        Mnemonic::Movbe => O::SwapLoad,
        Mnemonic::Bsf => O::Scan { backward: false },
        Mnemonic::Bsr => O::Scan { backward: true },
        Mnemonic::Popcnt => O::CountOnes,
        Mnemonic::Xlatb => O::Translate,
        Mnemonic::Call if instruction.is_call_near() || instruction.is_call_near_indirect() => O::Call,
        Mnemonic::Jmp if instruction.is_jmp_near_indirect() && instruction.op0_kind() == OpKind::Memory => O::Jump,
        Mnemonic::Ret => O::Return,
        _ => return conditional_operation(instruction),
    };
    Some(operation)
}

/// SETcc and CMOVcc: of all that depend on a condition, only these have a memory operand, CMOVcc as its second one.
fn conditional_operation(instruction: &Instruction) -> Option<Operation> {
    let condition = instruction.condition_code();
    if condition == ConditionCode::None {
        return None;
    }
    let condition = Condition(condition);
    match (instruction.op_count(), instruction.op0_kind(), instruction.op1_kind()) {
        (1, OpKind::Memory, _) => Some(Operation::Set(condition)),
        (2, OpKind::Register, OpKind::Memory) => Some(Operation::ConditionalMove(condition)),
        _ => None,
    }
}

impl Operation {
    /// Whether it has the stack as a memory operand: the only one unless another is explicit.
    pub(super) fn uses_stack(self) -> bool {
        matches!(self, Operation::Push | Operation::Pop | Operation::Call | Operation::Return)
    }
}

fn move_of(instruction: &Instruction) -> Option<Operation> {
    // A segment register would be loaded with a descriptor.
    if instruction.op0_kind() == OpKind::Register && instruction.op0_register().is_segment_register() {
        return None;
    }
    if instruction.op0_kind() == OpKind::Memory {
        return Some(Operation::Store);
    }
    let from = Width::from_bytes(instruction.memory_size().size())?;
    let signed = matches!(instruction.mnemonic(), Mnemonic::Movsx | Mnemonic::Movsxd);
    Some(Operation::Load { from, signed })
}

fn rarer_operation(instruction: &Instruction) -> Option<Operation> {
    let operation = match instruction.mnemonic() {
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsq => StringOperation::Move,
        Mnemonic::Movsd if instruction.is_string_instruction() => StringOperation::Move,
        Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsq => StringOperation::Compare,
        Mnemonic::Cmpsd if instruction.is_string_instruction() => StringOperation::Compare,
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => StringOperation::Store,
        Mnemonic::Lodsb | Mnemonic::Lodsw | Mnemonic::Lodsd | Mnemonic::Lodsq => StringOperation::Load,
        Mnemonic::Scasb | Mnemonic::Scasw | Mnemonic::Scasd | Mnemonic::Scasq => StringOperation::Scan,
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => StringOperation::Input,
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => StringOperation::Output,
        Mnemonic::Movdqa | Mnemonic::Movaps | Mnemonic::Movapd => {
            return Some(Operation::VectorMove { aligned: true });
        }
        Mnemonic::Movntdq | Mnemonic::Movntdqa | Mnemonic::Movntps | Mnemonic::Movntpd => {
            return Some(Operation::VectorMove { aligned: true });
        }
        Mnemonic::Movdqu | Mnemonic::Movups | Mnemonic::Movupd | Mnemonic::Lddqu => {
            return Some(Operation::VectorMove { aligned: false });
        }
        Mnemonic::Movd | Mnemonic::Movq | Mnemonic::Movss | Mnemonic::Movsd => {
            return Some(Operation::VectorMove { aligned: false });
        }
        Mnemonic::Movlps | Mnemonic::Movlpd => return Some(Operation::VectorHalf { high: false }),
        Mnemonic::Movhps | Mnemonic::Movhpd => return Some(Operation::VectorHalf { high: true }),
        Mnemonic::Prefetcht0
        | Mnemonic::Prefetcht1
        | Mnemonic::Prefetcht2
        | Mnemonic::Prefetchnta
        | Mnemonic::Prefetchw
        | Mnemonic::Clflush
        | Mnemonic::Clflushopt
        | Mnemonic::Clwb => return Some(Operation::CacheHint),
        _ => return None,
    };
    Some(Operation::String(operation))
}
