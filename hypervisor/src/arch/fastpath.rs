//! What components do all the time, in as few instructions as possible: calls and replies on one CPU, exceptions and exits that
//! a handler there takes at once ([`event`]), and ups and downs that make nobody run or wait ([`semaphore`]).
//!
//! It changes nothing before it has checked everything; if anything is unusual, it goes on in [`super::entry`] as if
//! nothing had happened, and [`crate::ipc`], [`crate::event`] or [`crate::sm`] does the whole operation. So this is an accelerator only: what it
//! does must be what they do in that case.
//!
//! Invariants that it relies on, beside the layouts:
//!
//! * A portal refers to an EC from before it lives, a host EC to its spaces ([`crate::syscall::create`]).
//! * An EC that is idle, or waits for the reply to a call, has a frame of kind `Sysret`: so enters and leaves the kernel who does
//!   hypercalls (`entry`).
//! * The state of a handler is in its registers only while it runs. Between calls it has none but its stack pointer.

mod event;
mod semaphore;

use super::fpu;
use super::layout::kernel_asm;
use abi::cap::Perms;
use abi::hypercall::Number;

const _: () = assert!(Number::Call as u64 == 0);

/// Saves what `entry` saves of who does a hypercall.
macro_rules! save {
    () => {
        "mov rsp, gs:[Cpu.frame_top]
        push r11; push rcx; push qword ptr gs:[Cpu.scratch]
        push rbx; push rbp; push r12; push r13; push r14; push r15"
    };
}

/// Finds the portal whose selector RDI has at bit 8, in the space of the EC in RBX, and its handler, which is idle, on this CPU.
/// Then R12: portal, R13: handler, RAX: the handler's identity, RBP: that of the EC. Goes to 6 if there is no capability, or
/// none with the permission; to 7 if anything else is not so.
macro_rules! find_handler {
    () => {
        // RBP: table of the selector, then RAX: offset of its slot. R12: portal; permission, identity, type. R13: handler, RAX: its
        // identity; alive, idle, on this CPU. The EC itself may have been destroyed by another CPU.
        "mov rbp, [rbx + Ec.obj]
        mov rbp, [rbp + ObjSpace.root]
        mov rax, rdi
        shr rax, TABLE_SHIFT
        cmp rax, TABLES
        jae 7f
        and eax, TABLES - 1
        mov rbp, [rbp + rax * 8]
        mov eax, edi
        shr eax, SLOT_SHIFT
        and eax, SLOT_OFFSETS
        mov r12, [rbp + rax]
        mov r13, [rbp + rax + 8]
        test r12b, {permission}
        jz 6f
        and r12, OBJECT_MASK
        cmp [r12], r13
        jne 7f
        cmp byte ptr [r12 + Header.kind], ObjectType.Pt
        jne 7f
        mov r13, [r12 + Pt.ec]
        mov rax, [r12 + Pt.ec + 8]
        cmp [r13], rax
        jne 7f
        cmp qword ptr [r13 + Ec.state], State.Idle
        jne 7f
        mov rbp, gs:[Cpu.id]
        cmp [r13 + Ec.cpu], rbp
        jne 7f
        mov rbp, [rbx]
        test rbp, rbp
        jz 7f"
    };
}

/// The handler found by [`find_handler`] serves the EC. Weak references: address, then identity.
macro_rules! serve {
    () => {
        "mov [r13 + Ec.caller], rbx
        mov [r13 + Ec.caller + 8], rbp
        mov [rbx + Ec.callee], r13
        mov [rbx + Ec.callee + 8], rax
        mov qword ptr [rbx + Ec.state], State.Waiting
        mov qword ptr [r13 + Ec.state], State.Runnable"
    };
}

/// Whether the spaces of the EC in R13, with its frame in R14, are loaded; if not, goes to where the first that is not is, with it
/// in RBP. RBX tells where to go then.
macro_rules! compare_spaces {
    () => {
        "mov rbp, [r13 + Ec.root]
        cmp rbp, gs:[Cpu.root]
        jne switch_spaces
        mov rbp, [r13 + Ec.pio]
        cmp rbp, gs:[Cpu.ports]
        jne switch_ports
        mov rbp, [r14 + Reg.FsBase]
        cmp rbp, gs:[Cpu.fs_base]
        jne switch_fs_base"
    };
}
use {compare_spaces, find_handler, save, serve};

