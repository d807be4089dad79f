//! Single instructions that may or may not raise an event. R12 holds the address behind the instruction, where the event
//! handler lets the thread go on with RAX = [`EVENT`].

/// Result of a probe whose instruction raised an event.
pub const EVENT: u64 = 0x6576_656e_7400;

/// A probe: gets an argument in RDI; the result is RAX.
pub type Probe = unsafe extern "sysv64" fn(u64) -> u64;

macro_rules! probes {
    ($($(#[$doc:meta])* $name:ident: $($line:literal),+;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// The instruction has no effect on memory but where the argument points to.
            #[unsafe(naked)]
            pub unsafe extern "sysv64" fn $name(argument: u64) -> u64 {
                core::arch::naked_asm!(
                    "push rbx", "push r12", "push r13", "sub rsp, 8",
                    "mov r13, rsp", "xor eax, eax", "lea r12, [rip + 9f]",
                    $($line,)+
                    "9:",
                    "mov rsp, r13", "add rsp, 8", "pop r13", "pop r12", "pop rbx", "ret",
                )
            }
        )*
    };
}

probes! {
    /// Undefined opcode.
    ud2: "ud2";
    /// HLT.
    hlt: "hlt";
    /// CLI.
    cli: "cli";
    /// STI.
    sti: "sti";
    /// Load of CR3.
    mov_cr3: "mov cr3, rax";
    /// Store of CR0.
    mov_from_cr0: "mov rax, cr0";
    /// WRMSR of the FS base.
    wrmsr: "mov ecx, 0xc0000100", "xor edx, edx", "wrmsr";
    /// RDMSR.
    rdmsr: "mov ecx, 0xc0000080", "rdmsr";
    /// INVLPG.
    invlpg: "invlpg [rsp]";
    /// LGDT of whatever is on the stack.
    lgdt: "lgdt [rsp]";
    /// Load of a debug register.
    mov_dr7: "mov dr7, rax";
    /// IN from the port in RDI.
    port_in: "mov edx, edi", "in al, dx";
    /// OUT of 0 to the port in RDI.
    port_out: "mov edx, edi", "out dx, al";
    /// INT 0x80.
    int_80: "int 0x80";
    /// INT of the kernel's vector for other CPUs.
    int_remote: "int 0xf0";
    /// INT of the page-fault vector.
    int_14: "int 14";
    /// INT3.
    int3: "int3";
    /// Division by zero.
    divide: "xor edx, edx", "xor ecx, ecx", "div ecx";
    /// Load from the address in RDI.
    load: "mov rax, [rdi]";
    /// Store of RDI to the address in RDI.
    store: "mov [rdi], rdi";
    /// Jump to the address in RDI.
    jump: "jmp rdi";
    /// Call of the address in RDI; what is there may return.
    call: "sub rsp, 8", "call rdi";
    /// SYSRET.
    sysret: "sysretq";
    /// VMRUN.
    vmrun: "vmrun rax";
    /// SWAPGS.
    swapgs: "swapgs";
    /// Single step over a NOP: the trap comes behind it.
    single_step: "pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop", "nop";
    /// A push with the stack pointer in RDI.
    push_at: "mov rsp, rdi", "push rax";
    /// Loads a null selector into FS and GS.
    null_fs: "xor ecx, ecx", "mov fs, ecx", "mov gs, ecx";
    /// Loads the user data segment into FS.
    flat_fs: "mov ecx, 0x1b", "mov fs, ecx";
    /// Word at FS:0.
    load_fs: "mov rax, fs:[0]";
}

/// Runs a probe.
pub fn run(probe: Probe, argument: u64) -> u64 {
    // SAFETY: the instructions above touch no memory but what their argument points to, which is a test area or faults.
    unsafe { probe(argument) }
}

/// Spins until the word at an address is not 0; general registers are as before whatever interrupts it. 0 if so.
pub fn spin_with_pattern(word: u64) -> u64 {
    let damaged: u64;
    // SAFETY: the word is a cell.
    unsafe {
        core::arch::asm!(
            "push rbx", "push rbp",
            "mov rbx, 0x1111", "mov rbp, 0x2222", "mov r8, 0x3333", "mov r9, 0x4444", "mov r10, 0x5555",
            "mov r11, 0x6666", "mov r12, 0x7777", "mov r13, 0x8888", "mov r14, 0x9999", "mov r15, 0xaaaa",
            "mov rcx, 0xbbbb", "mov rsi, 0xcccc", "mov rdx, 0xdddd",
            "2:", "pause", "cmp qword ptr [rdi], 0", "je 2b",
            "xor eax, eax",
            "sub rbx, 0x1111", "or rax, rbx", "sub rbp, 0x2222", "or rax, rbp", "sub r8, 0x3333", "or rax, r8",
            "sub r9, 0x4444", "or rax, r9", "sub r10, 0x5555", "or rax, r10", "sub r11, 0x6666", "or rax, r11",
            "sub r12, 0x7777", "or rax, r12", "sub r13, 0x8888", "or rax, r13", "sub r14, 0x9999", "or rax, r14",
            "sub r15, 0xaaaa", "or rax, r15", "sub rcx, 0xbbbb", "or rax, rcx", "sub rsi, 0xcccc", "or rax, rsi",
            "sub rdx, 0xdddd", "or rax, rdx",
            "pop rbp", "pop rbx",
            inout("rdi") word => _,
            lateout("rax") damaged,
            out("rcx") _, out("rdx") _, out("rsi") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    damaged
}
