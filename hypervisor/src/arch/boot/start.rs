//! The first instructions of each CPU, from the mode in which it starts to 64-bit code.
//!
//! The loader enters `boot_entry` in 32-bit mode, paging off (Multiboot 1, section 3.2; Multiboot 2, section 3.3). The
//! boot page table maps the first 4 GiB one to one, and again where the kernel is linked and at the direct map. It lasts
//! until the kernel's own table is complete; other CPUs, which start at `ap_start`, come up through it too.

use super::{AP_STACK, ap_main, boot_main};
use crate::arch::features;
use crate::mem::ptab;
use abi::LARGE_PAGE_SIZE;
use core::arch::global_asm;

/// Physical page where other CPUs start in real mode.
pub(super) const TRAMPOLINE: u64 = 0x8000;
/// Entries of the boot page table beside addresses: present and writable; a page is large, too (SDM vol. 3, 4.5.4).
const BOOT_TABLE: u64 = 0b11;
const BOOT_PAGE: u64 = BOOT_TABLE | ptab::LARGE;

global_asm!(
    // Multiboot 1 header with address fields, because the image is an ELF64 file.
    ".pushsection .boot.header,\"a\",@progbits",
    ".balign 8",
    "mb1_header:",
    ".long 0x1badb002",
    ".long 0x00010003",
    ".long -(0x1badb002 + 0x00010003)",
    ".long mb1_header",
    ".long IMAGE_START",
    ".long LOAD_END_PHYS",
    ".long IMAGE_END_PHYS",
    ".long boot_entry",
    ".balign 8",
    "mb2_header:",
    ".long 0xe85250d6",
    ".long 0",
    ".long mb2_end - mb2_header",
    ".long -(0xe85250d6 + (mb2_end - mb2_header))",
    ".short 0, 0",
    ".long 8",
    "mb2_end:",
    ".popsection",
    ".pushsection .boot,\"awx\",@progbits",
    ".code32",
    ".global boot_entry",
    "boot_entry:",
    "cli",
    "cld",
    "mov esi, eax",
    "mov edi, ebx",
    "mov esp, offset boot_stack_end",
    "call boot_long_mode",
    "push 0x08",
    "mov eax, offset boot_64",
    "push eax",
    "retf",
    // Turns on long mode with the boot page table; expects 32-bit mode. Keeps ESI and EDI.
    "boot_long_mode:",
    "mov eax, offset boot_pml4",
    "mov cr3, eax",
    "mov eax, {cr4}",
    "mov cr4, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x900",
    "wrmsr",
    "mov eax, {cr0}",
    "mov cr0, eax",
    "lgdt [boot_gdt_pointer]",
    "ret",
    ".code64",
    "boot_64:",
    "xor eax, eax",
    "mov ss, eax; mov ds, eax; mov es, eax; mov fs, eax; mov gs, eax",
    "mov rsp, offset boot_stack_end",
    "movabs rax, offset {start}",
    "mov edi, edi",
    "xchg rdi, rsi",
    "call rax",
    "ud2",
    // Real-mode start of the other CPUs, copied to the trampoline page.
    ".code16",
    ".global ap_start",
    "ap_start:",
    "cli",
    "xor ax, ax",
    "mov ds, ax",
    ".byte 0x66, 0x0f, 0x01, 0x16", // lgdt with a 32-bit base
    ".short {trampoline} + (ap_gdt_pointer - ap_start)",
    "mov eax, cr0",
    "or eax, 1",
    "mov cr0, eax",
    ".byte 0x66, 0xea", // far jump, 32-bit offset
    ".long {trampoline} + (ap_32 - ap_start)",
    ".short 0x18",
    ".code32",
    "ap_32:",
    "mov ax, 0x20",
    "mov ds, ax",
    "mov ss, ax",
    "mov esp, {trampoline} + 0x1000",
    "mov eax, offset boot_long_mode",
    "call eax",
    "push 0x08",
    "mov eax, offset ap_64",
    "push eax",
    "retf",
    ".balign 8",
    "ap_gdt_pointer:",
    ".short 0x27",
    ".long boot_gdt",
    ".global ap_end",
    "ap_end:",
    ".code64",
    "ap_64:",
    "xor eax, eax",
    "mov ss, eax; mov ds, eax; mov es, eax; mov fs, eax; mov gs, eax",
    "movabs rax, offset {ap_stack}",
    "mov rsp, [rax]",
    "movabs rax, offset {ap_main}",
    "call rax",
    "ud2",
    ".balign 8",
    "boot_gdt:",
    ".quad 0",
    ".quad 0x00af9b000000ffff", // 0x08: 64-bit code
    ".quad 0x00cf93000000ffff", // 0x10: data
    ".quad 0x00cf9b000000ffff", // 0x18: 32-bit code
    ".quad 0x00cf93000000ffff", // 0x20: data
    "boot_gdt_pointer:",
    ".short 0x27",
    ".long boot_gdt",
    ".long 0",
    // The boot page table: tables are present and writable, the pages of the four directories are of 2 MiB as well.
    ".balign 4096",
    "boot_pml4: .quad boot_pdpt_low + {table}; .skip 255 * 8",
    ".quad boot_pdpt_low + {table}; .skip 254 * 8",
    ".quad boot_pdpt_high + {table}",
    "boot_pdpt_low: .quad boot_pd + {table}, boot_pd + 0x1000 + {table}, boot_pd + 0x2000 + {table}, boot_pd + 0x3000 + {table}",
    ".skip 508 * 8",
    "boot_pdpt_high: .skip 510 * 8; .quad boot_pd + {table}, 0",
    "boot_pd: .set page, 0",
    ".rept 2048",
    ".quad page + {page}",
    ".set page, page + {large_page}",
    ".endr",
    ".skip 16384",
    "boot_stack_end:",
    ".popsection",
    start = sym boot_main, ap_main = sym ap_main, ap_stack = sym AP_STACK, trampoline = const TRAMPOLINE,
    cr0 = const features::CR0, cr4 = const features::CR4_BOOT,
    table = const BOOT_TABLE, page = const BOOT_PAGE, large_page = const LARGE_PAGE_SIZE,
);
