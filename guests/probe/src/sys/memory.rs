//! Accesses to memory that is not RAM, one instruction each.

use core::arch::asm;

/// Loads that are no plain moves, of a device's register: each result as 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loads {
    /// MOV of a byte, a word, a double word, a quadword; upper parts were all ones.
    pub plain: [u64; 4],
    /// MOVZX of a byte and of a word, MOVSX of a word.
    pub extended: [u64; 3],
    /// LODS of the same.
    pub string: [u64; 4],
    /// MOVS of the same to memory that was all ones.
    pub moved: [u64; 4],
    /// PUSH.
    pub pushed: u64,
    /// MOVUPS' lower half cannot be had without SSE; BT of bit 0 instead: the carry.
    pub bit: u64,
    /// AND with all ones.
    pub masked: u64,
    /// CMOVcc of a double word, its condition fulfilled and not.
    pub conditional: [u64; 2],
    /// IMUL of it with 2.
    pub doubled: u64,
    /// 2^32 divided by it, with the remainder in the upper half.
    pub divided: u64,
    /// BSF.
    pub lowest: u64,
}

/// MOV EAX, [address].
pub fn read_dword(address: u64) -> u32 {
    let value;
    // SAFETY: reads of device registers change nothing that Rust knows of.
    unsafe { asm!("mov {:e}, [{}]", out(reg) value, in(reg) address, options(nostack, preserves_flags)) };
    value
}

/// MOV [address], EAX.
pub fn write_dword(address: u64, value: u32) {
    // SAFETY: the callers' addresses are registers of devices.
    unsafe { asm!("mov [{}], {:e}", in(reg) address, in(reg) value, options(nostack, preserves_flags)) };
}

/// Every kind of load.
pub fn load(address: u64) -> Loads {
    const ONES: u64 = u64::MAX;
    let (byte, word, dword, qword): (u64, u64, u64, u64);
    let (zero_byte, zero_word, sign_word, pushed, masked): (u64, u64, u64, u64, u64);
    let (taken, kept, doubled, quotient, remainder, lowest): (u64, u64, u64, u64, u64, u64);
    let bit: u64;
    let mut string = [ONES, ONES, ONES, 0];
    let mut moved = string;
    macro_rules! strings {
        ($($index:literal $load:literal $copy:literal)*) => {$(
            // SAFETY: as for `read_dword`; the copy writes one element of the array at most.
            unsafe {
                asm!("cld", $load, inout("rsi") address => _, inout("rax") string[$index], options(nostack));
                asm!("cld", $copy, inout("rsi") address => _, inout("rdi") &raw mut moved[$index] => _, options(nostack));
            }
        )*};
    }
    strings!(0 "lodsb" "movsb" 1 "lodsw" "movsw" 2 "lodsd" "movsd" 3 "lodsq" "movsq");
    // SAFETY: as for `read_dword`; PUSH and POP leave the stack as it was.
    unsafe {
        asm!("mov al, [{}]", in(reg) address, inout("rax") ONES => byte, options(nostack));
        asm!("mov ax, [{}]", in(reg) address, inout("rax") ONES => word, options(nostack));
        asm!("mov eax, [{}]", in(reg) address, inout("rax") ONES => dword, options(nostack));
        asm!("mov rax, [{}]", in(reg) address, inout("rax") 0_u64 => qword, options(nostack));
        asm!("movzx eax, byte ptr [{}]", in(reg) address, inout("rax") ONES => zero_byte, options(nostack));
        asm!("movzx rax, word ptr [{}]", in(reg) address, inout("rax") ONES => zero_word, options(nostack));
        asm!("movsx rax, word ptr [{}]", in(reg) address, inout("rax") ONES => sign_word, options(nostack));
        asm!("push qword ptr [{}]", "pop rax", in(reg) address, out("rax") pushed);
        asm!("xor eax, eax", "bt dword ptr [{}], 0", "setc al", in(reg) address, out("rax") bit, options(nostack));
        asm!("and eax, [{}]", in(reg) address, inout("rax") ONES => masked, options(nostack));
        asm!("stc", "cmovc eax, [{}]", in(reg) address, inout("rax") ONES => taken, options(nostack));
        asm!("stc", "cmovnc eax, [{}]", in(reg) address, inout("rax") ONES => kept, options(nostack));
        asm!("imul eax, [{}], 2", in(reg) address, out("rax") doubled, options(nostack));
        asm!("div dword ptr [{}]", in(reg) address, inout("rax") 0_u64 => quotient, inout("rdx") 1_u64 => remainder,
            options(nostack));
        asm!("bsf eax, [{}]", in(reg) address, out("rax") lowest, options(nostack));
    }
    Loads {
        plain: [byte, word, dword, qword],
        extended: [zero_byte, zero_word, sign_word],
        string,
        moved,
        pushed,
        bit,
        masked,
        conditional: [taken, kept],
        doubled,
        divided: remainder << 32 | quotient,
        lowest,
    }
}

/// Stores `value` in operands of all sizes, and calls `seen` after each.
pub fn store(address: u64, value: u64, mut seen: impl FnMut()) {
    // SAFETY: as for `write_dword`.
    unsafe {
        asm!("mov [{}], al", in(reg) address, in("rax") value, options(nostack));
        seen();
        asm!("mov [{}], ax", in(reg) address, in("rax") value, options(nostack));
        seen();
        asm!("mov [{}], eax", in(reg) address, in("rax") value, options(nostack));
        seen();
        asm!("mov [{}], rax", in(reg) address, in("rax") value, options(nostack));
        seen();
        asm!("mov dword ptr [{}], 0x15", in(reg) address, options(nostack));
        seen();
        asm!("push {}", "pop qword ptr [{}]", in(reg) value, in(reg) address);
        seen();
    }
    macro_rules! strings {
        ($($store:literal $copy:literal)*) => {$(
            // SAFETY: as for `write_dword`; the copy reads the value.
            unsafe {
                asm!("cld", $store, inout("rdi") address => _, in("rax") value, options(nostack));
                seen();
                asm!("cld", $copy, inout("rsi") &raw const value => _, inout("rdi") address => _, options(nostack));
                seen();
            }
        )*};
    }
    strings!("stosb" "movsb" "stosw" "movsw" "stosd" "movsd" "stosq" "movsq");
}

