//! What components do all the time, in as few instructions as possible: calls and replies on one CPU, exceptions and exits that
//! a handler there takes at once ([`event`]), and ups and downs of semaphores that make nobody run or wait.
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

use super::x86::Msr;
use super::{descriptor, fpu, percpu};
use crate::cpu;
use crate::ec::{self, State};
use crate::frame::{PUSHED, Reg};
use crate::ipc::USER_FLAGS;
use crate::mem::object::{self, CAP_SLOT_BITS, CapSlot};
use crate::pt;
use crate::{sm, space::obj};
use abi::cap::{ObjectType, Perms, Sel};
use abi::hypercall::{Number, SEL_SHIFT};
use abi::message::MAX_WORDS;
use abi::status::Status;
use core::arch::global_asm;

const fn at(reg: Reg) -> usize {
    reg as usize * 8
}

/// Bits of a selector that index its table; RDI holds the selector at bit 8, so the index is its second byte.
const TABLE_BITS: u32 = CapSlot::PER_PAGE.trailing_zeros();
const _: () = assert!(TABLE_BITS == 8 && SEL_SHIFT == 8);
const _: () = assert!(Number::Call as u64 == 0);
const _: () = assert!(Number::SmDown as u64 == Number::SmUp as u64 + 1);
const _: () = assert!(Perms::SM_UP.bits() == 1 && Perms::SM_DOWN.bits() == 2);

/// Saves what `entry` saves of who does a hypercall.
macro_rules! save {
    () => {
        "mov rsp, gs:[{frame_top}]
        push r11; push rcx; push qword ptr gs:[{scratch}]
        push rbx; push rbp; push r12; push r13; push r14; push r15"
    };
}

// What exceeds the tables is masked too, so that nothing behind them is read ahead (decision 0010).
const _: () = assert!((Sel::COUNT >> TABLE_BITS).is_power_of_two());

/// Finds the portal whose selector RDI has at bit 8, in the space of the EC in RBX, and its handler, which is idle, on this CPU.
/// Then R12: portal, R13: handler, RAX: the handler's identity, RBP: that of the EC. Goes to 6 if there is no capability, or
/// none with the permission; to 7 if anything else is not so.
macro_rules! find_handler {
    () => {
        // RBP: table of the selector, then RAX: offset of its slot. R12: portal; permission, identity, type. R13: handler, RAX: its
        // identity; alive, idle, on this CPU. The EC itself may have been destroyed by another CPU.
        "mov rbp, [rbx + {ec_obj}]
        mov rbp, [rbp + {obj_root}]
        mov rax, rdi
        shr rax, {table_shift}
        cmp rax, {tables}
        jae 7f
        and eax, {tables} - 1
        mov rbp, [rbp + rax * 8]
        mov eax, edi
        shr eax, {slot_shift}
        and eax, {slot_offset_mask}
        mov r12, [rbp + rax]
        mov r13, [rbp + rax + 8]
        test r12b, {permission}
        jz 6f
        and r12, {slot_mask}
        cmp [r12], r13
        jne 7f
        cmp byte ptr [r12 + {object_kind}], {kind_pt}
        jne 7f
        mov r13, [r12 + {pt_ec}]
        mov rax, [r12 + {pt_ec} + 8]
        cmp [r13], rax
        jne 7f
        cmp qword ptr [r13 + {ec_state}], {idle}
        jne 7f
        mov rbp, gs:[{cpu_id}]
        cmp [r13 + {ec_cpu}], rbp
        jne 7f
        mov rbp, [rbx]
        test rbp, rbp
        jz 7f"
    };
}

/// The handler found by [`find_handler`] serves the EC. Weak references: address, then identity.
macro_rules! serve {
    () => {
        "mov [r13 + {ec_caller}], rbx
        mov [r13 + {ec_caller} + 8], rbp
        mov [rbx + {ec_callee}], r13
        mov [rbx + {ec_callee} + 8], rax
        mov qword ptr [rbx + {ec_state}], {waiting}
        mov qword ptr [r13 + {ec_state}], {runnable}"
    };
}

/// Whether the spaces of the EC in R13, with its frame in R14, are loaded; if not, goes to where the first that is not is, with it
/// in RBP. RBX tells where to go then.
macro_rules! compare_spaces {
    () => {
        "mov rbp, [r13 + {ec_root}]
        cmp rbp, gs:[{cpu_root}]
        jne switch_spaces
        mov rbp, [r13 + {ec_pio}]
        cmp rbp, gs:[{cpu_ports}]
        jne switch_ports
        mov rbp, [r14 + {fs_base}]
        cmp rbp, gs:[{cpu_fs_base}]
        jne switch_fs_base"
    };
}
use {compare_spaces, find_handler, serve};

