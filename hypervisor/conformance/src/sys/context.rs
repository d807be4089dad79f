//! Slots, each the stack and UTCB of one execution context, and the entries of contexts.
//!
//! A slot has the same address in every domain. What a context runs is written to the top of its stack before it exists.

use super::hypercall::Message;
use abi::PAGE_SIZE;
use abi::cap::Sel;
use abi::hypercall::Number;

/// Bytes of a slot; the UTCB is its last page, the stack lies below.
pub const SLOT_SIZE: u64 = 1 << 16;
/// Number of slots.
pub const SLOTS: u64 = 256;
/// Pages of a stack.
pub const STACK_PAGES: u64 = 6;
/// A semaphore that nobody ups, at the same selector in all domains.
pub const NEVER: Sel = Sel(60);

const BASE: u64 = 0x1000_0000;
/// Words at the top of a stack: function, argument, semaphore to up at the end, padding.
const TOP_WORDS: u64 = 4;

/// First address of a slot.
pub const fn slot_base(index: u64) -> u64 {
    BASE + index * SLOT_SIZE
}

/// Address of a slot's UTCB.
pub const fn utcb_at(index: u64) -> u64 {
    slot_base(index + 1) - PAGE_SIZE
}

/// First address of a slot's stack.
pub const fn stack_at(index: u64) -> u64 {
    utcb_at(index) - STACK_PAGES * PAGE_SIZE
}

/// Initial stack pointer.
pub const fn stack_pointer(index: u64) -> u64 {
    utcb_at(index) - TOP_WORDS * 8
}

/// Writes what a context of this slot runs. The stack is mapped in the root task too.
fn prepare(index: u64, words: [u64; 3]) {
    for (i, word) in words.into_iter().enumerate() {
        // SAFETY: the slot's stack is mapped and no context uses it yet (`kit` hands slots out).
        unsafe { (stack_pointer(index) as *mut u64).add(i).write_volatile(word) };
    }
}

/// Prepares a slot for a thread that runs `body(argument)` and then ups `done`.
pub fn prepare_thread(index: u64, body: extern "sysv64" fn(u64), argument: u64, done: Sel) {
    prepare(index, [body as usize as u64, argument, done.0]);
}

/// Prepares a slot for a local EC whose portals call `body`.
pub fn prepare_local(index: u64, body: extern "sysv64" fn(&mut Message)) {
    prepare(index, [body as usize as u64, 0, 0]);
}

/// Instruction pointer of threads.
pub fn thread_entry() -> u64 {
    enter_thread as *const () as u64
}

/// Instruction pointer of portals.
pub fn portal_entry() -> u64 {
    enter_portal as *const () as u64
}

#[unsafe(naked)]
unsafe extern "sysv64" fn enter_thread() -> ! {
    core::arch::naked_asm!(
        "mov rbx, rdi",
        "mov rax, [rbx]",
        "mov rdi, [rbx + 8]",
        "call rax",
        "mov rdi, [rbx + 16]",
        "shl rdi, 8",
        "or rdi, {up}",
        "syscall",
        "2:",
        "mov edi, {never}",
        "xor esi, esi",
        "syscall",
        "jmp 2b",
        up = const Number::SmUp as u64,
        never = const NEVER.0 << 8 | Number::SmDown as u64,
    )
}

#[unsafe(naked)]
unsafe extern "sysv64" fn enter_portal() -> ! {
    core::arch::naked_asm!(
        "mov rax, [rsp]",
        "push r10",
        "push r9",
        "push r8",
        "push rdx",
        "push rsi",
        "push rdi",
        "mov rdi, rsp",
        "call rax",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop r8",
        "pop r9",
        "pop r10",
        "mov edi, {reply}",
        "syscall",
        // Only a context without portals comes back.
        "ud2",
        reply = const Number::Reply as u64,
    )
}
