//! Loops of a thread around one operation. The rows say how many of their instructions are user mode's. They are not inlined, so
//! that a debugger finds them.

use super::timed;
use crate::memory::LARGE;
use crate::selectors;
use abi::cap::{Perms, Sel, root};
use abi::hypercall::{NULL, Number, SEL_SHIFT, rdi};
use abi::message::CapItem;
use abi::utcb::Utcb;
use core::ptr::addr_of_mut;

/// Nothing but the loop.
pub fn nothing() {
    timed!([]);
}

/// What a handler does to take a stamp, see [`super::handlers`].
pub fn handler_stamp() {
    super::rewind();
    timed!([
        "rdtsc",
        "mov rcx, [rip + {cursor}]",
        "mov [rcx], eax",
        "add rcx, 4",
        "mov [rip + {scratch}], rcx",
        "cmp rcx, [rip + {end}]",
        "je 3f",
        "3:",
    ] cursor = sym super::CURSOR, scratch = sym super::SCRATCH, end = sym super::END,);
}

/// A hypercall that does not exist: instructions 2 + loop.
#[inline(never)]
pub fn null() -> u64 {
    timed!(["mov edi, {rdi}", "syscall"] rdi = const NULL,)
}

/// A call to portal `PT` with tag `TAG`; the words are whatever is in the registers: 3 + loop.
#[inline(never)]
pub fn call<const PT: u64, const TAG: u64>() -> u64 {
    timed!(["mov edi, {rdi}", "mov esi, {tag}", "syscall"]
        rdi = const PT << SEL_SHIFT | Number::Call as u64, tag = const TAG,)
}

/// The same with four words of its own: 7 + loop.
#[inline(never)]
pub fn call_with_words<const PT: u64>() -> u64 {
    timed!([
        "mov edi, {rdi}",
        "xor esi, esi",
        "mov edx, 1",
        "mov r8d, 2",
        "mov r9d, 3",
        "mov r10d, 4",
        "syscall",
    ] rdi = const PT << SEL_SHIFT | Number::Call as u64,)
}

/// Puts the capability that calls pass into the UTCB at `utcb`, which is that of the calling thread.
pub fn pass_capability(utcb: u64) {
    let item = CapItem::send(selectors::DONE, Perms::SM_UP);
    // SAFETY: the kernel has mapped the page for the calling thread, and nobody else uses it.
    unsafe { addr_of_mut!((*(utcb as *mut Utcb)).caps[0]).write(item) };
}

/// Up and down: 5 + loop.
#[inline(never)]
pub fn up_down() -> u64 {
    timed!(["mov edi, {up}", "syscall", "mov edi, {down}", "xor esi, esi", "syscall"]
        up = const rdi(Number::SmUp, 0, selectors::PING), down = const rdi(Number::SmDown, 0, selectors::PING),)
}

/// Up for the other thread, and down until that has answered: 5 + loop.
#[inline(never)]
pub fn ping() -> u64 {
    timed!(["mov edi, {up}", "syscall", "mov edi, {down}", "xor esi, esi", "syscall"]
        up = const rdi(Number::SmUp, 0, selectors::PING), down = const rdi(Number::SmDown, 0, selectors::PONG),)
}

/// The other thread: 5 and a jump.
#[inline(never)]
pub fn pong() -> u64 {
    // SAFETY: hypercalls that change no memory, for ever.
    unsafe {
        core::arch::asm!("2:", "mov edi, {down}", "xor esi, esi", "syscall", "mov edi, {up}", "syscall", "jmp 2b",
            up = const rdi(Number::SmUp, 0, selectors::PONG), down = const rdi(Number::SmDown, 0, selectors::PING),
            options(noreturn));
    }
}

/// RDI for the next selector.
const NEXT: u64 = 1 << SEL_SHIFT;

/// Creates semaphores at successive selectors: 6 + loop.
#[inline(never)]
pub fn create_sm() -> u64 {
    timed!(["mov rdi, r14", "xor esi, esi", "xor edx, edx", "mov r8, {none}", "syscall", "add r14, {next}"]
        none = const Sel::NONE.0, next = const NEXT,
        inout("r14") rdi(Number::CreateSm, 0, selectors::CREATED) => _,)
}

