//! Exceptions of threads and exits of vCPUs that an idle handler of this CPU takes at once, and the handler's reply.
//!
//! What an exception needs is all here, if its portal asks for RIP and RFLAGS at most, and so does the reply. The state of vCPUs, and
//! whatever else is selected, is copied by a function in Rust. The handler gets the initial vector state, the EC gets its own
//! back (decision 0002): the handler may be in another domain, and may use all vector registers.

use super::{after, compare_spaces, find_handler, serve};
use crate::arch::entry::{self, vector};
use crate::arch::layout::kernel_asm;
use crate::arch::{fpu, virt};
use crate::{event, ipc};
use abi::cap::Perms;
use abi::state::Mtd;

/// What is not copied here: with the reply, also the wish that the thread be stopped.
const MORE: u32 = !Mtd::RIP.union(Mtd::RFLAGS).bits();
const _: () = assert!(vector::PAGE_FAULT == vector::GENERAL_PROTECTION + 1);

/// RDI: selector at bit 8 of the event portal of the EC in RBX, whose number is in RDI.
macro_rules! select {
    () => {
        "add rdi, [rbx + Ec.event_base]
        shl rdi, SEL_SHIFT"
    };
}

/// The reply of the handler in RBX to the EC in R13, with its frame in R14, was accepted: it continues, unless something else is
/// to run.
macro_rules! answer {
    () => {
        "mov qword ptr [rbx + Ec.state], State.Idle
        mov qword ptr [r13 + Ec.state], State.Runnable
        mov rax, gs:[Cpu.helping]
        or rax, gs:[Cpu.resched]
        or rax, [r14 + Reg.Recall]
        jnz 8f
        lea rax, [r14 + TOP]
        mov gs:[Cpu.frame_top], rax
        mov gs:[Cpu.current], r13"
    };
}

/// Loads the vector state of the frame in R14. EDX need not be set: there are no components that high.
macro_rules! restore {
    () => {
        "cmp qword ptr [rip + {plain}], 0
        jne 4f
        fninit; cmp qword ptr [rip + {xcr0}], 0
        jne 4f
        fxrstor64 [r14 + EXTENDED]
        jmp 5f
        4: mov eax, -1
        xrstor64 [r14 + EXTENDED]
        5:"
    };
}

