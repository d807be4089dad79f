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
//! Interrupts are off throughout.

use super::layout::kernel_asm;
use super::{apic, log, machine_check, switch, tsc, virt, x86};
use crate::cpu::Cpu;
use crate::frame::Reg;
use crate::sched::{self, Resume};
use crate::{interrupt, sm, smp};

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
    /// Alignment check.
    pub const ALIGNMENT_CHECK: u64 = 17;
    /// Machine check.
    pub const MACHINE_CHECK: u64 = 18;
    /// Number of exception vectors.
    pub const EXCEPTIONS: u64 = 32;
}

/// Loads the registers of the frame at RAX, but RAX and RSP.
macro_rules! load {
    () => {
        "mov r15, [rax + Reg.R15]; mov r14, [rax + Reg.R14]; mov r13, [rax + Reg.R13]; mov r12, [rax + Reg.R12];
        mov rbp, [rax + Reg.Rbp]; mov rbx, [rax + Reg.Rbx]; mov rcx, [rax + Reg.Rcx]; mov r11, [rax + Reg.R11];
        mov rdi, [rax + Reg.Rdi]; mov rsi, [rax + Reg.Rsi]; mov rdx, [rax + Reg.Rdx]; mov r8, [rax + Reg.R8];
        mov r9, [rax + Reg.R9]; mov r10, [rax + Reg.R10]"
    };
}

/// Saves registers to the current frame but RAX and RSP, and has the frame's end in RDI.
macro_rules! save {
    () => {
        "push rdi
        mov rdi, gs:[Cpu.frame_top]
        pop qword ptr [rdi - TOP + Reg.Rdi]
        mov [rdi - TOP + Reg.R15], r15; mov [rdi - TOP + Reg.R14], r14; mov [rdi - TOP + Reg.R13], r13;
        mov [rdi - TOP + Reg.R12], r12; mov [rdi - TOP + Reg.Rbp], rbp; mov [rdi - TOP + Reg.Rbx], rbx;
        mov [rdi - TOP + Reg.Rcx], rcx; mov [rdi - TOP + Reg.R11], r11; mov [rdi - TOP + Reg.Rsi], rsi;
        mov [rdi - TOP + Reg.Rdx], rdx; mov [rdi - TOP + Reg.R8], r8; mov [rdi - TOP + Reg.R9], r9;
        mov [rdi - TOP + Reg.R10], r10"
    };
}

