//! Tasks of the hardware, in 32-bit protected mode without paging: one is called, twice, and jumped to; another handles an exception.

use core::arch::global_asm;

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Found {
    /// In the task that was called: flags, CR0, task register, back link.
    pub flags: u32,
    /// CR0.
    pub cr0: u32,
    /// Task register.
    pub task: u32,
    /// Back link of its state segment.
    pub link: u32,
    /// EBX of a CPUID there.
    pub cpuid: u32,
    /// A register that it had set, when it was called again.
    pub own: u32,
    /// A register of the caller afterwards, and the caller's flags.
    pub callers: u32,
    /// Flags of the caller.
    pub callers_flags: u32,
    /// Flags of the task when it was jumped to.
    pub jumped_flags: u32,
    /// The error code that the task of #GP got.
    pub error_code: u32,
    /// Its back link.
    pub fault_link: u32,
}

/// Selector of the task that the trip is made by.
pub const SELF: u32 = 0x38;
/// Selector of the one that it calls.
pub const CALLED: u32 = 0x40;
/// Selector of the one that handles #GP.
const HANDLER: u32 = 0x48;
/// A selector beyond the table.
pub const BEYOND: u32 = 0x7f8;
/// A value of the caller's, and of the called task's.
pub const CALLERS: u32 = 0x1234;
pub const OWN: u32 = 0x5678;

global_asm!(
    ".pushsection .text",
    // From 32-bit code, with the address for what is found in EDI. The table of descriptors has room for three.
    ".code32",
    ".global task_trip",
    "task_trip:",
    "pushad",
    ".macro describe selector, state",
    "lea eax, [\\state]",
    "mov word ptr [legacy_table + \\selector], 0x67",
    "mov [legacy_table + \\selector + 2], ax",
    "shr eax, 16",
    "mov [legacy_table + \\selector + 4], al",
    "mov word ptr [legacy_table + \\selector + 5], 0x0089",
    "mov [legacy_table + \\selector + 7], ah",
    ".endm",
    "describe {itself}, task_self",
    "describe {called}, task_called",
    "describe {handler}, task_handler",
    "mov eax, {itself}",
    "ltr ax",
    "sidt [task_interrupts_before]",
    "lidt [task_interrupts]",
    "mov ebx, {callers}",
    ".rept 2",
    ".byte 0x9a", // far call
    ".long 0",
    ".short {called}",
    ".endr",
    "mov [task_found + 24], ebx",
    "pushfd",
    "pop dword ptr [task_found + 28]",
    ".byte 0xea", // far jump
    ".long 0",
    ".short {called}",
    "mov eax, {beyond}",
    "mov fs, eax",
    "clts",
    "lidt [task_interrupts_before]",
    "lea esi, [task_found]",
    "mov ecx, {words}",
    "cld",
    "rep movsd",
    "popad",
    "ret",
    // The task that is called.
    "task_called_code:",
    "pushfd",
    "pop dword ptr [task_found]",
    "mov eax, cr0",
    "mov [task_found + 4], eax",
    "str eax",
    "mov [task_found + 8], eax",
    "movzx eax, word ptr [task_called]",
    "mov [task_found + 12], eax",
    "mov eax, 0x40000000",
    "cpuid",
    "mov [task_found + 16], ebx",
    "mov ebx, {own}",
    "iretd",
    "mov [task_found + 20], ebx",
    "iretd",
    "pushfd",
    "pop dword ptr [task_found + 32]",
    ".byte 0xea", // far jump
    ".long 0",
    ".short {itself}",
    // The task of #GP: goes on behind the instruction, which has two bytes.
    "task_handler_code:",
    "pop dword ptr [task_found + 36]",
    "movzx eax, word ptr [task_handler]",
    "mov [task_found + 40], eax",
    "add dword ptr [task_self + 0x20], 2",
    "iretd",
    ".balign 128",
    "task_self: .skip 104",
    // SDM vol. 3, figure 8-2.
    ".macro state name",
    ".balign 128",
    "\\name:",
    ".skip 32",
    ".long \\name\\()_code, 2, 0, 0, 0, 0, \\name\\()_stack, 0, 0, 0, 0x18, 0x28, 0x18, 0x18, 0, 0, 0, 104 << 16",
    ".skip 64",
    "\\name\\()_stack:",
    ".endm",
    "state task_called",
    "state task_handler",
    ".balign 8",
    "task_table: .skip 13 * 8",
    ".long {handler} << 16, 0x8500",
    "task_interrupts: .short 14 * 8 - 1",
    ".long task_table",
    "task_interrupts_before: .skip 6",
    ".balign 4",
    "task_found: .skip {words} * 4",
    ".code64",
    ".popsection",
    itself = const SELF,
    called = const CALLED,
    handler = const HANDLER,
    beyond = const BEYOND,
    callers = const CALLERS,
    own = const OWN,
    words = const size_of::<Found>() / size_of::<u32>(),
);
