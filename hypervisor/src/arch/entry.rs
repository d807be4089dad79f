//! Entry into the kernel and exit from it: the only code that applies a [`Resume`].
//!
//! | way in | saves | Rust handler |
//! |---|---|---|
//! | SYSCALL | callee-saved registers, RIP, RSP, RFLAGS, pushed right into the frame | [`crate::syscall::TABLE`] |
//! | exception in user mode | all registers | [`unusual_exception`], if any, see [`super::fastpath`] |
//! | interrupt in user mode | all registers | [`user_interrupt`] |
//! | the same in the kernel (only while idle or at an interrupt window) | caller-saved registers, on the stack | [`kernel_interrupt`] |
//! | exit of a vCPU | all guest registers | [`virt::vm_exit`] |
//!
//! Offsets are those of [`crate::frame::Reg`] and [`crate::cpu::Cpu`]. Interrupts are off throughout.

use super::{apic, descriptor, log, machine_check, switch, tsc, virt, vmx, x86};
use crate::cpu::Cpu;
use crate::frame::{Kind, PUSHED, Reg};
use crate::sched::{self, Resume};
use crate::{cpu, interrupt, sm, smp};
use abi::hypercall::{NUMBER_MASK, Number};
use core::arch::global_asm;

/// Vector numbers of exceptions (SDM vol. 3, table 6-1).
pub mod vector {
    /// Debug exception.
    pub const DEBUG: u64 = 1;
    /// Non-maskable interrupt.
    pub const NMI: u64 = 2;
    /// Double fault.
    pub const DOUBLE_FAULT: u64 = 8;
    /// General protection.
    pub const GENERAL_PROTECTION: u64 = 13;
    /// Page fault.
    pub const PAGE_FAULT: u64 = 14;
    /// Machine check.
    pub const MACHINE_CHECK: u64 = 18;
    /// Number of exception vectors.
    pub const EXCEPTIONS: u64 = 32;
}

const fn at(reg: Reg) -> usize {
    reg as usize * 8
}

/// Loads the registers of the frame at RAX, but RAX and RSP.
macro_rules! load {
    () => {
        "mov r15, [rax + {r15}]; mov r14, [rax + {r14}]; mov r13, [rax + {r13}]; mov r12, [rax + {r12}];
        mov rbp, [rax + {rbp}]; mov rbx, [rax + {rbx}]; mov rcx, [rax + {rcx}]; mov r11, [rax + {r11}];
        mov rdi, [rax + {rdi}]; mov rsi, [rax + {rsi}]; mov rdx, [rax + {rdx}]; mov r8, [rax + {r8}];
        mov r9, [rax + {r9}]; mov r10, [rax + {r10}]"
    };
}

/// Saves registers to the current frame but RAX and RSP, and has the frame's end in RDI.
macro_rules! save {
    () => {
        "push rdi
        mov rdi, gs:[{frame_top}]
        pop qword ptr [rdi - {top} + {rdi}]
        mov [rdi - {top} + {r15}], r15; mov [rdi - {top} + {r14}], r14; mov [rdi - {top} + {r13}], r13;
        mov [rdi - {top} + {r12}], r12; mov [rdi - {top} + {rbp}], rbp; mov [rdi - {top} + {rbx}], rbx;
        mov [rdi - {top} + {rcx}], rcx; mov [rdi - {top} + {r11}], r11; mov [rdi - {top} + {rsi}], rsi;
        mov [rdi - {top} + {rdx}], rdx; mov [rdi - {top} + {r8}], r8; mov [rdi - {top} + {r9}], r9;
        mov [rdi - {top} + {r10}], r10"
    };
}

