//! Facts about the running system that are set once at boot.

use crate::mem::object::Link;
use crate::mem::{Object, Phys};
use crate::space::{msr::MsrSpace, pio::PioSpace};
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// Most ranges that are the hypervisor's.
const MAX_PROTECTED: usize = 32;

/// Ranges of physical memory that nobody else may map: first byte and end.
static PROTECTED: [[AtomicU64; 2]; MAX_PROTECTED] =
    [const { [AtomicU64::new(0), AtomicU64::new(0)] }; MAX_PROTECTED];
static PROTECTED_COUNT: AtomicUsize = AtomicUsize::new(0);

/// One byte beyond the physical addresses that the CPU has.
static PHYSICAL_LIMIT: AtomicU64 = AtomicU64::new(1 << 36);

/// Maps for vCPUs that were given none: everything exits.
static NO_PORTS: Link<PioSpace> = Link::new();
static NO_MSRS: Link<MsrSpace> = Link::new();

/// Protects a range. False if there are too many.
pub fn protect(base: u64, size: u64) -> bool {
    let index = PROTECTED_COUNT.load(Relaxed);
    let Some([start, end]) = PROTECTED.get(index) else {
        return false;
    };
    start.store(base, Relaxed);
    end.store(base.saturating_add(size), Relaxed);
    // Ordering: Release pairs with the Acquire in `is_mappable`.
    PROTECTED_COUNT.store(index + 1, Release);
    true
}

/// Sets the number of physical address bits.
pub fn set_physical_bits(bits: u32) {
    PHYSICAL_LIMIT.store(1 << bits.clamp(32, 52), Relaxed);
}

/// Whether all of `[at, at + len)` may be mapped for user level.
pub fn is_mappable(at: Phys, len: u64) -> bool {
    let Some(end) = at.0.checked_add(len) else {
        return false;
    };
    end <= PHYSICAL_LIMIT.load(Relaxed)
        && PROTECTED[..PROTECTED_COUNT.load(Acquire)]
            .iter()
            .all(|[start, stop]| end <= start.load(Relaxed) || at.0 >= stop.load(Relaxed))
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

/// Whether `addr` is that of one of the spaces that permit nothing.
pub fn is_denial(addr: u64) -> bool {
    no_ports().is_some_and(|s| s.addr() == addr) || no_msrs().is_some_and(|s| s.addr() == addr)
}
