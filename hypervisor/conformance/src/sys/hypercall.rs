//! Hypercalls with any register content.

use abi::cap::Sel;
use abi::hypercall::{Args, Number, Registers, rdi};
use abi::message::Tag;
use abi::status::Status;

/// Enters the kernel.
#[inline(always)]
pub fn enter(args: Args) -> Registers {
    // SAFETY: what the hypercall does to memory is up to the callers, see the module above.
    unsafe { abi::syscall!(args) }
}

/// The status in RAX; one that does not exist counts as [`Status::BadHypercall`].
pub fn status(raw: u64) -> Status {
    Status::from_raw(raw).unwrap_or(Status::BadHypercall)
}

/// Any hypercall without a message: RDX and R8.
///
/// # Errors
/// What the kernel says.
pub fn invoke(args: Args) -> Result<[u64; 2], Status> {
    let registers = enter(args);
    status(registers.rax).ok()?;
    Ok([registers.rdx, registers.r8])
}

/// A message in registers, as a portal handler gets it: tag and words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Message {
    /// Id of the portal that was called.
    pub id: u64,
    /// Tag.
    pub tag: Tag,
    /// Words.
    pub words: [u64; 4],
}

impl Message {
    /// A message of register words only.
    pub fn words(words: [u64; 4]) -> Self {
        Self { words, ..Self::default() }
    }
}

/// Calls a portal.
///
/// # Errors
/// What the kernel says.
pub fn call(portal: Sel, message: Message) -> Result<Message, Status> {
    let [rdx, r8, r9, r10] = message.words;
    let registers = enter(Args { rdi: rdi(Number::Call, 0, portal), rsi: message.tag.0, rdx, r8, r9, r10 });
    status(registers.rax).ok()?;
    Ok(Message { id: 0, tag: Tag(registers.rsi), words: [registers.rdx, registers.r8, registers.r9, registers.r10] })
}

/// A hypercall whose only argument is the selector.
pub fn simple(number: Number, sel: Sel) -> Args {
    Args { rdi: rdi(number, 0, sel), ..Args::default() }
}

/// The clock.
pub fn now() -> u64 {
    // SAFETY: no effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}
