//! Decoding of intercepted privileged instructions. A CPU without next-RIP saving and decode
//! assists (APM2 15.7.1, 15.10) reports that such an instruction exited, but neither how long it
//! is nor which registers it names.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use vm_memory::GuestMemoryBackend;

use super::decode::{decode_raw, gpr_of, memory_operand};
use super::error::{Stop, Unemulated};
use super::fetch::Fetcher;
use crate::state::{CpuMode, Gpr, SegmentRegister, VcpuState};

/// Control registers that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "architectural register names")]
pub enum ControlRegister {
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Cr8,
}

impl ControlRegister {
    /// The control register with this number, if there is one.
    pub fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Cr0,
            2 => Self::Cr2,
            3 => Self::Cr3,
            4 => Self::Cr4,
            8 => Self::Cr8,
            _ => return None,
        })
    }
}

/// What was intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "instructions without operands say all by their name")]
pub enum InterceptedOperation {
    Cpuid,
    Rdmsr,
    Wrmsr,
    Rdtsc,
    Rdtscp,
    Rdpmc,
    Hlt,
    Pause,
    Monitor,
    Mwait,
    Vmmcall,
    Vmcall,
    Invd,
    Wbinvd,
    Xsetbv,
    Clts,
    /// Any other SVM instruction (VMRUN, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, INVLPGA).
    Svm,
    /// IN or OUT without string.
    PortIo,
    /// INS or OUTS: [`super::Emulator::emulate`] performs it.
    StringIo,
    /// MOV CRn, register.
    WriteControl {
        control: ControlRegister,
        register: Gpr,
    },
    /// MOV register, CRn.
    ReadControl {
        control: ControlRegister,
        register: Gpr,
    },
    /// MOV DRn, register.
    WriteDebug {
        number: u8,
        register: Gpr,
    },
    /// MOV register, DRn.
    ReadDebug {
        number: u8,
        register: Gpr,
    },
    /// LMSW from a register.
    Lmsw {
        register: Gpr,
    },
    /// INVLPG of this linear address.
    Invlpg {
        linear: u64,
    },
}

/// A decoded intercepted instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intercepted {
    /// What it is.
    pub operation: InterceptedOperation,
    /// Its length in bytes, prefixes included.
    pub length: u8,
}

pub(super) fn decode<M: GuestMemoryBackend>(fetcher: &Fetcher<'_, '_, M>) -> Result<Intercepted, Stop> {
    let mut code = fetcher.fetch()?;
    if let Some(intercepted) = unprefixed(code.bytes.as_slice()) {
        return Ok(intercepted);
    }
    let instruction = decode_raw(&mut code, fetcher)?;
    let operation = operation_of(&instruction, fetcher.state).ok_or(Unemulated::Instruction)?;
    Ok(Intercepted { operation, length: instruction.len() as u8 })
}

/// The frequent instructions without prefix, without the cost of a full decode (APM3 appendix A).
fn unprefixed(code: &[u8]) -> Option<Intercepted> {
    use InterceptedOperation as O;
    let (operation, length) = match code {
        [0x0f, 0xa2, ..] => (O::Cpuid, 2),
        [0x0f, 0x32, ..] => (O::Rdmsr, 2),
        [0x0f, 0x30, ..] => (O::Wrmsr, 2),
        [0x0f, 0x31, ..] => (O::Rdtsc, 2),
        [0x0f, 0x01, 0xd9, ..] => (O::Vmmcall, 3),
        [0xf4, ..] => (O::Hlt, 1),
        _ => return None,
    };
    Some(Intercepted { operation, length })
}

fn operation_of(instruction: &Instruction, state: &VcpuState) -> Option<InterceptedOperation> {
    use InterceptedOperation as O;
    let operation = match instruction.mnemonic() {
        Mnemonic::Cpuid => O::Cpuid,
        Mnemonic::Rdmsr => O::Rdmsr,
        Mnemonic::Wrmsr => O::Wrmsr,
        Mnemonic::Rdtsc => O::Rdtsc,
        Mnemonic::Rdtscp => O::Rdtscp,
        Mnemonic::Rdpmc => O::Rdpmc,
        Mnemonic::Hlt => O::Hlt,
        Mnemonic::Pause => O::Pause,
        Mnemonic::Monitor => O::Monitor,
        Mnemonic::Mwait => O::Mwait,
        Mnemonic::Vmmcall => O::Vmmcall,
        Mnemonic::Vmcall => O::Vmcall,
        Mnemonic::Invd => O::Invd,
        Mnemonic::Wbinvd | Mnemonic::Wbnoinvd => O::Wbinvd,
        Mnemonic::Xsetbv => O::Xsetbv,
        Mnemonic::Clts => O::Clts,
        Mnemonic::Vmrun | Mnemonic::Vmload | Mnemonic::Vmsave | Mnemonic::Stgi => O::Svm,
        Mnemonic::Clgi | Mnemonic::Skinit | Mnemonic::Invlpga => O::Svm,
        Mnemonic::In | Mnemonic::Out => O::PortIo,
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => O::StringIo,
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => O::StringIo,
        Mnemonic::Mov => return special_move(instruction),
        Mnemonic::Lmsw => O::Lmsw { register: gpr_of(instruction.op0_register())? },
        Mnemonic::Invlpg => O::Invlpg { linear: invalidated_address(instruction, state)? },
        _ => return None,
    };
    Some(operation)
}

/// MOV to or from a control or debug register.
fn special_move(instruction: &Instruction) -> Option<InterceptedOperation> {
    use InterceptedOperation as O;
    if instruction.op0_kind() != OpKind::Register || instruction.op1_kind() != OpKind::Register {
        return None;
    }
    let (to, from) = (instruction.op0_register(), instruction.op1_register());
    let control_register = |register: Register| ControlRegister::from_number(register.number() as u64);
    if to.is_cr() {
        Some(O::WriteControl { control: control_register(to)?, register: gpr_of(from)? })
    } else if from.is_cr() {
        Some(O::ReadControl { control: control_register(from)?, register: gpr_of(to)? })
    } else if to.is_dr() {
        Some(O::WriteDebug { number: to.number() as u8, register: gpr_of(from)? })
    } else if from.is_dr() {
        Some(O::ReadDebug { number: from.number() as u8, register: gpr_of(to)? })
    } else {
        None
    }
}

fn invalidated_address(instruction: &Instruction, state: &VcpuState) -> Option<u64> {
    let operand = memory_operand(instruction)?;
    let offset = operand.effective(state);
    let base = state.segment(operand.segment).base;
    Some(match (state.mode(), operand.segment) {
        (CpuMode::Long64, SegmentRegister::Fs | SegmentRegister::Gs) => base.wrapping_add(offset),
        (CpuMode::Long64, _) => offset,
        _ => base.wrapping_add(offset) & u64::from(u32::MAX),
    })
}
