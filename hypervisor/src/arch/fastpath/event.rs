//! Exceptions of threads and exits of vCPUs that an idle handler of this CPU takes at once, and the handler's reply.
//!
//! What an exception needs is all here, if its portal asks for RIP and RFLAGS at most, and so does the reply. The state of vCPUs, and
//! whatever else is selected, is copied by a function in Rust. The handler gets the initial vector state, the EC gets its own
//! back (decision 0002): the handler may be in another domain, and may use all vector registers.

use super::{after, at, compare_spaces, find_handler, serve};
use crate::arch::entry::{self, vector};
use crate::arch::{fpu, virt};
use crate::ec::{self, State};
use crate::frame::{EXTENDED, Kind, PUSHED, Reg};
use crate::mem::object::{self, CAP_SLOT_BITS, CapSlot};
use crate::{cpu, event, ipc, pt, space::obj};
use abi::cap::{ObjectType, Perms, Sel};
use abi::hypercall::SEL_SHIFT;
use abi::state::{Mtd, word};
use core::arch::global_asm;

/// What is not copied here: with the reply, also the wish that the thread be stopped.
const MORE: u32 = !Mtd::RIP.union(Mtd::RFLAGS).bits();
const _: () = assert!(vector::PAGE_FAULT == vector::GENERAL_PROTECTION + 1);

/// RDI: selector at bit 8 of the event portal of the EC in RBX, whose number is in RDI.
macro_rules! select {
    () => {
        "add rdi, [rbx + {ec_event_base}]
        shl rdi, {sel_shift}"
    };
}

/// The reply of the handler in RBX to the EC in R13, with its frame in R14, was accepted: it continues, unless something else is
/// to run.
macro_rules! answer {
    () => {
        "mov qword ptr [rbx + {ec_state}], {idle}
        mov qword ptr [r13 + {ec_state}], {runnable}
        mov rax, gs:[{helping}]
        or rax, gs:[{resched}]
        or rax, [r14 + {recall}]
        jnz 8f
        lea rax, [r14 + {top}]
        mov gs:[{frame_top}], rax
        mov gs:[{current}], r13"
    };
}

/// Loads the vector state of the frame in R14. EDX need not be set: there are no components that high.
macro_rules! restore {
    () => {
        "cmp qword ptr [rip + {plain}], 0
        jne 4f
        fninit
        cmp qword ptr [rip + {xcr0}], 0
        jne 4f
        fxrstor64 [r14 + {extended}]
        jmp 5f
        4: mov eax, -1
        xrstor64 [r14 + {extended}]
        5:"
    };
}