global_asm!(
    ".pushsection .text.hot,\"ax\",@progbits",
    ".global syscall_entry",
    ".balign 64",
    "syscall_entry:",
    "swapgs",
    "mov gs:[{scratch}], rsp",
    "cmp edi, {reply}",
    "je reply_fast",
    "test dil, dil",
    "jz call_fast",
    "lea eax, [rdi - {sm_up}]",
    "cmp al, 1",
    "jbe semaphore_fast",
    ".global syscall_general",
    "syscall_general:",
    "mov rsp, gs:[{frame_top}]",
    "push r11; push rcx; push qword ptr gs:[{scratch}]",
    "push rbx; push rbp; push r12; push r13; push r14; push r15",
    ".global syscall_saved",
    "syscall_saved:",
    "mov rsp, gs:[{stack}]",
    "mov rcx, r10",
    "mov eax, edi",
    "and eax, {number_mask}",
    "call [{table} + rax * 8]",
    // Back to who called, with RAX and RDX as they are, unless RAX is no status.
    ".global hypercall_done",
    "hypercall_done:",
    "cmp rax, {statuses}",
    "jae resume",
    "mov r8, gs:[{frame_top}]",
    "mov rcx, [r8 - {top} + {rip}]",
    "mov r11, [r8 - {top} + {rflags}]",
    "mov rsp, [r8 - {top} + {rsp}]",
    "xor edi, edi; xor esi, esi; xor r8d, r8d; xor r9d, r9d; xor r10d, r10d",
    "swapgs",
    "sysretq",
    // RAX: frame of the current EC, RDX: kind.
    ".global resume",
    "resume:",
    "test edx, edx",
    "jnz 2f",
    "mov r15, [rax + {r15}]; mov r14, [rax + {r14}]; mov r13, [rax + {r13}]; mov r12, [rax + {r12}]",
    "mov rbp, [rax + {rbp}]; mov rbx, [rax + {rbx}]; mov rcx, [rax + {rip}]; mov r11, [rax + {rflags}]",
    "mov rdi, [rax + {rdi}]; mov rsi, [rax + {rsi}]; mov rdx, [rax + {rdx}]; mov r8, [rax + {r8}]",
    "mov r9, [rax + {r9}]; mov r10, [rax + {r10}]; mov rsp, [rax + {rsp}]",
    "mov rax, [rax + {rax}]",
    "swapgs",
    "sysretq",
    "2:",
    "mov rsp, gs:[{stack}]",
    "cmp edx, {iret}",
    "jne 3f",
    // RAX: frame, RSP: stack.
    ".global resume_interrupted",
    "resume_interrupted:",
    // While it runs in user mode it counts as one that enters by a hypercall; other ways in say so.
    "mov qword ptr [rax + {kind}], {sysret}",
    "push {user_ss}",
    "push qword ptr [rax + {rsp}]",
    "push qword ptr [rax + {rflags}]",
    "push {user_cs}",
    "push qword ptr [rax + {rip}]",
    load!(),
    "mov rax, [rax + {rax}]",
    "swapgs",
    "iretq",
    "3:",
    "cmp edx, {guest}",
    "je 4f",
    "sti; hlt; cli",
    "call {idle_wake}",
    "jmp resume",
    // The current EC is a vCPU. Registers but RAX and RSP travel by hand, those two in the VMCB.
    "4:",
    "mov rdi, rax",
    "mov rsi, gs:[{current}]",
    "cmp byte ptr [rip + {is_vmx}], 0",
    "jne enter_vmx",
    // RDI: frame, RSI: EC, RSP: stack.
    ".global enter_svm",
    "enter_svm:",
    "call {guest_prepare}",
    "push qword ptr gs:[{host_control}]",
    load!(),
    "mov rax, [rax + {control}]",
    // With GIF clear the interrupt flag only says that interrupts exit the guest (APM vol. 2, 15.17).
    "clgi; sti",
    "vmload rax; vmrun rax; vmsave rax",
    "pop rax; vmload rax",
    // The host half just loaded was saved with this FS base.
    "mov qword ptr gs:[{cpu_fs_base}], 0",
    save!(),
    "cli",
    "stgi",
    "sub rdi, {top}",
    "call {vm_exit}",
    "lea r15, [rip + {deliver_svm}]",
    "jmp raise_or_resume",
    // The same with VMX: RSP is in the VMCS. EDX says how to enter; interrupts exit whatever the interrupt flag.
    ".global enter_vmx",
    "enter_vmx:",
    "call {guest_prepare_vmx}",
    "cmp edx, {launch}",
    load!(),
    "mov rax, [rax + {rax}]",
    "je 7f",
    "vmresume",
    "jmp 8f",
    "7: vmlaunch",
    // Only if it failed: the guest's registers are still in the frame.
    "8:",
    "mov rsp, gs:[{stack}]",
    "mov rdi, gs:[{frame_top}]",
    "sub rdi, {top}",
    "call {entry_failed}",
    "lea r15, [rip + {deliver_vmx}]",
    "jmp raise_or_resume",
    // The host state of the VMCS has RSP on the kernel stack. Interrupts are off, but Bochs 2.7 takes those that are pending
    // until something writes the flag: before the first instruction, which is an interrupt window as good as any.
    ".global vmx_exit",
    "vmx_exit:",
    "cli",
    save!(),
    "mov [rdi - {top} + {rax}], rax",
    "sub rdi, {top}",
    "call {vm_exit_vmx}",
    "lea r15, [rip + {deliver_vmx}]",
    "jmp raise_or_resume",
    // Exceptions and interrupts. On the stack: vector, error code, RIP, CS, RFLAGS, RSP, SS.
    "exception_common:",
    "test byte ptr [rsp + 24], 3",
    "jz 5f",
    "swapgs",
    ".global exception_ac; exception_ac: nop dword ptr [rax]",
    save!(),
    "mov [rdi - {top} + {rax}], rax",
    "pop rdx; pop r8; pop r10",
    "mov [rdi - {top} + {rip}], r10",
    "pop rax; pop r11",
    "mov [rdi - {top} + {rflags}], r11",
    "pop qword ptr [rdi - {top} + {rsp}]",
    "mov qword ptr [rdi - {top} + {kind}], {iret}",
    "jmp raise_exception",
    "interrupt_common:",
    "test byte ptr [rsp + 24], 3",
    "jz 5f",
    "swapgs",
    ".global interrupt_ac; interrupt_ac: nop dword ptr [rax]",
    save!(),
    "mov [rdi - {top} + {rax}], rax",
    "cld",
    "mov rax, rdi",
    "pop rdi; pop rsi",
    "pop qword ptr [rax - {top} + {rip}]",
    "pop rcx",
    "pop qword ptr [rax - {top} + {rflags}]",
    "pop qword ptr [rax - {top} + {rsp}]",
    "mov qword ptr [rax - {top} + {kind}], {iret}",
    "mov rsp, gs:[{stack}]",
    "call {user_interrupt}",
    "jmp resume",
    "5:",
    "cld",
    "push rax; push rcx; push rdx; push rsi; push rdi; push r8; push r9; push r10; push r11",
    "mov rdi, [rsp + 72]; mov rsi, [rsp + 80]; mov rdx, [rsp + 88]",
    "call {kernel_interrupt}",
    "pop r11; pop r10; pop r9; pop r8; pop rdi; pop rsi; pop rdx; pop rcx; pop rax",
    "add rsp, 16",
    "iretq",
    // One stub of 16 bytes per vector; those without error code push a zero (SDM vol. 3, 6.13).
    ".balign 16",
    ".global interrupt_stubs",
    "interrupt_stubs:",
    ".set i, 0",
    ".rept 256",
    ".balign 16",
    ".if (i != 8) && ((i < 10) || (i > 14)) && (i != 17) && (i != 21) && (i != 29) && (i != 30)",
    "push 0",
    ".endif",
    ".byte 0x68", // push imm32, so that every stub is as long
    ".long i",
    ".if i < {exceptions}",
    "jmp exception_common",
    ".else",
    "jmp interrupt_common",
    ".endif",
    ".set i, i + 1",
    ".endr",
    // NMIs may hit anywhere, also between SWAPGS and its exit; nothing is done about them.
    ".global nmi_entry",
    "nmi_entry:",
    "iretq",
    // It never returns, so it needs nothing of what was interrupted but its RIP.
    ".global machine_check_entry; machine_check_entry: cld; pop rdi; call {machine_check}",
    ".popsection",
    scratch = const cpu::SCRATCH, current = const cpu::CURRENT, cpu_fs_base = const cpu::FS_BASE,
    frame_top = const cpu::FRAME_TOP, stack = const cpu::STACK, host_control = const cpu::HOST_CONTROL,
    top = const PUSHED * 8, sysret = const Kind::Sysret as u64, sm_up = const Number::SmUp as u64,
    number_mask = const NUMBER_MASK, statuses = const sched::STATUSES, reply = const Number::Reply as u64,
    iret = const Kind::Iret as u64, guest = const Kind::Guest as u64, user_cs = const descriptor::USER_CS,
    user_ss = const descriptor::USER_SS, launch = const vmx::ENTRY_LAUNCH, exceptions = const vector::EXCEPTIONS,
    kind = const at(Reg::Kind), control = const at(Reg::Control),
    r15 = const at(Reg::R15), r14 = const at(Reg::R14), r13 = const at(Reg::R13), r12 = const at(Reg::R12),
    rbp = const at(Reg::Rbp), rbx = const at(Reg::Rbx), rsp = const at(Reg::Rsp), rip = const at(Reg::Rip),
    rflags = const at(Reg::Rflags), rax = const at(Reg::Rax), rdi = const at(Reg::Rdi), rsi = const at(Reg::Rsi),
    rdx = const at(Reg::Rdx), r8 = const at(Reg::R8), r9 = const at(Reg::R9), r10 = const at(Reg::R10),
    rcx = const at(Reg::Rcx), r11 = const at(Reg::R11),
    table = sym crate::syscall::TABLE, idle_wake = sym idle_wake, guest_prepare = sym virt::prepare,
    vm_exit = sym virt::vm_exit, is_vmx = sym virt::IS_VMX, guest_prepare_vmx = sym virt::prepare_vmx,
    vm_exit_vmx = sym virt::vm_exit_vmx, entry_failed = sym virt::entry_failed, deliver_svm = sym virt::deliver_svm,
    deliver_vmx = sym virt::deliver_vmx, user_interrupt = sym user_interrupt, kernel_interrupt = sym kernel_interrupt,
    machine_check = sym machine_check::at,
);

