//! Semaphores of this component: waiting for one thing.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::cap::Sel;
use abi::hypercall::{CreateSm, SmDown};
use abi::session::initial;
use abi::status::Status;

use crate::selector;
use crate::sys::{start, syscall, tsc};

/// A semaphore that nobody ups: waiting on it with a deadline is sleeping.
static NEVER_UPPED: AtomicU64 = AtomicU64::new(Sel::NONE.0);

/// Makes a semaphore that is nobody's member.
///
/// # Errors
/// The account cannot pay, or no selector is free.
pub fn create(count: u64) -> Result<Sel, Status> {
    create_member(count, Sel::NONE, 0)
}

/// Makes a semaphore that is a member of `receiver`, with an id.
///
/// # Errors
/// As [`create`].
pub fn create_member(count: u64, receiver: Sel, id: u64) -> Result<Sel, Status> {
    let dst = selector::allocate().ok_or(Status::OutOfMemory)?;
    let create = CreateSm { dst, pd: initial::PD, count, receiver, id };
    match syscall::create_sm(create) {
        Ok(_) => Ok(dst),
        Err(status) => {
            selector::free(dst);
            Err(status)
        }
    }
}

/// Destroys a semaphore and frees its selector.
pub fn discard(sm: Sel) {
    // It can fail only if there is none, and then there is nothing to do.
    let _gone = syscall::destroy(sm);
    syscall::remove(sm);
    selector::free(sm);
}

/// Ups a semaphore.
///
/// # Errors
/// The selector names none, or its counter would overflow.
pub fn up(sm: Sel) -> Result<(), Status> {
    syscall::sm_up(sm)
}

/// Takes one, or waits until that is possible.
///
/// # Errors
/// The selector names no semaphore.
pub fn down(sm: Sel) -> Result<(), Status> {
    syscall::sm_down(SmDown { sm, zero: false, deadline: SmDown::FOREVER }).map(|_| ())
}

/// Takes one, waiting until a deadline in TSC ticks at most.
///
/// # Errors
/// [`Status::Timeout`] if the deadline has passed; the selector names no semaphore.
pub fn down_until(sm: Sel, deadline: u64) -> Result<(), Status> {
    syscall::sm_down(SmDown { sm, zero: false, deadline }).map(|_| ())
}

/// Takes all there is without waiting, and says how many.
pub fn take_all(sm: Sel) -> u64 {
    const PASSED: u64 = 1;
    syscall::sm_down(SmDown { sm, zero: true, deadline: PASSED }).map_or(0, |values| values.r8)
}

/// Blocks the calling thread for some microseconds.
pub fn sleep_us(us: u64) {
    sleep_until(tsc::now().saturating_add(tsc::from_us(us)));
}

/// Blocks the calling thread until a deadline in TSC ticks, which is not 0.
pub fn sleep_until(deadline: u64) {
    let sm = Sel(NEVER_UPPED.load(Ordering::Relaxed));
    // It ends by the deadline only.
    let _timeout = down_until(sm, deadline);
}

/// Blocks the calling thread for good.
pub fn sleep_forever() -> ! {
    let sm = Sel(NEVER_UPPED.load(Ordering::Relaxed));
    while down(sm).is_ok() {}
    // Something is wrong before `initialise`, or with it.
    start::fault()
}

/// Makes what sleeping needs, at startup.
///
/// # Errors
/// As [`create`].
#[cfg(kilonova)]
pub(crate) fn initialise() -> Result<(), Status> {
    NEVER_UPPED.store(create(0)?.0, Ordering::Relaxed);
    Ok(())
}
