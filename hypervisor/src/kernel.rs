//! Facts about the running system that are set once at boot.

use crate::mem::object::Link;
use crate::mem::{Page, Phys};
use crate::space::{msr::MsrSpace, pio::PioSpace};
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// Most ranges that are the hypervisor's.
const MAX_PROTECTED: usize = 32;

/// Ranges of physical memory that nobody else may map: first byte and end.
static PROTECTED: [[AtomicU64; 2]; MAX_PROTECTED] = [const { [AtomicU64::new(0), AtomicU64::new(0)] }; MAX_PROTECTED];
static PROTECTED_COUNT: AtomicUsize = AtomicUsize::new(0);

/// One byte beyond the physical addresses that the CPU has.
static PHYSICAL_LIMIT: AtomicU64 = AtomicU64::new(1 << 36);

/// Virtual address of the root of the page table that maps the kernel only.
static PAGE_TABLE: AtomicU64 = AtomicU64::new(0);

/// Maps for vCPUs that were given none: everything exits.
static NO_PORTS: Link<PioSpace> = Link::new();
static NO_MSRS: Link<MsrSpace> = Link::new();

/// Protects a range; at boot only. False if there are too many. They are kept sorted by their first byte.
pub fn protect(base: u64, size: u64) -> bool {
    let count = PROTECTED_COUNT.load(Relaxed);
    if count == MAX_PROTECTED {
        return false;
    }
    let mut new = [base, base.saturating_add(size)];
    for range in &PROTECTED[..=count] {
        let old = [range[0].load(Relaxed), range[1].load(Relaxed)];
        if new[0] < old[0] || old[1] == 0 {
            range[0].store(new[0], Relaxed);
            range[1].store(new[1], Relaxed);
            new = old;
        }
    }
    // Ordering: Release pairs with the Acquire in `is_mappable`.
    PROTECTED_COUNT.store(count + 1, Release);
    true
}

/// Sets the number of physical address bits.
pub fn set_physical_bits(bits: u32) {
    PHYSICAL_LIMIT.store(1 << bits.clamp(32, 52), Relaxed);
}

/// Whether all of `[at, at + len)` may be mapped for user level.
#[inline(always)]
pub fn is_mappable(at: Phys, len: u64) -> bool {
    let Some(end) = at.0.checked_add(len) else {
        return false;
    };
    if end > PHYSICAL_LIMIT.load(Relaxed) {
        return false;
    }
    for [start, stop] in PROTECTED.iter().take(PROTECTED_COUNT.load(Acquire)) {
        if end <= start.load(Relaxed) {
            break;
        }
        if at.0 < stop.load(Relaxed) {
            return false;
        }
    }
    true
}

/// Root of the page table that maps the kernel only; all others have its upper half.
pub fn page_table() -> Page {
    Page::at_virt(PAGE_TABLE.load(Relaxed))
}

/// Sets it.
pub fn set_page_table(root: Page) {
    PAGE_TABLE.store(root.virt(), Relaxed);
}

/// The port space that permits nothing.
pub fn no_ports() -> Option<&'static PioSpace> {
    NO_PORTS.get()
}

/// The MSR space that permits nothing.
pub fn no_msrs() -> Option<&'static MsrSpace> {
    NO_MSRS.get()
}

/// Sets the spaces that permit nothing.
pub fn set_denials(ports: &'static PioSpace, msrs: &'static MsrSpace) {
    NO_PORTS.set(Some(ports));
    NO_MSRS.set(Some(msrs));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_ranges_cannot_be_mapped_in_whatever_order_they_came() {
        set_physical_bits(40);
        for base in [0x5000, 0x1000, 0x9000, 0x3000] {
            assert!(protect(base, 0x1000));
        }
        for page in 0..16 {
            let protected = [1, 3, 5, 9].contains(&page);
            assert_eq!(is_mappable(Phys(page << 12), 0x1000), !protected, "{page}");
        }
        assert!(!is_mappable(Phys(0), 0x2000) && !is_mappable(Phys(0x8fff), 2));
        assert!(!is_mappable(Phys(1 << 40), 1) && !is_mappable(Phys(u64::MAX), 1));
    }
}