/// Where `switch_spaces` goes on.
mod after {
    pub const ENTER_PORTAL: u64 = 0;
    pub const RETURN_TO_CALLER: u64 = 1;
    pub const RETURN_TO_INTERRUPTED: u64 = 2;
}

kernel_asm!(
    ".pushsection .text.hot,\"ax\",@progbits",
    // RDI: portal, no flags. RSI: tag. RDX, R8, R9, R10: words. RAX is free.
    ".balign 64",
    ".global call_fast",
    "call_fast:",
    // No capabilities, no reserved bits, and not too many words.
    "cmp esi, MAX_WORDS",
    "ja syscall_general",
    save!(),
    "mov rbx, gs:[Cpu.current]",
    find_handler!(),
    // From here on it happens.
    serve!(),
    "test esi, esi",
    "jnz copy_call",
    // R13 serves whoever was current, and is to enter portal R12. RDI is free, RSI, RDX, R8, R9, R10: tag and words.
    ".global enter_handler",
    "enter_handler:",
    "mov r14, [r13 + Ec.frame]",
    "lea rbp, [r14 + TOP]",
    "mov gs:[Cpu.current], r13",
    "mov gs:[Cpu.frame_top], rbp",
    "mov ebx, {enter_portal}",
    compare_spaces!(),
    "enter_portal:",
    "mov rdi, [r12 + Pt.id]",
    "mov rcx, [r12 + Pt.ip]",
    "mov rsp, [r13 + Ec.sp]",
    "mov r11d, USER_FLAGS",
    "xor eax, eax; xor ebx, ebx; xor ebp, ebp",
    "xor r12d, r12d; xor r13d, r13d; xor r14d, r14d; xor r15d, r15d",
    "swapgs",
    "sysretq",
    // No capability, or not this permission: the commonest mistake. RCX and R11 are as they came.
    "6:",
    "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx; pop rsp",
    "mov eax, Status.BadCapability",
    "swapgs",
    "sysretq",
    "7:",
    "jmp syscall_saved",
    // RDI is the number of the hypercall and nothing else. RSI: tag. RDX, R8, R9, R10: words. Nothing is saved, because a
    // handler that replies has no state: RAX, RDI and RSP are free, the others are left alone until it is certain.
    ".balign 64",
    ".global reply_fast",
    "reply_fast:",
    // RDI: caller, RSP: its frame. Alive, on this CPU, by a hypercall.
    "mov rax, gs:[Cpu.current]",
    "mov rdi, [rax + Ec.caller]",
    "test rdi, rdi",
    "jz 7f",
    "mov rsp, [rax + Ec.caller + 8]",
    "cmp [rdi], rsp",
    "jne 7f",
    "mov rsp, [rdi + Ec.frame]",
    "cmp qword ptr [rsp + Reg.Kind], Kind.Sysret",
    "jne reply_to_event",
    "cmp esi, MAX_WORDS",
    "ja 7f",
    "mov rax, gs:[Cpu.id]",
    "cmp [rdi + Ec.cpu], rax",
    "jne 7f",
    "mov rax, gs:[Cpu.helping]",
    "or rax, gs:[Cpu.resched]",
    "or rax, [rsp + Reg.Recall]",
    "jnz 7f",
    // From here on it happens. R13: caller, R14: its frame, like above.
    "mov rax, gs:[Cpu.current]",
    "mov r13, rdi",
    "mov r14, rsp",
    "mov qword ptr [rax + Ec.state], State.Idle",
    "mov qword ptr [r13 + Ec.state], State.Runnable",
    "lea rax, [r14 + TOP]",
    "mov gs:[Cpu.frame_top], rax",
    "test esi, esi",
    "jnz copy_reply",
    "reply_copied:",
    "mov gs:[Cpu.current], r13",
    "mov ebx, {return_to_caller}",
    compare_spaces!(),
    "return_to_caller:",
    "mov r15, [r14 + Reg.R15]; mov r13, [r14 + Reg.R13]; mov r12, [r14 + Reg.R12]",
    "mov rbp, [r14 + Reg.Rbp]; mov rbx, [r14 + Reg.Rbx]",
    "mov rcx, [r14 + Reg.Rip]",
    "mov r11, [r14 + Reg.Rflags]",
    "mov rsp, [r14 + Reg.Rsp]",
    "mov r14, [r14 + Reg.R14]",
    "xor eax, eax",
    "xor edi, edi",
    "swapgs",
    "sysretq",
    "7:",
    "mov edi, Number.Reply",
    "jmp syscall_general",
    // Words of the UTCBs: from the one of RBX to that of R13. RDI, RCX and R15 are free.
    "copy_call:",
    "mov r15, rsi",
    "mov ecx, esi",
    "mov rsi, [rbx + Ec.utcb]",
    "mov rdi, [r13 + Ec.utcb]",
    "rep movsq",
    "mov rsi, r15",
    "jmp enter_handler",
    "copy_reply:",
    "mov rdi, gs:[Cpu.current]",
    "mov r15, rsi",
    "mov ecx, esi",
    "mov rsi, [rdi + Ec.utcb]",
    "mov rdi, [r13 + Ec.utcb]",
    "rep movsq",
    "mov rsi, r15",
    "jmp reply_copied",
    // What `switch::to` does for the EC in R13 with its frame in R14, from what differs on. RAX, RCX, RBP, R11, R15 are free.
    ".global switch_spaces",
    "switch_spaces:",
    "mov cr3, rbp",
    "mov gs:[Cpu.root], rbp",
    // Nothing of the other domain's extended state is left. EDX need not be set: there are no components that high.
    "cmp qword ptr [rip + {plain}], 0",
    "je 2f",
    "8: mov eax, -1",
    "xrstor64 [rip + {initial}]",
    "9:",
    // A thread of the other domain may have loaded the selector, and with it a base that is not `fs_base`.
    "cmp qword ptr [r14 + Reg.FsBase], 0",
    "je 3f",
    "mov qword ptr gs:[Cpu.fs_base], -1",
    "3:",
    "mov rbp, [r13 + Ec.pio]",
    "cmp rbp, gs:[Cpu.ports]",
    "jne switch_ports",
    "4:",
    "mov rbp, [r14 + Reg.FsBase]",
    "cmp rbp, gs:[Cpu.fs_base]",
    "jne switch_fs_base",
    "7:",
    "cmp ebx, {return_to_caller}",
    "jb enter_portal",
    "je return_to_caller",
    "jmp return_to_interrupted",
    "2: fninit; cmp qword ptr [rip + {xcr0}], 0",
    "jne 8b",
    "fxrstor64 [rip + {initial}]",
    "jmp 9b",
    ".global switch_ports",
    "switch_ports:",
    "mov gs:[Cpu.ports], rbp",
    "mov eax, PORTS_DENIED",
    "mov ecx, PORTS_MAPPED",
    "cmp rbp, gs:[Cpu.pio]",
    "cmove eax, ecx",
    "mov gs:[IO_MAP], rax",
    "jmp 4b",
    ".global switch_fs_base",
    "switch_fs_base:",
    "mov gs:[Cpu.fs_base], rbp",
    "mov r15, rdx",
    "mov ecx, Msr.FsBase",
    "mov eax, ebp",
    "mov rdx, rbp",
    "shr rdx, 32",
    "wrmsr",
    "mov rdx, r15",
    "jmp 7b",
    ".popsection";
    permission = const Perms::PT_CALL.bits(), enter_portal = const after::ENTER_PORTAL,
    return_to_caller = const after::RETURN_TO_CALLER, xcr0 = sym fpu::XCR0, plain = sym fpu::PLAIN,
    initial = sym fpu::INIT,
);