kernel_asm!(
    ".pushsection .text.hot,\"ax\",@progbits",
    ".global syscall_entry",
    ".balign 64",
    "syscall_entry:",
    "swapgs",
    "mov gs:[Cpu.scratch], rsp",
    "cmp edi, Number.Reply",
    "je reply_fast",
    "test dil, dil",
    "jz call_fast",
    "lea eax, [rdi - Number.SmUp]",
    "cmp al, 1",
    "jbe semaphore_fast",
    ".global syscall_general",
    "syscall_general:",
    "mov rsp, gs:[Cpu.frame_top]",
    "push r11; push rcx; push qword ptr gs:[Cpu.scratch]",
    "push rbx; push rbp; push r12; push r13; push r14; push r15",
    ".global syscall_saved",
    "syscall_saved:",
    "mov rsp, gs:[Cpu.stack]",
    "mov rcx, r10",
    "mov eax, edi",
    "and eax, NUMBER_MASK",
    "call [{table} + rax * 8]",
    // Back to who called, with RAX and RDX as they are, unless RAX is no status.
    ".global hypercall_done",
    "hypercall_done:",
    "cmp rax, STATUSES",
    "jae resume",
    "mov r8, gs:[Cpu.frame_top]",
    "mov rcx, [r8 - TOP + Reg.Rip]",
    "mov r11, [r8 - TOP + Reg.Rflags]",
    "mov rsp, [r8 - TOP + Reg.Rsp]",
    "xor edi, edi; xor esi, esi; xor r8d, r8d; xor r9d, r9d; xor r10d, r10d",
    "swapgs",
    "sysretq",
    // RAX: frame of the current EC, RDX: kind.
    ".global resume",
    "resume:",
    "test edx, edx",
    "jnz 2f",
    "mov r15, [rax + Reg.R15]; mov r14, [rax + Reg.R14]; mov r13, [rax + Reg.R13]; mov r12, [rax + Reg.R12]",
    "mov rbp, [rax + Reg.Rbp]; mov rbx, [rax + Reg.Rbx]; mov rcx, [rax + Reg.Rip]; mov r11, [rax + Reg.Rflags]",
    "mov rdi, [rax + Reg.Rdi]; mov rsi, [rax + Reg.Rsi]; mov rdx, [rax + Reg.Rdx]; mov r8, [rax + Reg.R8]",
    "mov r9, [rax + Reg.R9]; mov r10, [rax + Reg.R10]; mov rsp, [rax + Reg.Rsp]",
    "mov rax, [rax + Reg.Rax]",
    "swapgs",
    "sysretq",
    "2:",
    "mov rsp, gs:[Cpu.stack]",
    "cmp edx, Kind.Iret",
    "jne 3f",
    // RAX: frame, RSP: stack.
    ".global resume_interrupted",
    "resume_interrupted:",
    // While it runs in user mode it counts as one that enters by a hypercall; other ways in say so.
    "mov qword ptr [rax + Reg.Kind], Kind.Sysret",
    "push USER_SS",
    "push qword ptr [rax + Reg.Rsp]",
    "push qword ptr [rax + Reg.Rflags]",
    "push USER_CS",
    "push qword ptr [rax + Reg.Rip]",
    load!(),
    "mov rax, [rax + Reg.Rax]",
    "swapgs",
    "iretq",
    "3:",
    "cmp edx, Kind.Guest",
    "je 4f",
    "sti; hlt; cli",
    "call {idle_wake}",
    "jmp resume",
    // The current EC is a vCPU. Registers but RAX and RSP travel by hand, those two in the VMCB.
    "4:",
    "mov rdi, rax",
    "mov rsi, gs:[Cpu.current]",
    "cmp byte ptr [rip + {is_vmx}], 0",
    "jne enter_vmx",
    // RDI: frame, RSI: EC, RSP: stack.
    ".global enter_svm",
    "enter_svm:",
    "call {guest_prepare}",
    "push qword ptr gs:[Cpu.host_control]",
    load!(),
    "mov rax, [rax + Reg.Control]",
    // With GIF clear the interrupt flag only says that interrupts exit the guest (APM vol. 2, 15.17).
    "clgi; sti",
    "vmload rax; vmrun rax; vmsave rax",
    "pop rax; vmload rax",
    // The host half just loaded was saved with this FS base.
    "mov qword ptr gs:[Cpu.fs_base], 0",
    save!(),
    "cli",
    "stgi",
    "sub rdi, TOP",
    "call {vm_exit}",
    "lea r15, [rip + {deliver_svm}]",
    "jmp raise_or_resume",
    // The same with VMX: RSP is in the VMCS. EDX says how to enter; interrupts exit whatever the interrupt flag.
    ".global enter_vmx",
    "enter_vmx:",
    "call {guest_prepare_vmx}",
    "cmp edx, ENTRY_LAUNCH",
    load!(),
    "mov rax, [rax + Reg.Rax]",
    "je 7f",
    "vmresume",
    "jmp 8f",
    "7: vmlaunch",
    // Only if it failed: the guest's registers are still in the frame.
    "8:",
    "mov rsp, gs:[Cpu.stack]",
    "mov rdi, gs:[Cpu.frame_top]",
    "sub rdi, TOP",
    "call {entry_failed}",
    "lea r15, [rip + {deliver_vmx}]",
    "jmp raise_or_resume",
    // The host state of the VMCS has RSP on the kernel stack. Interrupts are off, but Bochs 2.7 takes those that are pending
    // until something writes the flag: before the first instruction, which is an interrupt window as good as any.
    ".global vmx_exit",
    "vmx_exit:",
    "cli",
    save!(),
    "mov [rdi - TOP + Reg.Rax], rax",
    "sub rdi, TOP",
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
    "mov [rdi - TOP + Reg.Rax], rax",
    "pop rdx; pop r8; pop r10",
    "mov [rdi - TOP + Reg.Rip], r10",
    "pop rax; pop r11",
    "mov [rdi - TOP + Reg.Rflags], r11",
    "pop qword ptr [rdi - TOP + Reg.Rsp]",
    "mov qword ptr [rdi - TOP + Reg.Kind], Kind.Iret",
    "jmp raise_exception",
    "interrupt_common:",
    "test byte ptr [rsp + 24], 3",
    "jz 5f",
    "swapgs",
    ".global interrupt_ac; interrupt_ac: nop dword ptr [rax]",
    save!(),
    "mov [rdi - TOP + Reg.Rax], rax",
    "cld",
    "mov rax, rdi",
    "pop rdi; pop rsi",
    "pop qword ptr [rax - TOP + Reg.Rip]",
    "pop rcx",
    "pop qword ptr [rax - TOP + Reg.Rflags]",
    "pop qword ptr [rax - TOP + Reg.Rsp]",
    "mov qword ptr [rax - TOP + Reg.Kind], Kind.Iret",
    "mov rsp, gs:[Cpu.stack]",
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
    ".if i < EXCEPTIONS",
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
    ".popsection";
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
