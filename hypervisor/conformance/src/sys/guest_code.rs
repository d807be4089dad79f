//! Programs for virtual CPUs: real-mode code, copied to guest memory.

use crate::sys::memory::{load_byte, store_byte};
use core::arch::global_asm;
use core::ops::Range;

global_asm!(
    ".pushsection .rodata.guest,\"a\",@progbits",
    ".code16",
    // Every kind of exit once, in a fixed order; then HLT for ever.
    "guest_tour:",
    "cpuid",
    "mov al, 0x5a",
    "out 0x80, al",
    "in al, 0x81",
    "mov bl, al",
    "mov bx, 0x9000",
    "mov ds, bx",
    "mov word ptr [0x0010], 0x1234", // 0x90010: not mapped
    "vmmcall",
    "hlt",
    "2: hlt",
    "jmp 2b",
    "guest_tour_end:",
    // Counts at 0x500 for ever. With interrupts on: a guest that is entered with interrupts off is not left for an interrupt of the
    // host in Bochs 2.7 (APM vol. 2, 15.13.1 has no such exception).
    "guest_count:",
    "sti",
    "xor bx, bx",
    "mov ds, bx",
    "2:",
    "inc dword ptr [0x500]",
    "jmp 2b",
    "guest_count_end:",
    // Interrupts off for a while, then on, and once more; vector 0x20 leads to `guest_irq` at 0x1100, which does VMMCALL.
    "guest_sti:",
    "cli",
    "mov al, 1",
    "out 0x80, al",
    "nop",
    ".rept 2",
    "cli",
    "sti",
    "nop",
    "nop",
    ".endr",
    "mov al, 2",
    "out 0x80, al",
    "2: jmp 2b",
    "guest_sti_end:",
    "guest_irq:",
    "mov al, 3",
    "out 0x80, al",
    "iret",
    "guest_irq_end:",
    // Stores XMM0 to 0x600, loads it from 0x610, leaves by VMMCALL, again and again.
    "guest_xmm:",
    "xor bx, bx",
    "mov ds, bx",
    "2:",
    "movdqu [0x600], xmm0",
    "movdqu xmm0, [0x610]",
    "vmmcall",
    "jmp 2b",
    "guest_xmm_end:",
    // Reads the word at 0x90000 into AX, leaves by VMMCALL, again and again.
    "guest_peek:",
    "mov bx, 0x9000",
    "mov ds, bx",
    "2:",
    "mov eax, [0]",
    "vmmcall",
    "jmp 2b",
    "guest_peek_end:",
    // Reads an MSR, leaves by VMMCALL.
    "guest_msr:",
    "mov ecx, 0xc0000101",
    "rdmsr",
    "vmmcall",
    "2: jmp 2b",
    "guest_msr_end:",
    // Has its stack in the page at 0x90000, leaves by VMMCALL twice, raises interrupt 0x20, leaves again.
    "guest_stack:",
    "mov bx, 0x9000",
    "mov ss, bx",
    "mov sp, 0x100",
    "sti",
    "nop",
    "vmmcall",
    "vmmcall",
    "int 0x20",
    "vmmcall",
    "2: jmp 2b",
    "guest_stack_end:",
    // Leaves by VMMCALL, and comes back with an offset in AX, to which it copies the word at 0x90000 for ever.
    "guest_watch:",
    "sti",
    "vmmcall",
    "mov si, ax",
    "xor bx, bx",
    "mov es, bx",
    "mov bx, 0x9000",
    "mov ds, bx",
    "2:",
    "mov eax, [0]",
    "mov es:[si], eax",
    "jmp 2b",
    "guest_watch_end:",
    // Leaves by VMMCALL, and comes back with a page directory in EAX. With that, it reads the word at 0x90000 into EAX and leaves by
    // VMMCALL, again and again. The descriptor table is where the check puts it. With PAE paging, it comes back with another
    // page-directory-pointer table each time.
    ".macro with_paging name, pae",
    "\\name:",
    "vmmcall",
    "mov cr3, eax",
    "xor bx, bx",
    "mov ds, bx",
    "lgdt [0x700]",
    ".if \\pae",
    "mov eax, cr4",
    "or eax, 0x20",
    "mov cr4, eax",
    ".endif",
    "mov eax, cr0",
    "or eax, 0x80000021",
    "mov cr0, eax",
    ".byte 0x66, 0xea", // far jump, 32-bit offset
    ".long 0x1000 + (2f - \\name)",
    ".short 0x08",
    ".code32",
    "2:",
    "mov bx, 0x10",
    "mov ds, bx",
    "3:",
    "mov eax, ds:[0x90000]",
    "vmmcall",
    ".if \\pae",
    "mov cr3, eax",
    ".endif",
    "jmp 3b",
    ".code16",
    "\\name\\()_end:",
    ".endm",
    "with_paging guest_paged, 0",
    "with_paging guest_pae, 1",
    // Leaves by VMMCALL, then executes WBINVD and what exits by wish only, again and again. The check knows the lengths.
    "guest_optional:",
    "xor bx, bx",
    "mov ds, bx",
    "mov ecx, cr3",
    "2:",
    "vmmcall",
    "pause",
    "rdtsc",
    "invlpg [bx]",
    "wbinvd",
    "mov cr3, ecx",
    "mov eax, cr0",
    "xor eax, 8",
    "mov cr0, eax",
    "jmp 2b",
    "guest_optional_end:",
    // XSETBV of all that a CPU with SSE has, then VMMCALL.
    "guest_xsetbv:",
    "mov eax, cr4",
    "or eax, 0x40000",
    "mov cr4, eax",
    "xor ecx, ecx",
    "xor edx, edx",
    "mov eax, 3",
    "xsetbv",
    "vmmcall",
    "2: jmp 2b",
    "guest_xsetbv_end:",
    // Leaves by VMMCALL with PKRU in EAX, comes back with another value, leaves once more when that is set, again and again.
    "guest_keys:",
    "mov eax, cr4",
    "or eax, 0x400000",
    "mov cr4, eax",
    "2:",
    "xor ecx, ecx",
    ".byte 0x0f, 0x01, 0xee", // RDPKRU
    "vmmcall",
    "xor ecx, ecx",
    "xor edx, edx",
    ".byte 0x0f, 0x01, 0xef", // WRPKRU
    "vmmcall",
    "jmp 2b",
    "guest_keys_end:",
    // Protected mode, then user mode with alignment checks. Handlers at fixed offsets leave by VMMCALL with vector plus error code in
    // EAX, and go on behind the instruction, which has two bytes. Descriptor tables are where the check puts them.
    "guest_user:",
    "xor bx, bx",
    "mov ds, bx",
    "lgdt [0x700]",
    "lidt [0x748]",
    "mov eax, cr0",
    "or eax, 0x40021",
    "mov cr0, eax",
    ".byte 0x66, 0xea", // far jump, 32-bit offset
    ".long 0x1000 + (2f - guest_user)",
    ".short 0x08",
    ".code32",
    "2:",
    "mov ebx, 0x10",
    "mov ds, ebx",
    "mov ss, ebx",
    "mov esp, 0x6f0",
    "mov ebx, 0x28",
    "ltr bx",
    "mov ebx, 0x23",
    "mov ds, ebx",
    "push 0x23",
    "push 0x5f0",
    "push 0x40002",
    "push 0x1b",
    "push 0x1080",
    "iretd",
    ".org guest_user + 0x80",
    "mov edx, 0x501",
    "mov ecx, [edx]",
    "hlt",
    "nop",
    "in al, 0x81",
    "cpuid",
    "vmmcall",
    "2: jmp 2b",
    ".org guest_user + 0xa0",
    "pop eax",
    "add eax, 13",
    "3:",
    "vmmcall",
    "add dword ptr [esp], 2",
    "iretd",
    ".org guest_user + 0xc0",
    "pop eax",
    "add eax, 17",
    "jmp 3b",
    ".code16",
    "guest_user_end:",
    // An exception that cannot be delivered, nor can what that leads to.
    "guest_triple:",
    "xor bx, bx",
    "mov ds, bx",
    "lidt [0x700]",
    "int3",
    "2: jmp 2b",
    "guest_triple_end:",
    // Protected mode, then long mode, leaving by VMMCALL in both. Then whatever is injected; and a single step.
    // Descriptor tables are where the check puts them. CR0 gains NE together with PE.
    "guest_modes:",
    "xor bx, bx",
    "mov ds, bx",
    "lgdt [0x700]",
    "mov eax, cr0",
    "or eax, 0x21",
    "mov cr0, eax",
    ".byte 0x66, 0xea", // far jump, 32-bit offset
    ".long 0x1000 + (2f - guest_modes)",
    ".short 0x08",
    ".code32",
    "2:",
    "mov bx, 0x10",
    "mov ds, bx",
    "mov ss, bx",
    "mov eax, cr0",
    "vmmcall",
    "mov eax, 0x2000",
    "mov cr3, eax",
    "mov eax, cr4",
    "or eax, 0x20",
    "mov cr4, eax",
    "mov ecx, 0xc0000080",
    "wrmsr",
    "mov eax, cr0",
    "or eax, 0x80000000",
    "mov cr0, eax",
    ".byte 0xea",
    ".long 0x1000 + (3f - guest_modes)",
    ".short 0x18",
    ".code64",
    "3:",
    "lidt [0x738]",
    "movabs rax, 0x1122334455667788",
    "vmmcall",
    "mov rax, 4",
    "vmmcall",
    "pushfq",
    "or qword ptr [rsp], 0x100",
    "popfq",
    "nop",
    "mov rax, 5",
    "vmmcall",
    "2: jmp 2b",
    // Handlers, at fixed offsets.
    ".org guest_modes + 0xa0",
    "mov rax, 1",
    "vmmcall",
    "and qword ptr [rsp + 16], ~0x100",
    "iretq",
    ".org guest_modes + 0xc0",
    "mov rax, 2",
    "vmmcall",
    "iretq",
    ".org guest_modes + 0xe0",
    "pop rax",
    "vmmcall",
    "iretq",
    "guest_modes_end:",
    ".popsection",
);

