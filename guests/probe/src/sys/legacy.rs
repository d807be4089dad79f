//! A trip through the modes without 64-bit code: protected mode without paging, with [tasks](task), real mode, PAE paging, 32-bit paging, and back.

use super::task;
use core::arch::global_asm;
use core::mem::offset_of;

/// What was found on the trip.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Found {
    /// The register of a device, without paging.
    pub unpaged: u32,
    /// With PAE paging, what is at [`ALIAS`]: nobody, by the first table.
    pub pae_nobody: u32,
    /// The device, by the second table.
    pub pae_device: u32,
    /// EBX of a CPUID in between.
    pub cpuid: u32,
    /// The device behind it.
    pub pae_again: u32,
    /// The device with 32-bit paging, and the word at its byte 2.
    pub paged: [u32; 2],
    /// In real mode, a word through a segment of that mode: nobody, where a video memory could be.
    pub real_nobody: u32,
    /// The device, through a segment with the limit that protected mode has left.
    pub real_device: u32,
    /// EBX of a CPUID there.
    pub real_cpuid: u32,
    /// Tasks.
    pub tasks: task::Found,
}

/// An address that the second of two tables leads to the device.
pub const ALIAS: u32 = 0x6000_0000;
/// The device: configuration space of the PCI host bridge.
const DEVICE: u32 = 0xe000_0000;
/// The boot protocol's page directories, of 2 MiB pages, where linear and physical addresses are the same.
const DIRECTORIES: u64 = 0x5000;
const DIRECTORY_BYTES: u64 = 0x1000;

/// Four page-directory pointers (SDM vol. 3, 4.4.1).
#[repr(C, align(32))]
struct Pointers([u64; 4]);

/// A page directory of 4 MiB pages (SDM vol. 3, 4.3).
#[repr(C, align(4096))]
struct Directory([u32; 1024]);

/// Where the real-mode part is copied to: below 1 MiB, where the boot protocol has nothing.
const REAL_AT: u32 = 0xa000;

const PRESENT: u64 = 1;

/// Pointers to the boot protocol's directories with these numbers, a gigabyte each.
const fn pointers(directories: [u64; 4]) -> Pointers {
    let mut entries = [0; 4];
    let mut i = 0;
    while i < entries.len() {
        entries[i] = (DIRECTORIES + directories[i] * DIRECTORY_BYTES) | PRESENT;
        i += 1;
    }
    Pointers(entries)
}

static SAME: Pointers = pointers([0, 1, 2, 3]);
static ALIASED: Pointers = pointers([0, 3, 2, 3]);

static DIRECTORY: Directory = {
    /// Present, writable, 4 MiB.
    const LARGE: u32 = 0x83;
    let mut entries = [0; 1024];
    let mut i = 0;
    while i < entries.len() {
        entries[i] = (i as u32) << 22 | LARGE;
        i += 1;
    }
    Directory(entries)
};