/// Creates portals at successive selectors: 7 + loop.
#[inline(never)]
pub fn create_pt() -> u64 {
    timed!(["mov rdi, r14", "xor esi, esi", "mov edx, {ec}", "mov r8d, {ip}", "xor r9d, r9d", "syscall", "add r14, {next}"]
        ec = const selectors::HANDLERS.0, ip = const abi::PAGE_SIZE, next = const NEXT,
        inout("r14") rdi(Number::CreatePt, 0, selectors::CREATED) => _,)
}

/// Flags of [`Number::CreateEc`] for a local EC.
const LOCAL: u64 = 1;

/// Creates local ECs on CPU 0 with successive UTCBs from `utcb` on: 8 + loop.
#[inline(never)]
pub fn create_ec(utcb: u64) -> u64 {
    timed!(["mov rdi, r14", "xor esi, esi", "mov rdx, r15", "mov r8d, {sp}", "xor r9d, r9d", "syscall",
            "add r14, {next}", "add r15, {page}"]
        sp = const abi::PAGE_SIZE, next = const NEXT, page = const abi::PAGE_SIZE,
        inout("r14") rdi(Number::CreateEc, LOCAL, selectors::CREATED) => _, inout("r15") utcb => _,)
}

/// Creates domains with an object and a memory space, at successive selectors by three: 15 + loop.
#[inline(never)]
pub fn create_pd<const QUOTA: u64>() -> u64 {
    timed!([
        "mov rdi, r14", "xor esi, esi", "mov edx, {quota}", "syscall",
        "mov rsi, r14", "shr rsi, 8", "lea rdi, [r14 + {object}]", "xor edx, edx", "syscall",
        "mov rsi, r14", "shr rsi, 8", "lea rdi, [r14 + {memory}]", "mov edx, 1", "syscall",
        "add r14, {next}",
    ]
        quota = const QUOTA, next = const 3 * NEXT,
        object = const NEXT + Number::CreateSpace as u64 - Number::CreatePd as u64,
        memory = const 2 * NEXT + Number::CreateSpace as u64 - Number::CreatePd as u64,
        inout("r14") rdi(Number::CreatePd, 0, selectors::CREATED) => _,)
}

/// RSI of a delegation.
const fn from(space: Sel, rights: u64) -> u64 {
    space.0 << 32 | rights
}

/// Delegates `COUNT` capabilities to the other domain: 6 + loop.
#[inline(never)]
pub fn delegate_caps<const COUNT: u64>() -> u64 {
    timed!(["mov edi, {to}", "mov rsi, {from}", "mov edx, {src}", "mov r8d, {dst}", "mov r9d, {count}", "syscall"]
        to = const rdi(Number::Delegate, 0, selectors::DOMAIN_OBJ), from = const from(root::OBJ, Perms::ALL.bits() as u64),
        src = const selectors::CREATED.0, dst = const selectors::CREATED.0, count = const COUNT,)
}

/// Delegates the page numbered `src` of this task to successive pages of the other domain from `dst` on: 7 + loop.
#[inline(never)]
pub fn delegate_page(src: u64, dst: u64) -> u64 {
    timed!(["mov edi, {to}", "mov rsi, {from}", "mov rdx, r14", "mov r8, r15", "mov r9d, 1", "syscall", "inc r15"]
        to = const rdi(Number::Delegate, 0, selectors::DOMAIN_MEM), from = const from(root::MEM, 1),
        inout("r14") src => _, inout("r15") dst => _,)
}

/// Delegates the large physical page numbered `src` to successive large pages of the other domain: 7 + loop.
#[inline(never)]
pub fn delegate_large(src: u64, dst: u64) -> u64 {
    timed!(["mov edi, {to}", "mov rsi, {from}", "mov rdx, r14", "mov r8, r15", "mov r9d, {count}", "syscall",
            "add r15, {count}"]
        to = const rdi(Number::Delegate, 0, selectors::DOMAIN_MEM), from = const from(root::PHYS, 3),
        count = const LARGE, inout("r14") src => _, inout("r15") dst => _,)
}

/// Raises an exception; its handler skips the instruction, which is two bytes long: 1 + loop.
#[inline(never)]
pub fn invalid_instruction() {
    timed!(["ud2"]);
}
