//! Programs for virtual CPUs: real-mode code, copied to guest memory.

use crate::sys::memory::{load_byte, store_byte};
use core::arch::global_asm;

global_asm!(
    ".pushsection .rodata.guest,\"a\",@progbits",
    ".irp name, tour, count, sti, irq, xmm, peek, msr",
    ".global guest_\\name",
    ".global guest_\\name\\()_end",
    ".endr",
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
    // Counts at 0x500 for ever.
    "guest_count:",
    "xor bx, bx",
    "mov ds, bx",
    "2:",
    "inc dword ptr [0x500]",
    "jmp 2b",
    "guest_count_end:",
    // Interrupts off for a while, then on; vector 0x20 leads to `guest_irq` at 0x1100, which does VMMCALL.
    "guest_sti:",
    "cli",
    "mov al, 1",
    "out 0x80, al",
    "nop",
    "sti",
    "nop",
    "nop",
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
    ".code64",
    ".popsection",
);

unsafe extern "C" {
    static guest_tour: u8;
    static guest_tour_end: u8;
    static guest_count: u8;
    static guest_count_end: u8;
    static guest_sti: u8;
    static guest_sti_end: u8;
    static guest_irq: u8;
    static guest_irq_end: u8;
    static guest_xmm: u8;
    static guest_xmm_end: u8;
    static guest_peek: u8;
    static guest_peek_end: u8;
    static guest_msr: u8;
    static guest_msr_end: u8;
}

/// A program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "what they do is written at the code")]
pub enum Code {
    Tour,
    Count,
    Sti,
    Irq,
    Xmm,
    Peek,
    Msr,
}

/// Copies a program to a window.
pub fn copy(code: Code, to: u64) {
    let (from, end) = match code {
        Code::Tour => (&raw const guest_tour, &raw const guest_tour_end),
        Code::Count => (&raw const guest_count, &raw const guest_count_end),
        Code::Sti => (&raw const guest_sti, &raw const guest_sti_end),
        Code::Irq => (&raw const guest_irq, &raw const guest_irq_end),
        Code::Xmm => (&raw const guest_xmm, &raw const guest_xmm_end),
        Code::Peek => (&raw const guest_peek, &raw const guest_peek_end),
        Code::Msr => (&raw const guest_msr, &raw const guest_msr_end),
    };
    for i in 0..end.addr() - from.addr() {
        store_byte(to + i as u64, load_byte((from.addr() + i) as u64));
    }
}