/// How many instructions [`store`] executes.
pub const STORES: usize = 14;

/// OR of 1 in operands of all sizes; calls `seen` with the number of bytes after each.
pub fn or_one(address: u64, mut seen: impl FnMut(u32)) {
    // SAFETY: as for `write_dword`.
    unsafe {
        asm!("or byte ptr [{}], 1", in(reg) address, options(nostack));
        seen(1);
        asm!("or word ptr [{}], 1", in(reg) address, options(nostack));
        seen(2);
        asm!("or dword ptr [{}], 1", in(reg) address, options(nostack));
        seen(4);
        asm!("or qword ptr [{}], 1", in(reg) address, options(nostack));
        seen(8);
    }
}

/// REP STOSD of so many double words: how many it has left, and how far it got.
pub fn fill(address: u64, count: u64) -> (u64, u64) {
    let (left, end): (u64, u64);
    // SAFETY: as for `write_dword`.
    unsafe {
        asm!("cld", "rep stosd", inout("rcx") count => left, inout("rdi") address => end, in("eax") 0, options(nostack))
    };
    (left, end - address)
}

/// CMPSD of device memory with a value: whether they are equal.
pub fn equals(address: u64, value: u32) -> bool {
    let equal: u8;
    // SAFETY: as for `read_dword`; the value is only read.
    unsafe {
        asm!("cld", "cmpsd", "sete {}", out(reg_byte) equal, inout("rsi") address => _,
            inout("rdi") &raw const value => _, options(nostack));
    }
    equal != 0
}

/// What [`MODIFY`] works on.
pub const BEFORE: u32 = 0x1_0030;

/// Instructions that read, change and write a double word: their names, and what they make of [`BEFORE`] with operand 7.
pub const MODIFY: [(&str, u32); 21] = [
    ("ADD", 0x1_0037),
    ("SUB", 0x1_0029),
    ("OR", 0x1_0037),
    ("XOR", 0x1_0037),
    ("AND", 0),
    ("INC", 0x1_0031),
    ("DEC", 0x1_002f),
    ("BTS", 0x1_00b0),
    ("BTR", 0x1_0030),
    ("BTC", 0x1_00b0),
    ("XCHG", 7),
    ("XADD", 0x1_0037),
    ("CMPXCHG", 7),
    ("LOCK OR", 0x1_0037),
    // Bits 12, 14 and from 17 on cannot be written.
    ("NOT", 0xafcf),
    ("SHL", 0x0800),
    ("SHR", 0x0200),
    ("SAR", 0x0200),
    ("ROR", 0x0200),
    ("SHLD", 0x0800),
    ("SETC", 1),
];

/// Executes one of [`MODIFY`], by its index.
pub fn modify(index: usize, address: u64) {
    const OPERAND: u32 = 7;
    macro_rules! execute {
        ($($instruction:literal),*) => {
            // SAFETY: as for `write_dword`.
            unsafe { asm!($($instruction,)* in("rdi") address, inout("ecx") OPERAND => _, inout("eax") BEFORE => _, options(nostack)) }
        };
    }
    match index {
        0 => execute!("add [rdi], ecx"),
        1 => execute!("sub [rdi], ecx"),
        2 => execute!("or [rdi], ecx"),
        3 => execute!("xor [rdi], ecx"),
        4 => execute!("and [rdi], ecx"),
        5 => execute!("inc dword ptr [rdi]"),
        6 => execute!("dec dword ptr [rdi]"),
        7 => execute!("bts [rdi], ecx"),
        8 => execute!("btr [rdi], ecx"),
        9 => execute!("btc [rdi], ecx"),
        10 => execute!("xchg [rdi], ecx"),
        11 => execute!("xadd [rdi], ecx"),
        12 => execute!("cmpxchg [rdi], ecx"),
        13 => execute!("lock or [rdi], ecx"),
        14 => execute!("not dword ptr [rdi]"),
        15 => execute!("shl dword ptr [rdi], cl"),
        16 => execute!("shr dword ptr [rdi], cl"),
        17 => execute!("sar dword ptr [rdi], 7"),
        18 => execute!("ror dword ptr [rdi], cl"),
        19 => execute!("shld [rdi], ecx, cl"),
        _ => execute!("stc", "setc byte ptr [rdi]"),
    }
}

/// REP MOVSD from device memory.
pub fn copy(from: u64, into: &mut [u32]) {
    // SAFETY: as for `read_dword`; the instruction writes exactly the slice.
    unsafe {
        asm!("cld", "rep movsd", inout("rcx") into.len() => _, inout("rsi") from => _,
            inout("rdi") into.as_mut_ptr() => _, options(nostack));
    }
}

/// REPNE SCASB: how many bytes of device memory are before the first zero, at most `limit`.
pub fn length(address: u64, limit: u64) -> u64 {
    let left: u64;
    // SAFETY: as for `read_dword`.
    unsafe {
        asm!("cld", "repne scasb", inout("rcx") limit => left, inout("rdi") address => _, in("al") 0_u8,
            options(nostack));
    }
    limit - left - 1
}