unsafe extern "sysv64" {
    fn syscall_entry();
    fn interrupt_stubs();
    fn nmi_entry();
    fn machine_check_entry();
    static mut exception_ac: [u8; 3];
    static mut interrupt_ac: [u8; 3];
    fn vmx_exit();
    fn resume();
}

/// Address of the SYSCALL entry.
pub fn syscall_address() -> u64 {
    syscall_entry as *const () as u64
}

/// Address where exits of vCPUs with VMX arrive.
pub fn vmx_exit_address() -> u64 {
    vmx_exit as *const () as u64
}

/// Address of the stub for `vector`.
pub fn interrupt_address(vector: usize) -> u64 {
    match vector as u64 {
        self::vector::NMI => nmi_entry as *const () as u64,
        self::vector::MACHINE_CHECK => machine_check_entry as *const () as u64,
        vector => interrupt_stubs as *const () as u64 + vector * 16,
    }
}

/// Has the gates clear RFLAGS.AC, which they leave as user mode has set it, and with which SMAP protects nothing. (SYSCALL clears it by
/// itself.) At boot only, while code can be written, on CPUs with SMAP: others do not know the instruction.
pub fn clear_ac() {
    const CLAC: [u8; 3] = [0x0f, 0x01, 0xca];
    // SAFETY: each place holds an instruction of three bytes that does nothing, and no other CPU runs.
    unsafe {
        exception_ac = CLAC;
        interrupt_ac = CLAC;
    }
}