kernel_asm!(
    ".pushsection .text.hot,\"ax\",@progbits",
    // An exception of the current EC. All registers are saved. RDX: vector, R8: error code, R10: RIP, R11: RFLAGS.
    ".balign 64",
    ".global raise_exception",
    "raise_exception:",
    "mov rbx, gs:[Cpu.current]",
    "xor r9d, r9d",
    "lea eax, [rdx - GENERAL_PROTECTION]",
    "cmp eax, 1",
    "jbe 2f",
    "3:",
    "mov edi, edx",
    select!(),
    find_handler!(),
    "mov esi, [r12 + Pt.mtd]",
    "test esi, {more}",
    "jnz 7f",
    "mov rdi, [r13 + Ec.utcb]",
    "mov [rdi + UTCB_RIP], r10",
    "mov [rdi + UTCB_RFLAGS], r11",
    "mov r15, [rbx + Ec.frame]",
    // The message is in the registers of the handler in R13. R15: frame of the EC.
    "delivered:",
    serve!(),
    "cmp qword ptr [rip + {plain}], 0",
    "je 4f",
    "mov eax, -1",
    "xsave64 [r15 + EXTENDED]",
    "5: xrstor64 [rip + {initial}]",
    "jmp enter_handler",
    "4: cmp qword ptr [rip + {xcr0}], 0",
    "je 4f",
    "mov eax, -1; xsave64 [r15 + EXTENDED]; fninit",
    "jmp 5b",
    "4: fxsave64 [r15 + EXTENDED]; fninit; fxrstor64 [rip + {initial}]",
    "jmp enter_handler",
    // A page fault; below it general protection, perhaps because ports are not loaded yet.
    "2:",
    "jb 7f",
    "mov r9, cr2",
    "jmp 3b",
    "6: 7:",
    "mov rdi, [rbx + Ec.frame]",
    "mov [rdi + Reg.EventReason], rdx",
    "mov [rdi + Reg.EventInfo1], r8",
    "mov [rdi + Reg.EventInfo2], r9",
    "cld",
    "mov rsp, gs:[Cpu.stack]",
    "mov edi, edx",
    "call {unusual_exception}",
    "lea r15, [rip + {deliver_thread}]",
    "jmp raise_or_resume",
    // What a handler in Rust returned: RAX and EDX, see `Resume`. R15: what copies the state if that is an event.
    ".balign 64",
    ".global raise_or_resume",
    "raise_or_resume:",
    "cmp edx, Kind.Raise",
    "jne resume",
    "mov rbx, gs:[Cpu.current]",
    "mov rdi, rax",
    select!(),
    find_handler!(),
    "mov r14d, [r12 + Pt.mtd]",
    "mov rdi, [rbx + Ec.frame]",
    "mov rsi, rbx",
    "mov rdx, [r13 + Ec.utcb]",
    "mov ecx, r14d",
    "call r15",
    "mov r10, rax",
    "mov esi, r14d",
    "mov r15, [rbx + Ec.frame]",
    "mov rdx, [r15 + Reg.EventReason]",
    "mov r8, [r15 + Reg.EventInfo1]",
    "mov r9, [r15 + Reg.EventInfo2]",
    "mov rax, [r12 + Pt.ec + 8]",
    "jmp delivered",
    // RDI: selector.
    "6: 7:",
    "call {raise_slow}",
    "jmp resume",
    // RAX: handler, RDI: caller, which lives and came not by a hypercall, RSP: its frame, ESI: selection.
    ".balign 64",
    ".global reply_to_event",
    "reply_to_event:",
    "mov rbx, rax",
    "mov r13, rdi",
    "mov r14, rsp",
    "mov rsp, gs:[Cpu.stack]",
    "cmp qword ptr [r13 + Ec.state], State.Waiting",
    "jne 7f",
    "mov rax, gs:[Cpu.id]",
    "cmp [r13 + Ec.cpu], rax",
    "jne 7f",
    "mov rdx, [rbx + Ec.utcb]",
    "cmp dword ptr [r14 + Reg.Kind], Kind.Guest",
    "je 2f",
    "test esi, {more}",
    "jnz 7f",
    "test esi, MTD_RIP",
    "jz 3f",
    // IRET to a non-canonical address faults in the kernel; user space ends below the first one.
    "mov rax, [rdx + UTCB_RIP]",
    "mov rcx, USER_TOP",
    "cmp rax, rcx",
    "cmova rax, rcx",
    "mov [r14 + Reg.Rip], rax",
    "3:",
    "test esi, MTD_RFLAGS",
    "jz 3f",
    "mov eax, [rdx + UTCB_RFLAGS]",
    "and eax, FLAGS_WRITABLE",
    "or eax, USER_FLAGS",
    "mov [r14 + Reg.Rflags], rax",
    "3:",
    answer!(),
    "mov ebx, {return_to_interrupted}",
    compare_spaces!(),
    ".global return_to_interrupted",
    "return_to_interrupted:",
    restore!(),
    "mov rax, r14",
    "jmp resume_interrupted",
    // A vCPU.
    "2:",
    "test esi, esi",
    "js 7f",
    "mov ecx, esi",
    "mov rdi, r14",
    "mov rsi, r13",
    "cmp byte ptr [rip + {is_vmx}], 0",
    "jne 3f",
    "call {accept_svm}",
    answer!(),
    restore!(),
    "mov rdi, r14",
    "mov rsi, r13",
    "jmp enter_svm",
    "3:",
    "call {accept_vmx}",
    answer!(),
    restore!(),
    "mov rdi, r14",
    "mov rsi, r13",
    "jmp enter_vmx",
    // To be stopped, on another CPU, no longer waiting, or more than this is selected.
    "7:",
    "call {reply}",
    "jmp resume",
    "8:",
    "call {continue_elsewhere}",
    "jmp resume",
    ".popsection";
    permission = const Perms::PT_EVENT.bits(), more = const MORE as i32,
    return_to_interrupted = const after::RETURN_TO_INTERRUPTED, xcr0 = sym fpu::XCR0, plain = sym fpu::PLAIN,
    initial = sym fpu::INIT, is_vmx = sym virt::IS_VMX, accept_svm = sym virt::accept_svm,
    accept_vmx = sym virt::accept_vmx, unusual_exception = sym entry::unusual_exception,
    deliver_thread = sym event::deliver_thread, raise_slow = sym event::raise_slow,
    reply = sym crate::syscall::reply_to_event, continue_elsewhere = sym ipc::continue_elsewhere,
);
