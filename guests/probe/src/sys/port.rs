//! Port I/O of every kind.

use core::arch::asm;

/// OUT DX, AL.
pub fn write_byte(port: u16, value: u8) {
    // SAFETY: the machine's ports are this kernel's own; no port of it writes to memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// OUT DX, AX.
pub fn write_word(port: u16, value: u16) {
    // SAFETY: as for `write_byte`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) };
}

/// OUT DX, EAX.
pub fn write_dword(port: u16, value: u32) {
    // SAFETY: as for `write_byte`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) };
}

/// IN AL, AX and EAX, DX, each with RAX as it was before; and IN AL from an immediate port, 0x61.
pub fn read_all(port: u16, before: u64) -> [u64; 3] {
    let (byte, word, dword);
    // SAFETY: as for `write_byte`.
    unsafe {
        asm!("in al, dx", in("dx") port, inout("rax") before => byte, options(nomem, nostack, preserves_flags));
        asm!("in ax, dx", in("dx") port, inout("rax") before => word, options(nomem, nostack, preserves_flags));
        asm!("in eax, dx", in("dx") port, inout("rax") before => dword, options(nomem, nostack, preserves_flags));
    }
    [byte, word, dword]
}

/// REP INSD.
pub fn read_string(port: u16, into: &mut [u32]) {
    // SAFETY: as for `write_byte`; the instruction writes exactly the slice.
    unsafe {
        asm!("rep insd", in("dx") port, inout("rcx") into.len() => _, inout("rdi") into.as_mut_ptr() => _,
            options(nostack, preserves_flags));
    }
}

/// REP OUTSB. Returns RCX behind it.
pub fn write_string(port: u16, from: &[u8]) -> u64 {
    let left;
    // SAFETY: as for `write_byte`; the instruction reads exactly the slice.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rcx") from.len() => left, inout("rsi") from.as_ptr() => _,
            options(nostack, readonly, preserves_flags));
    }
    left
}