/// Where `switch_spaces` goes on.
mod after {
    pub const ENTER_PORTAL: u64 = 0;
    pub const RETURN_TO_CALLER: u64 = 1;
    pub const RETURN_TO_INTERRUPTED: u64 = 2;
}

global_asm!(
    ".pushsection .text.hot,\"ax\",@progbits",
    // RDI: portal, no flags. RSI: tag. RDX, R8, R9, R10: words. RAX is free.
    ".balign 64",
    ".global call_fast",
    "call_fast:",
    // No capabilities, no reserved bits, and not too many words.
    "cmp esi, {max_words}",
    "ja syscall_general",
    save!(),
    "mov rbx, gs:[{current}]",
    find_handler!(),
    // From here on it happens.
    serve!(),
    "test esi, esi",
    "jnz copy_call",
    // R13 serves whoever was current, and is to enter portal R12. RDI is free, RSI, RDX, R8, R9, R10: tag and words.
    ".global enter_handler",
    "enter_handler:",
    "mov r14, [r13 + {ec_frame}]",
    "lea rbp, [r14 + {top}]",
    "mov gs:[{current}], r13",
    "mov gs:[{frame_top}], rbp",
    "mov ebx, {enter_portal}",
    compare_spaces!(),
    "enter_portal:",
    "mov rdi, [r12 + {pt_id}]",
    "mov rcx, [r12 + {pt_ip}]",
    "mov rsp, [r13 + {ec_sp}]",
    "mov r11d, {flags}",
    "xor eax, eax; xor ebx, ebx; xor ebp, ebp",
    "xor r12d, r12d; xor r13d, r13d; xor r14d, r14d; xor r15d, r15d",
    "swapgs",
    "sysretq",
    // No capability, or not this permission: the commonest mistake. RCX and R11 are as they came.
    "6:",
    "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx; pop rsp",
    "mov eax, {bad_capability}",
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
    "mov rax, gs:[{current}]",
    "mov rdi, [rax + {ec_caller}]",
    "test rdi, rdi",
    "jz 7f",
    "mov rsp, [rax + {ec_caller} + 8]",
    "cmp [rdi], rsp",
    "jne 7f",
    "mov rsp, [rdi + {ec_frame}]",
    "cmp qword ptr [rsp + {kind}], {sysret}",
    "jne reply_to_event",
    "cmp esi, {max_words}",
    "ja 7f",
    "mov rax, gs:[{cpu_id}]",
    "cmp [rdi + {ec_cpu}], rax",
    "jne 7f",
    "mov rax, gs:[{helping}]",
    "or rax, gs:[{resched}]",
    "or rax, [rsp + {recall}]",
    "jnz 7f",
    // From here on it happens. R13: caller, R14: its frame, like above.
    "mov rax, gs:[{current}]",
    "mov r13, rdi",
    "mov r14, rsp",
    "mov qword ptr [rax + {ec_state}], {idle}",
    "mov qword ptr [r13 + {ec_state}], {runnable}",
    "lea rax, [r14 + {top}]",
    "mov gs:[{frame_top}], rax",
    "test esi, esi",
    "jnz copy_reply",
    "reply_copied:",
    "mov gs:[{current}], r13",
    "mov ebx, {return_to_caller}",
    compare_spaces!(),
    "return_to_caller:",
    "mov r15, [r14 + {r15}]; mov r13, [r14 + {r13}]; mov r12, [r14 + {r12}]",
    "mov rbp, [r14 + {rbp}]; mov rbx, [r14 + {rbx}]",
    "mov rcx, [r14 + {rip}]",
    "mov r11, [r14 + {rflags}]",
    "mov rsp, [r14 + {rsp}]",
    "mov r14, [r14 + {r14}]",
    "xor eax, eax",
    "xor edi, edi",
    "swapgs",
    "sysretq",
    "7:",
    "mov edi, {reply}",
    "jmp syscall_general",
    // RDI: semaphore and EAX: 0 for up, 1 for down, no flags. RDX, R8, R9, R10 and RSP are free.
    ".balign 64",
    ".global semaphore_fast",
    "semaphore_fast:",
    // RDX: table of the selector, then R8: offset of its slot.
    "mov rdx, gs:[{current}]",
    "mov rdx, [rdx + {ec_obj}]",
    "mov rdx, [rdx + {obj_root}]",
    "mov r8, rdi",
    "shr r8, {table_shift}",
    "cmp r8, {tables}",
    "jae syscall_general",
    "and r8d, {tables} - 1",
    "mov rdx, [rdx + r8 * 8]",
    "mov r8d, edi",
    "shr r8d, {slot_shift}",
    "and r8d, {slot_offset_mask}",
    // R9: semaphore, R10: its identity. The permission is the operation plus one.
    "mov r9, [rdx + r8]",
    "mov r10, [rdx + r8 + 8]",
    "inc eax",
    "test r9b, al",
    "jz syscall_general",
    "and r9, {slot_mask}",
    "cmp [r9], r10",
    "jne syscall_general",
    "cmp byte ptr [r9 + {object_kind}], {kind_sm}",
    "jne syscall_general",
    "cmp al, {sm_up}",
    "jne 2f",
    // Up: nobody waits, nobody is to be told, the counter is not at its limit. What decides most often is looked at before the
    // lock is taken, and again after.
    "cmp qword ptr [r9 + {sm_first}], 0",
    "jne 6f",
    "cmp qword ptr [r9 + {sm_receiver}], 0",
    "jne 6f",
    "mov eax, 1",
    "xchg [r9 + {sm_lock}], rax",
    "test eax, eax",
    "jnz 6f",
    "cmp [r9], r10",
    "jne 5f",
    "cmp qword ptr [r9 + {sm_first}], 0",
    "jne 5f",
    "cmp qword ptr [r9 + {sm_count}], -1",
    "je 5f",
    "inc qword ptr [r9 + {sm_count}]",
    "mov qword ptr [r9 + {sm_lock}], 0",
    "xor r8d, r8d",
    "jmp 4f",
    // Down: no interrupt to acknowledge, no member, something to take that no receiver has on its list.
    "2:",
    "cmp qword ptr [r9 + {sm_interrupt}], 0",
    "jne 8f",
    "cmp qword ptr [r9 + {sm_ready_first}], 0",
    "jne 8f",
    "cmp qword ptr [r9 + {sm_count}], 0",
    "je 8f",
    "mov eax, 1",
    "xchg [r9 + {sm_lock}], rax",
    "test eax, eax",
    "jnz 8f",
    "cmp [r9], r10",
    "jne 7f",
    "cmp qword ptr [r9 + {sm_count}], 0",
    "je 7f",
    "cmp qword ptr [r9 + {sm_queued}], 0",
    "jne 7f",
    "dec qword ptr [r9 + {sm_count}]",
    "mov qword ptr [r9 + {sm_lock}], 0",
    "mov r8d, 1",
    "4:",
    "mov rsp, gs:[{scratch}]",
    "xor eax, eax; xor edx, edx; xor edi, edi; xor esi, esi; xor r9d, r9d; xor r10d, r10d",
    "swapgs",
    "sysretq",
    // The rest in Rust. The semaphore was found, and cannot go away while this CPU is in the kernel.
    "5:",
    "mov qword ptr [r9 + {sm_lock}], 0",
    "6:",
    save!(),
    "mov rsp, gs:[{stack}]",
    "mov rdi, r9",
    "call {sm_up_found}",
    "jmp hypercall_done",
    "7:",
    "mov qword ptr [r9 + {sm_lock}], 0",
    "8:",
    save!(),
    "mov rsp, gs:[{stack}]",
    "mov rdi, r9",
    "call {sm_down_found}",
    "jmp hypercall_done",
    // Words of the UTCBs: from the one of RBX to that of R13. RDI, RCX and R15 are free.
    "copy_call:",
    "mov r15, rsi",
    "mov ecx, esi",
    "mov rsi, [rbx + {ec_utcb}]",
    "mov rdi, [r13 + {ec_utcb}]",
    "rep movsq",
    "mov rsi, r15",
    "jmp enter_handler",
    "copy_reply:",
    "mov rdi, gs:[{current}]",
    "mov r15, rsi",
    "mov ecx, esi",
    "mov rsi, [rdi + {ec_utcb}]",
    "mov rdi, [r13 + {ec_utcb}]",
    "rep movsq",
    "mov rsi, r15",
    "jmp reply_copied",
    // What `switch::to` does for the EC in R13 with its frame in R14, from what differs on. RAX, RCX, RBP, R11, R15 are free.
    ".global switch_spaces",
    "switch_spaces:",
    "mov cr3, rbp",
    "mov gs:[{cpu_root}], rbp",
    // Nothing of the other domain's extended state is left. EDX need not be set: there are no components that high.
    "cmp qword ptr [rip + {plain}], 0",
    "je 2f",
    "8: mov eax, -1",
    "xrstor64 [rip + {initial}]",
    "9:",
    // A thread of the other domain may have loaded the selector, and with it a base that is not `fs_base`.
    "cmp qword ptr [r14 + {fs_base}], 0",
    "je 3f",
    "mov qword ptr gs:[{cpu_fs_base}], -1",
    "3:",
    "mov rbp, [r13 + {ec_pio}]",
    "cmp rbp, gs:[{cpu_ports}]",
    "jne switch_ports",
    "4:",
    "mov rbp, [r14 + {fs_base}]",
    "cmp rbp, gs:[{cpu_fs_base}]",
    "jne switch_fs_base",
    "7:",
    "cmp ebx, {return_to_caller}",
    "jb enter_portal",
    "je return_to_caller",
    "jmp return_to_interrupted",
    "2: fninit",
    "cmp qword ptr [rip + {xcr0}], 0",
    "jne 8b",
    "fxrstor64 [rip + {initial}]",
    "jmp 9b",
    ".global switch_ports",
    "switch_ports:",
    "mov gs:[{cpu_ports}], rbp",
    "mov eax, {ports_denied}",
    "mov ecx, {ports_mapped}",
    "cmp rbp, gs:[{cpu_pio}]",
    "cmove eax, ecx",
    "mov gs:[{io_map}], rax",
    "jmp 4b",
    ".global switch_fs_base",
    "switch_fs_base:",
    "mov gs:[{cpu_fs_base}], rbp",
    "mov r15, rdx",
    "mov ecx, {msr_fs_base}",
    "mov eax, ebp",
    "mov rdx, rbp",
    "shr rdx, 32",
    "wrmsr",
    "mov rdx, r15",
    "jmp 7b",
    ".popsection",
    max_words = const MAX_WORDS, io_map = const percpu::IO_MAP, ports_denied = const descriptor::PORTS_DENIED,
    ports_mapped = const descriptor::PORTS_MAPPED, msr_fs_base = const Msr::FsBase as u32, obj_root = const obj::ROOT,
    table_shift = const SEL_SHIFT + TABLE_BITS, tables = const Sel::COUNT >> TABLE_BITS,
    slot_mask = const -(object::SLOT as i64), permission = const Perms::PT_CALL.bits(),
    bad_capability = const Status::BadCapability as u64, object_kind = const object::KIND,
    kind_pt = const ObjectType::Pt as u8, slot_shift = const SEL_SHIFT - CAP_SLOT_BITS,
    slot_offset_mask = const (CapSlot::PER_PAGE - 1) << CAP_SLOT_BITS, kind_sm = const ObjectType::Sm as u8,
    sm_up = const Perms::SM_UP.bits(), sysret = const crate::frame::Kind::Sysret as u64, flags = const USER_FLAGS,
    reply = const Number::Reply as u64, enter_portal = const after::ENTER_PORTAL,
    return_to_caller = const after::RETURN_TO_CALLER, top = const PUSHED * 8,
    scratch = const cpu::SCRATCH, current = const cpu::CURRENT, frame_top = const cpu::FRAME_TOP,
    cpu_id = const cpu::ID, cpu_root = const cpu::ROOT, cpu_fs_base = const cpu::FS_BASE, cpu_pio = const cpu::PIO,
    cpu_ports = const cpu::PORTS, helping = const cpu::HELPING, resched = const cpu::RESCHED,
    stack = const cpu::STACK,
    ec_obj = const ec::offset::OBJ, ec_utcb = const ec::offset::UTCB, ec_state = const ec::offset::STATE,
    ec_cpu = const ec::offset::CPU, ec_frame = const ec::offset::FRAME, ec_root = const ec::offset::ROOT,
    ec_pio = const ec::offset::PIO, ec_sp = const ec::offset::SP, ec_caller = const ec::offset::CALLER,
    ec_callee = const ec::offset::CALLEE,
    pt_ec = const pt::offset::EC, pt_id = const pt::offset::ID, pt_ip = const pt::offset::IP,
    sm_lock = const sm::offset::LOCK, sm_count = const sm::offset::COUNT, sm_first = const sm::offset::FIRST,
    sm_receiver = const sm::offset::RECEIVER, sm_ready_first = const sm::offset::READY_FIRST,
    sm_queued = const sm::offset::QUEUED, sm_interrupt = const sm::offset::INTERRUPT,
    idle = const State::Idle as u64, waiting = const State::Waiting as u64, runnable = const State::Runnable as u64,
    sm_up_found = sym crate::syscall::sm_up_found, sm_down_found = sym crate::syscall::sm_down_found,
    xcr0 = sym fpu::XCR0, plain = sym fpu::PLAIN, initial = sym fpu::INIT,
    kind = const at(Reg::Kind), fs_base = const at(Reg::FsBase), recall = const at(Reg::Recall),
    r15 = const at(Reg::R15), r14 = const at(Reg::R14), r13 = const at(Reg::R13), r12 = const at(Reg::R12),
    rbp = const at(Reg::Rbp), rbx = const at(Reg::Rbx), rsp = const at(Reg::Rsp), rip = const at(Reg::Rip),
    rflags = const at(Reg::Rflags),
);