global_asm!(
    ".pushsection .text",
    ".global legacy_trip",
    "legacy_trip:",
    ".irp register, rbx, rbp, r12, r13, r14, r15",
    "push \\register",
    ".endr",
    "mov [rip + 7f], rsp",
    "mov rax, cr3",
    "mov [rip + 8f], rax",
    "push rdi",
    "lea rsi, [rip + 20f]",
    "mov edi, {real}",
    "lea rcx, [rip + 21f]",
    "sub rcx, rsi",
    "cld",
    "rep movsb",
    "pop rdi",
    "lgdt [rip + 5f]",
    "lea rax, [rip + 2f]",
    "push 0x28",
    "push rax",
    "retfq",
    ".code32",
    "2:",
    "mov eax, cr0",
    "and eax, 0x7fffffff",
    "mov cr0, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "and eax, ~0x100",
    "wrmsr",
    "mov eax, ds:[{device}]",
    "mov [edi], eax",
    "push edi",
    "add edi, {tasks}",
    "call task_trip",
    "pop edi",
    // Real mode, by way of a code segment of 16 bits.
    ".byte 0xea",
    ".long {real}",
    ".short 0x30",
    "22:",
    "mov eax, 0x18",
    "mov es, eax",
    // PAE paging.
    "lea eax, [{same}]",
    "mov cr3, eax",
    "mov eax, cr0",
    "or eax, 0x80000000",
    "mov cr0, eax",
    "mov eax, ds:[{alias}]",
    "mov [edi + 4], eax",
    "lea eax, [{aliased}]",
    "mov cr3, eax",
    "mov eax, ds:[{alias}]",
    "mov [edi + 8], eax",
    "mov eax, 0x40000000",
    "cpuid",
    "mov [edi + 12], ebx",
    "mov eax, ds:[{alias}]",
    "mov [edi + 16], eax",
    // 32-bit paging with large pages.
    "mov eax, cr0",
    "and eax, 0x7fffffff",
    "mov cr0, eax",
    "mov eax, cr4",
    "xor eax, 0x30",
    "mov cr4, eax",
    "lea eax, [{directory}]",
    "mov cr3, eax",
    "mov eax, cr0",
    "or eax, 0x80000000",
    "mov cr0, eax",
    "mov eax, ds:[{device}]",
    "mov [edi + 20], eax",
    "movzx eax, word ptr ds:[{device} + 2]",
    "mov [edi + 24], eax",
    // And back.
    "mov eax, cr0",
    "and eax, 0x7fffffff",
    "mov cr0, eax",
    "mov eax, cr4",
    "xor eax, 0x30",
    "mov cr4, eax",
    "mov eax, [8f]",
    "mov cr3, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x100",
    "wrmsr",
    "mov eax, cr0",
    "or eax, 0x80000000",
    "mov cr0, eax",
    "push 0x10",
    "lea eax, [3f]",
    "push eax",
    "retf",
    ".code64",
    "3:",
    "mov rsp, [rip + 7f]",
    ".irp register, r15, r14, r13, r12, rbp, rbx",
    "pop \\register",
    ".endr",
    "ret",
    ".code16",
    "20:",
    "mov eax, cr0",
    "and al, 0xfe",
    "mov cr0, eax",
    ".byte 0xea", // far jump
    ".short {real} + (23f - 20b)",
    ".short 0",
    "23:",
    "mov ax, 0xb800",
    "mov es, ax",
    "mov eax, es:[0]",
    "mov [edi + 28], eax",
    "mov esi, {device}",
    "mov eax, [esi]",
    "mov [edi + 32], eax",
    "mov eax, 0x40000000",
    "cpuid",
    "mov [edi + 36], ebx",
    "mov eax, cr0",
    "or al, 1",
    "mov cr0, eax",
    ".byte 0x66, 0xea", // far jump, 32-bit offset
    ".long 22b",
    ".short 0x28",
    "21:",
    ".code64",
    // The boot protocol's segments, one of 32-bit code, one of 16-bit code, and those of three tasks.
    ".balign 8",
    ".global legacy_table",
    "legacy_table:",
    ".quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0, 0x00cf9b000000ffff, 0x00009b000000ffff, 0, 0, 0",
    "5: .short 5b - legacy_table - 1",
    ".quad legacy_table",
    ".balign 8",
    "7: .quad 0",
    "8: .quad 0",
    ".popsection",
    device = const DEVICE,
    real = const REAL_AT,
    tasks = const offset_of!(Found, tasks),
    alias = const ALIAS,
    same = sym SAME,
    aliased = sym ALIASED,
    directory = sym DIRECTORY,
);

unsafe extern "sysv64" {
    fn legacy_trip(found: &mut Found);
}

/// Makes the trip. Interrupts are off.
pub fn trip() -> Found {
    let mut found = Found::default();
    // SAFETY: all code and data are below 4 GiB at their physical addresses, which all tables map; everything that the trip changes but
    // the descriptor table, which has the same segments, is as before when it ends.
    unsafe { legacy_trip(&mut found) };
    found
}