/// Gives programs their names, and the addresses where they begin and end.
macro_rules! programs {
    ($($name:ident: $begin:ident .. $end:ident),* $(,)?) => {
        global_asm!($(concat!(".global ", stringify!($begin), "\n.global ", stringify!($end))),*);

        unsafe extern "C" {
            $(static $begin: u8; static $end: u8;)*
        }

        /// A program.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs, reason = "what they do is written at the code")]
        pub enum Code {
            $($name,)*
        }

        impl Code {
            fn bounds(self) -> Range<*const u8> {
                match self {
                    $(Self::$name => &raw const $begin..&raw const $end,)*
                }
            }
        }
    };
}

programs! {
    Tour: guest_tour .. guest_tour_end,
    Count: guest_count .. guest_count_end,
    Sti: guest_sti .. guest_sti_end,
    Irq: guest_irq .. guest_irq_end,
    Xmm: guest_xmm .. guest_xmm_end,
    Peek: guest_peek .. guest_peek_end,
    Msr: guest_msr .. guest_msr_end,
    Modes: guest_modes .. guest_modes_end,
    Stack: guest_stack .. guest_stack_end,
    Triple: guest_triple .. guest_triple_end,
    Watch: guest_watch .. guest_watch_end,
    Paged: guest_paged .. guest_paged_end,
    Pae: guest_pae .. guest_pae_end,
    Optional: guest_optional .. guest_optional_end,
    Xsetbv: guest_xsetbv .. guest_xsetbv_end,
    User: guest_user .. guest_user_end,
    Keys: guest_keys .. guest_keys_end,
}

/// VMMCALL, and the last byte of VMCALL, which has the same others (APM vol. 3, VMMCALL; SDM vol. 3, VMCALL).
const VMMCALL: [u8; 3] = [0x0f, 0x01, 0xd9];
const VMCALL_END: u8 = 0xc1;

/// Copies a program to a window; for VMX with VMCALL in place of VMMCALL.
pub fn copy(code: Code, to: u64, is_vmx: bool) {
    let Range { start: from, end } = code.bounds();
    for i in 0..end.addr() - from.addr() {
        let at = (from.addr() + i) as u64;
        let ends_call = i >= 2 && [at - 2, at - 1, at].map(load_byte) == VMMCALL;
        let byte = if is_vmx && ends_call { VMCALL_END } else { load_byte(at) };
        store_byte(to + i as u64, byte);
    }
}
