//! XSAVE, XCR0 and the YMM registers.

use core::arch::asm;

use super::exception::Taken;
use super::instruction::attempt;

/// CR4.OSXSAVE (SDM vol. 3, 2.5).
const OSXSAVE: u64 = 1 << 18;
/// What [`hold`] fills registers with.
pub const PATTERN: u64 = 0x5a3c_96e1_0ff0_c3a5;

/// Enables XSAVE.
pub fn enable() {
    // SAFETY: only lets instructions be executed that fault otherwise.
    unsafe { asm!("mov {0}, cr4", "or {0}, {1}", "mov cr4, {0}", out(reg) _, const OSXSAVE, options(nostack)) };
}

/// The reverse.
pub fn disable() {
    // SAFETY: nobody uses them.
    unsafe {
        asm!("mov {0}, cr4", "and {0}, {1}", "mov cr4, {0}", out(reg) _, const !(OSXSAVE as i64), options(nostack))
    };
}

/// XSETBV.
pub fn set_xcr0(register: u32, value: u64) -> Taken {
    attempt!("xsetbv"; in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32)
}

/// XGETBV of XCR0, where XSAVE is enabled.
pub fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: changes nothing.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// An instruction of AVX.
pub fn use_avx() -> Taken {
    attempt!("vmovdqa ymm0, ymm0")
}

/// Fills the YMM registers with a pattern, exits many times, also to device models, and returns what they hold then.
pub fn hold(exits: u64) -> [u64; 4 * 16] {
    /// Line status register of the second serial line, where nobody is.
    const PORT: u16 = 0x2fd;
    let mut found = [0; 4 * 16];
    // SAFETY: AVX is enabled; what is written is as large as sixteen registers.
    unsafe {
        asm!(
            "vmovq xmm0, {pattern}", "vpunpcklqdq xmm0, xmm0, xmm0", "vinsertf128 ymm0, ymm0, xmm0, 1",
            ".irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15", "vmovdqa ymm\\n, ymm0", ".endr",
            "2:", "mov {saved}, rbx", "xor eax, eax", "cpuid", "mov rbx, {saved}",
            "mov dx, {port}", "in al, dx", "dec {exits}", "jnz 2b",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15", "vmovdqu [{found} + \\n * 32], ymm\\n", ".endr",
            pattern = in(reg) PATTERN, exits = inout(reg) exits => _, saved = out(reg) _, port = const PORT,
            found = in(reg) found.as_mut_ptr(), out("rax") _, out("rcx") _, out("rdx") _, options(nostack),
        );
    }
    found
}
