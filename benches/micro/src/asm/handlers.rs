//! Portal handlers, all of them without a stack.

use abi::hypercall::Number;
use abi::state::{Mtd, word};
use abi::utcb::offset;
use core::arch::naked_asm;

/// Address of the UTCB of the handler of exceptions and exits, in this task. In the lower 2 GiB, so that one instruction
/// can name it.
pub const EVENT_UTCB: u64 = 0x3000_0000;
/// Address of the UTCB of the handlers of calls, in their domain.
pub const CALL_UTCB: u64 = 0x3000_1000;
/// Address of the UTCB of the handler on another CPU.
pub const REMOTE_UTCB: u64 = 0x3000_2000;
/// Address of the UTCB of the handler for calls inside this task.
pub const LOCAL_UTCB: u64 = 0x3000_3000;

/// Length of UD2 and of CPUID.
const LENGTH: u64 = 2;
/// Window of the handler that receives capabilities.
const WINDOW: u64 = 0x1000;

/// Replies with the words that came: 3 instructions.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn short() -> ! {
    naked_asm!("mov edi, {reply}", "xor esi, esi", "syscall", reply = const Number::Reply as u64)
}

/// Replies with `WORDS` words of the UTCB: 3 instructions.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn long<const WORDS: u64>() -> ! {
    naked_asm!("mov edi, {reply}", "mov esi, {words}", "syscall", reply = const Number::Reply as u64, words = const WORDS)
}

/// Lets capabilities that arrive be placed.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn open_window() -> ! {
    naked_asm!(
        "mov qword ptr [{utcb} + {base}], {window}",
        "mov qword ptr [{utcb} + {count}], {window}",
        "mov edi, {reply}",
        "xor esi, esi",
        "syscall",
        utcb = const CALL_UTCB,
        base = const offset::WINDOW_BASE,
        count = const offset::WINDOW_COUNT,
        window = const WINDOW,
        reply = const Number::Reply as u64,
    )
}

/// Skips the instruction that raised an exception: 4 instructions.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn skip() -> ! {
    naked_asm!(
        "add qword ptr [{rip}], {length}",
        "mov edi, {reply}",
        "mov esi, {mtd}",
        "syscall",
        rip = const EVENT_UTCB + word::RIP as u64 * 8,
        length = const LENGTH,
        reply = const Number::Reply as u64,
        mtd = const Mtd::RIP.bits(),
    )
}