/// Leaves the boot code: continues on the kernel stack with what the scheduler chooses.
pub fn start(cpu: &'static Cpu) -> ! {
    // SAFETY: the kernel stack is this CPU's own and empty; GS points to its block; `resume` expects what a handler returns
    // and never returns itself.
    unsafe {
        core::arch::asm!("mov rsp, {stack}", "call {first}", "jmp {resume}", stack = in(reg) cpu.stack.get(),
            first = sym idle_wake, resume = sym resume, options(noreturn));
    }
}

/// An exception in user mode, noted in the frame, that is not as simple as most.
pub(super) extern "sysv64" fn unusual_exception(vector: u64) -> Resume {
    let cpu = super::percpu::current();
    match cpu.current() {
        Some(ec) if vector == vector::GENERAL_PROTECTION && switch::missing_ports(cpu, ec) => Resume::of(ec),
        _ => Resume::raise(vector),
    }
}

/// An interrupt in user mode.
extern "sysv64" fn user_interrupt(vector: u64) -> Resume {
    let cpu = super::percpu::current();
    let Some(ec) = cpu.current() else {
        return sched::schedule(cpu);
    };
    handle(cpu, vector);
    if ec.frame().get(Reg::Recall) != 0 {
        cpu.resched.set(1);
    }
    sched::continue_or_preempt(cpu, ec)
}

/// An interrupt while idle or at an interrupt window. An exception here is a bug of the kernel, but for a debug exception: the kernel
/// sets no breakpoints and does not step, but Bochs 2.7 takes the single step of a guest that exits with SVM to the host.
extern "sysv64" fn kernel_interrupt(vector: u64, error: u64, rip: u64) {
    if vector < vector::EXCEPTIONS {
        if vector == vector::DEBUG {
            return;
        }
        log::fatal(format_args!(
            "exception {vector} in the kernel at {rip:#x}, error {error:#x}, address {:#x}",
            x86::read_cr2()
        ));
    }
    let cpu = super::percpu::current();
    cpu.sleep.end();
    handle(cpu, vector);
}

/// The CPU was idle and an interrupt came, or it has just started.
extern "sysv64" fn idle_wake() -> Resume {
    sched::wake_up(super::percpu::current())
}

/// Does what an interrupt is about; the caller decides what runs next.
fn handle(cpu: &'static Cpu, vector: u64) {
    match vector as u8 {
        apic::vector::TIMER => {
            apic::eoi();
            cpu.armed.set(u64::MAX);
            let now = tsc::read();
            sm::expire(cpu, now);
            sched::tick(cpu, now);
        }
        apic::vector::REMOTE => {
            apic::eoi();
            smp::interrupt(cpu);
        }
        apic::vector::SPURIOUS => {}
        device => interrupt::arrived(cpu, usize::from(device)),
    }
}
