//! Exceptions of guests that exit, with either vendor.

pub use crate::arch::entry::vector::{ALIGNMENT_CHECK, DEBUG, MACHINE_CHECK};
/// Which guests run with whatever they set, where that can be had: a machine check without it is a shutdown.
pub use crate::arch::features::CR4_MCE;
use crate::arch::{machine_check as check, percpu};
use crate::mem::Object;

/// Those that exit, a bit each: what a guest could raise in an endless chain during delivery, so that no interrupt of the host got
/// through, which is delivered by injection; and machine checks, which are the host's.
pub const INTERCEPTED: u64 = 1 << DEBUG | 1 << ALIGNMENT_CHECK | 1 << MACHINE_CHECK;

/// A machine check while the current vCPU ran, or was about to. Nobody can tell what of the host it has damaged.
#[cold]
pub fn machine_check() -> ! {
    let ec = percpu::current().current().map_or(0, Object::id);
    check::report(format_args!("in the guest of EC {ec}"))
}
