//! Extended state: patterns in the vector registers.

use core::arch::asm;

/// Whether the CPUs have AVX and the kernel has enabled it.
pub fn has_avx() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const AVX: u32 = 1 << 28;
    let features = core::arch::x86_64::__cpuid(1).ecx;
    features & OSXSAVE != 0 && features & AVX != 0
}

macro_rules! for_all {
    ($head:literal, $tail:literal) => {
        concat!(
            $head, "0", $tail, "\n", $head, "1", $tail, "\n", $head, "2", $tail, "\n", $head, "3", $tail, "\n", $head,
            "4", $tail, "\n", $head, "5", $tail, "\n", $head, "6", $tail, "\n", $head, "7", $tail, "\n", $head, "8",
            $tail, "\n", $head, "9", $tail, "\n", $head, "10", $tail, "\n", $head, "11", $tail, "\n", $head, "12",
            $tail, "\n", $head, "13", $tail, "\n", $head, "14", $tail, "\n", $head, "15", $tail, "\n",
        )
    };
}

/// Fills all vector registers with `pattern`, spins for `turns` times over `word` being 0 (each turn executes UD2 if
/// `trap`; R12 leads behind it), and counts registers that have changed. Uses XMM only if `avx` is false.
pub fn hold(pattern: u64, word: u64, avx: bool, trap: bool) -> u64 {
    let wide = [pattern; 4];
    let mut found = [[0u64; 4]; 16];
    // SAFETY: `wide` and `found` are as large as what is read and written; AVX was checked by the caller. The general
    // registers that an event handler changes are outputs.
    unsafe {
        if avx {
            asm!(for_all!("vmovdqu ymm", ", [rsi]"), in("rsi") wide.as_ptr(), options(nostack, readonly));
            spin(word, trap);
            asm!(
                "vmovdqu [rdi], ymm0", "vmovdqu [rdi + 32], ymm1", "vmovdqu [rdi + 64], ymm2", "vmovdqu [rdi + 96], ymm3",
                "vmovdqu [rdi + 128], ymm4", "vmovdqu [rdi + 160], ymm5", "vmovdqu [rdi + 192], ymm6",
                "vmovdqu [rdi + 224], ymm7", "vmovdqu [rdi + 256], ymm8", "vmovdqu [rdi + 288], ymm9",
                "vmovdqu [rdi + 320], ymm10", "vmovdqu [rdi + 352], ymm11", "vmovdqu [rdi + 384], ymm12",
                "vmovdqu [rdi + 416], ymm13", "vmovdqu [rdi + 448], ymm14", "vmovdqu [rdi + 480], ymm15", "vzeroupper",
                in("rdi") found.as_mut_ptr(), clobber_abi("sysv64"), options(nostack),
            );
        } else {
            asm!(for_all!("movdqu xmm", ", [rsi]"), in("rsi") wide.as_ptr(), options(nostack, readonly));
            spin(word, trap);
            store_xmm(found.as_mut_ptr().cast());
        }
    }
    let parts = if avx { 4 } else { 2 };
    found.iter().flat_map(|r| &r[..parts]).filter(|&&part| part != pattern).count() as u64
}

/// What the vector registers hold right now, if anything but zero: parts of them.
pub fn leftovers() -> u64 {
    let mut found = [[0u64; 4]; 16];
    // SAFETY: as in `hold`.
    unsafe { store_xmm(found.as_mut_ptr().cast()) };
    found.iter().flat_map(|r| &r[..2]).filter(|&&part| part != 0).count() as u64
}

/// # Safety
/// 512 bytes can be written at `to`.
#[inline(always)]
unsafe fn store_xmm(to: *mut u8) {
    // SAFETY: by contract.
    unsafe {
        asm!(
            "movdqu [rdi], xmm0", "movdqu [rdi + 32], xmm1", "movdqu [rdi + 64], xmm2", "movdqu [rdi + 96], xmm3",
            "movdqu [rdi + 128], xmm4", "movdqu [rdi + 160], xmm5", "movdqu [rdi + 192], xmm6",
            "movdqu [rdi + 224], xmm7", "movdqu [rdi + 256], xmm8", "movdqu [rdi + 288], xmm9",
            "movdqu [rdi + 320], xmm10", "movdqu [rdi + 352], xmm11", "movdqu [rdi + 384], xmm12",
            "movdqu [rdi + 416], xmm13", "movdqu [rdi + 448], xmm14", "movdqu [rdi + 480], xmm15",
            in("rdi") to, options(nostack),
        );
    }
}

/// # Safety
/// The word is a cell.
#[inline(always)]
unsafe fn spin(word: u64, trap: bool) {
    // SAFETY: by contract; the event handler changes RAX and RIP only.
    unsafe {
        asm!(
            "push r12",
            "lea r12, [rip + 4f]",
            "2:",
            "pause",
            "test ecx, ecx",
            "jz 4f",
            "ud2",
            "4:",
            "cmp qword ptr [rdi], 0",
            "je 2b",
            "pop r12",
            in("rdi") word,
            in("ecx") u32::from(trap),
            out("rax") _,
        );
    }
}