global_asm!(
    ".pushsection .text.hot,\"ax\",@progbits",
    // An exception of the current EC. All registers are saved. RDX: vector, R8: error code, R10: RIP, R11: RFLAGS.
    ".balign 64",
    ".global raise_exception",
    "raise_exception:",
    "mov rbx, gs:[{current}]",
    "xor r9d, r9d",
    "lea eax, [rdx - {general_protection}]",
    "cmp eax, 1",
    "jbe 2f",
    "3:",
    "mov edi, edx",
    select!(),
    find_handler!(),
    "mov esi, [r12 + {pt_mtd}]",
    "test esi, {more}",
    "jnz 7f",
    "mov rdi, [r13 + {ec_utcb}]",
    "mov [rdi + {at_rip}], r10",
    "mov [rdi + {at_rflags}], r11",
    "mov r15, [rbx + {ec_frame}]",
    // The message is in the registers of the handler in R13. R15: frame of the EC.
    "delivered:",
    serve!(),
    "cmp qword ptr [rip + {plain}], 0",
    "je 4f",
    "mov eax, -1",
    "xsave64 [r15 + {extended}]",
    "5: xrstor64 [rip + {initial}]",
    "jmp enter_handler",
    "4:",
    "cmp qword ptr [rip + {xcr0}], 0",
    "je 4f",
    "mov eax, -1",
    "xsave64 [r15 + {extended}]",
    "fninit",
    "jmp 5b",
    "4: fxsave64 [r15 + {extended}]; fninit",
    "fxrstor64 [rip + {initial}]",
    "jmp enter_handler",
    // A page fault; below it general protection, perhaps because ports are not loaded yet.
    "2:",
    "jb 7f",
    "mov r9, cr2",
    "jmp 3b",
    "6: 7:",
    "mov rdi, [rbx + {ec_frame}]",
    "mov [rdi + {event_reason}], rdx",
    "mov [rdi + {event_info1}], r8",
    "mov [rdi + {event_info2}], r9",
    "cld",
    "mov rsp, gs:[{stack}]",
    "mov edi, edx",
    "call {unusual_exception}",
    "lea r15, [rip + {deliver_thread}]",
    "jmp raise_or_resume",
    // What a handler in Rust returned: RAX and EDX, see `Resume`. R15: what copies the state if that is an event.
    ".balign 64",
    ".global raise_or_resume",
    "raise_or_resume:",
    "cmp edx, {raise}",
    "jne resume",
    "mov rbx, gs:[{current}]",
    "mov rdi, rax",
    select!(),
    find_handler!(),
    "mov r14d, [r12 + {pt_mtd}]",
    "mov rdi, [rbx + {ec_frame}]",
    "mov rsi, rbx",
    "mov rdx, [r13 + {ec_utcb}]",
    "mov ecx, r14d",
    "call r15",
    "mov r10, rax",
    "mov esi, r14d",
    "mov r15, [rbx + {ec_frame}]",
    "mov rdx, [r15 + {event_reason}]",
    "mov r8, [r15 + {event_info1}]",
    "mov r9, [r15 + {event_info2}]",
    "mov rax, [r12 + {pt_ec} + 8]",
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
    "mov rsp, gs:[{stack}]",
    "cmp qword ptr [r13 + {ec_state}], {waiting}",
    "jne 7f",
    "mov rax, gs:[{cpu_id}]",
    "cmp [r13 + {ec_cpu}], rax",
    "jne 7f",
    "mov rdx, [rbx + {ec_utcb}]",
    "cmp dword ptr [r14 + {kind}], {guest}",
    "je 2f",
    "test esi, {more}",
    "jnz 7f",
    "test esi, {rip_selected}",
    "jz 3f",
    // IRET to a non-canonical address faults in the kernel; user space ends below the first one.
    "mov rax, [rdx + {at_rip}]",
    "mov rcx, {user_top}",
    "cmp rax, rcx",
    "cmova rax, rcx",
    "mov [r14 + {rip}], rax",
    "3:",
    "test esi, {rflags_selected}",
    "jz 3f",
    "mov eax, [rdx + {at_rflags}]",
    "and eax, {flags_writable}",
    "or eax, {user_flags}",
    "mov [r14 + {rflags}], rax",
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
    ".popsection",
    current = const cpu::CURRENT, frame_top = const cpu::FRAME_TOP, stack = const cpu::STACK, cpu_id = const cpu::ID,
    cpu_root = const cpu::ROOT, cpu_fs_base = const cpu::FS_BASE, cpu_ports = const cpu::PORTS,
    helping = const cpu::HELPING, resched = const cpu::RESCHED,
    ec_obj = const ec::offset::OBJ, ec_utcb = const ec::offset::UTCB, ec_state = const ec::offset::STATE,
    ec_cpu = const ec::offset::CPU, ec_frame = const ec::offset::FRAME, ec_root = const ec::offset::ROOT,
    ec_pio = const ec::offset::PIO, ec_caller = const ec::offset::CALLER, ec_callee = const ec::offset::CALLEE,
    ec_event_base = const ec::offset::EVENT_BASE,
    obj_root = const obj::ROOT, sel_shift = const SEL_SHIFT, table_shift = const SEL_SHIFT + super::TABLE_BITS,
    tables = const Sel::COUNT >> super::TABLE_BITS, slot_shift = const SEL_SHIFT - CAP_SLOT_BITS,
    slot_offset_mask = const (CapSlot::PER_PAGE - 1) << CAP_SLOT_BITS, slot_mask = const -(object::SLOT as i64),
    permission = const Perms::PT_EVENT.bits(), object_kind = const object::KIND, kind_pt = const ObjectType::Pt as u8,
    general_protection = const vector::GENERAL_PROTECTION, more = const MORE as i32, user_top = const abi::USER_TOP,
    flags_writable = const event::FLAGS_WRITABLE, user_flags = const ipc::USER_FLAGS,
    raise = const Kind::Raise as u64, guest = const Kind::Guest as u64, extended = const EXTENDED,
    top = const PUSHED * 8, return_to_interrupted = const after::RETURN_TO_INTERRUPTED,
    pt_ec = const pt::offset::EC, pt_mtd = const pt::offset::MTD,
    idle = const State::Idle as u64, waiting = const State::Waiting as u64, runnable = const State::Runnable as u64,
    rip_selected = const Mtd::RIP.bits(), rflags_selected = const Mtd::RFLAGS.bits(), at_rip = const word::RIP * 8,
    at_rflags = const word::RFLAGS * 8,
    xcr0 = sym fpu::XCR0, plain = sym fpu::PLAIN, initial = sym fpu::INIT, is_vmx = sym virt::IS_VMX, accept_svm = sym virt::accept_svm,
    accept_vmx = sym virt::accept_vmx, unusual_exception = sym entry::unusual_exception,
    deliver_thread = sym event::deliver_thread, raise_slow = sym event::raise_slow,
    reply = sym crate::syscall::reply_to_event, continue_elsewhere = sym ipc::continue_elsewhere,
    kind = const at(Reg::Kind), fs_base = const at(Reg::FsBase), recall = const at(Reg::Recall),
    event_reason = const at(Reg::EventReason), event_info1 = const at(Reg::EventInfo1),
    event_info2 = const at(Reg::EventInfo2),
    rip = const at(Reg::Rip), rflags = const at(Reg::Rflags),
);
