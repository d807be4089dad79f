//! Waiting, always with an end.

use crate::sys::context::NEVER;
use crate::sys::hypercall::{invoke, now};
use abi::cap::Sel;
use abi::hypercall::SmDown;
use abi::status::Status;

/// How long something may take that should happen at once. Emulation on a busy machine is slow.
const PATIENCE_MS: u64 = 20_000;

/// TSC ticks in so many microseconds.
pub fn ticks(us: u64) -> u64 {
    us * (runtime::sys::physical::information_page().tsc_hz / 1_000_000)
}

/// A deadline so many microseconds away.
pub fn after(us: u64) -> u64 {
    now() + ticks(us)
}

/// Waits for so many milliseconds.
pub fn pause(ms: u64) {
    // Times out, which is the point.
    let _timeout = down_until(NEVER, after(ms * 1000));
}

/// Downs a semaphore, up to a deadline: id and count.
///
/// # Errors
/// What the kernel says.
pub fn down_until(sm: Sel, deadline: u64) -> Result<[u64; 2], Status> {
    invoke(SmDown { sm, zero: false, deadline }.encode())
}

/// Downs a semaphore that is about to be upped.
///
/// # Errors
/// What the kernel says; `Timeout` means that the checks wait in vain.
pub fn down(sm: Sel) -> Result<[u64; 2], Status> {
    down_until(sm, after(PATIENCE_MS * 1000))
}

/// Takes from a semaphore without waiting.
///
/// # Errors
/// `Timeout` if there is nothing.
pub fn poll(sm: Sel) -> Result<[u64; 2], Status> {
    down_until(sm, 1)
}

/// Whether `condition` becomes true while others run.
pub fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let end = after(PATIENCE_MS * 1000);
    while !condition() {
        if now() > end {
            return false;
        }
        pause(1);
    }
    true
}

/// Leaves the CPU to others for a moment, in any domain.
pub fn pause_here() {
    let _timeout = down_until(NEVER, now() + SHORT);
}

/// TSC ticks of a moment: some ten microseconds.
const SHORT: u64 = 30_000;
