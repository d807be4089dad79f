//! Exceptions of guests that exit, with either vendor.

pub use crate::arch::entry::vector::DEBUG;

/// Alignment check.
pub const ALIGNMENT_CHECK: u64 = 17;

/// Those that exit, a bit each: what a guest could raise in an endless chain during delivery, so that no interrupt of the host got
/// through. They are delivered by injection.
pub const INTERCEPTED: u64 = 1 << DEBUG | 1 << ALIGNMENT_CHECK;
