//! Extended state: x87, SSE, AVX and whatever else XSAVE manages.
//!
//! A context that left the CPU by a hypercall has none (the ABI says it is clobbered); it starts from the initial state,
//! so nothing leaks. One that was interrupted, and a vCPU, has it saved in its context page.

pub(super) use super::features::CR4_OSXSAVE;
use super::x86::{self, Cpuid};
use super::{cpuid, svm};
use crate::ec::Ec;
use crate::frame::EXTENDED;
use crate::mem::PAGE;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// XCR0 of the host: all user state components that fit the context page. 0: the CPU has FXSAVE only.
pub(super) static XCR0: AtomicU64 = AtomicU64::new(0);

/// [`XCR0`], but 0 if XRSTOR does not suffice (`keeps_pointers`). With 0, `fastpath` executes FNINIT before it restores any state.
pub(super) static PLAIN: AtomicU64 = AtomicU64::new(0);

/// First word of the area in the context page.
const AT: usize = EXTENDED as usize / 8;
/// Words of the area: FCW in its first bytes, and MXCSR at byte 24, with their values after reset (SDM vol. 1, 13.6), and the XSAVE
/// header at byte 512 (13.4.2).
const FCW: usize = 0;
const FCW_INIT: u64 = 0x37f;
const MXCSR: usize = 24 / 8;
const MXCSR_INIT: u64 = 0x1f80;
const HEADER: usize = 512 / 8;

/// XMM registers in the legacy part of the extended state (SDM vol. 1, 10.5.1): first word of the context page, and how many.
pub const XMM_AT: usize = AT + 160 / 8;
/// See [`XMM_AT`].
pub const XMM_WORDS: usize = 32;

/// State components that threads and guests may use: x87, SSE, AVX, AVX-512's three, and PKRU, which a guest can set in any case.
const WANTED: u64 = 0x2e7;
/// Those of them that fit any context page: x87, SSE, AVX.
const SMALL: u64 = 0x7;

/// Whether a restore leaves the x87 pointers (FIP, FDP, FOP) as they were unless an exception is pending in what is restored: AMD's before
/// those that report XSaveErPtr (APM vol. 3, CPUID 8000_0008h). They tell of addresses of whoever used x87 last.
fn keeps_pointers(vendor: [u8; 4], leaf: Cpuid) -> bool {
    const XSAVE_ER_PTR: u32 = 1 << 2;
    matches!(&vendor, b"Auth" | b"Hygo") && leaf.ebx & XSAVE_ER_PTR == 0
}

/// An area in its initial state.
#[repr(C, align(64))]
pub(super) struct Init([u64; 512]);

pub(super) static INIT: Init = {
    let mut area = [0; 512];
    area[FCW] = FCW_INIT;
    area[MXCSR] = MXCSR_INIT;
    Init(area)
};

/// Enables the extended state on this CPU, whose control registers are set ([`super::features::init`]).
pub fn init() {
    if x86::read_cr4() & CR4_OSXSAVE == 0 {
        return;
    }
    let leaf = x86::cpuid(cpuid::leaf::EXTENDED_STATE, 0);
    let mut mask = (u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & WANTED;
    set_xcr0(mask);
    if u64::from(x86::cpuid(cpuid::leaf::EXTENDED_STATE, 0).ebx) > PAGE - EXTENDED {
        mask &= SMALL;
        set_xcr0(mask);
    }
    XCR0.store(mask, Relaxed);
    // QEMU's code generator has no such pointers, whatever CPU it says that it is.
    let keeps =
        keeps_pointers(cpuid::name(cpuid::leaf::VENDOR), x86::cpuid(cpuid::leaf::ADDRESSES, 0)) && !svm::is_qemu_tcg();
    PLAIN.store(if keeps { 0 } else { mask }, Relaxed);
}

/// XCR0 of the host; 0 without XSAVE.
#[inline(always)]
pub fn host_xcr0() -> u64 {
    XCR0.load(Relaxed)
}

/// Sets XCR0.
pub fn set_xcr0(value: u64) {
    // SAFETY: OSXSAVE is set; the value is the host's own, or one that the guest's XSETBV was allowed to set.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nomem, nostack, preserves_flags));
    }
}

/// XCR0.
pub fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: OSXSAVE is set where the caller has checked `host_xcr0`.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// All components that XCR0 enables.
const ALL: i32 = -1;

#[inline(always)]
fn restore_from(area: u64) {
    // SAFETY: the area is 64-byte aligned, large enough for XCR0 (`init`), and was written by `save` or is initial. Components
    // beyond bit 31 are never enabled, so EDX does not matter. FNINIT changes what is restored next.
    unsafe {
        if PLAIN.load(Relaxed) == 0 {
            asm!("fninit", options(nomem, nostack, preserves_flags));
        }
        if host_xcr0() != 0 {
            asm!("xrstor64 [{}]", in(reg) area, in("eax") ALL, options(nostack, preserves_flags));
        } else {
            asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags));
        }
    }
}

#[inline(always)]
fn initial() -> u64 {
    (&raw const INIT).addr() as u64
}

/// Loads the initial state.
#[inline(always)]
pub fn clear() {
    restore_from(initial());
}

/// Loads the state of `ec`.
#[inline(always)]
pub fn restore(ec: &'static Ec) {
    restore_from(ec.frame().extended());
}

/// Saves the state of `ec`.
#[inline(always)]
pub fn save(ec: &'static Ec) {
    let area = ec.frame().extended();
    // SAFETY: as in `restore_from`; the page belongs to `ec`.
    unsafe {
        if host_xcr0() != 0 {
            asm!("xsave64 [{}]", in(reg) area, in("eax") ALL, options(nostack, preserves_flags));
        } else {
            asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags));
        }
    }
}

/// The SSE component of the saved state of `ec` was written: it counts, whether it was initial before or not.
pub fn sse_written(ec: &'static Ec) {
    const SSE: u64 = 1 << 1;
    let page = ec.frame().0;
    page.write(AT + HEADER, page.read(AT + HEADER) | SSE);
}

/// Sets the saved state of `ec` to the initial one.
pub fn reset(ec: &'static Ec) {
    let page = ec.frame().0;
    page.write(AT + FCW, FCW_INIT);
    page.write(AT + MXCSR, MXCSR_INIT);
    page.write(AT + HEADER, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_older_cpus_of_amd_keep_the_pointers() {
        let ebx = |ebx| Cpuid { eax: 0, ebx, ecx: 0, edx: 0 };
        let [amd, hygon, intel] = [*b"Auth", *b"Hygo", *b"Genu"];
        assert!(keeps_pointers(amd, ebx(0)) && keeps_pointers(hygon, ebx(!(1 << 2))));
        assert!(!keeps_pointers(amd, ebx(1 << 2)) && !keeps_pointers(intel, ebx(0)));
    }
}
