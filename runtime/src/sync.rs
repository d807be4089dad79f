//! Mutual exclusion between threads.

use abi::cap::Sel;

use crate::semaphore;
use crate::sys::lock::{Parking, RawLock};

/// A mutual-exclusion lock. It costs a kernel object only once somebody had to wait for it.
pub type Mutex<T> = lock_api::Mutex<RawLock<Semaphores>, T>;
/// Access to what a [`Mutex`] protects.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawLock<Semaphores>, T>;

/// Waiting on the kernel's semaphores.
#[derive(Debug)]
pub struct Semaphores;

/// How long to wait when the account cannot pay for a semaphore.
const PAUSE_US: u64 = 100;

impl Parking for Semaphores {
    fn create() -> Option<Sel> {
        semaphore::create(0).ok()
    }
    fn discard(made: Sel) {
        semaphore::discard(made);
    }
    fn wait(on: Sel) {
        // A spurious return is harmless: the lock checks its state again.
        let _woken = semaphore::down(on);
    }
    fn wake(on: Sel) {
        // The counter cannot overflow: it counts the waiters woken and not yet running.
        let _done = semaphore::up(on);
    }
    fn pause() {
        semaphore::sleep_us(PAUSE_US);
    }
}

/// A lock for what semaphores are made with: who has to wait for it looks again after a pause.
pub(crate) type PausingMutex<T> = lock_api::Mutex<RawLock<Pauses>, T>;

/// Waiting by pauses only.
#[derive(Debug)]
pub(crate) struct Pauses;

impl Parking for Pauses {
    fn create() -> Option<Sel> {
        None
    }
    fn discard(_made: Sel) {}
    fn wait(_on: Sel) {}
    fn wake(_on: Sel) {}
    fn pause() {
        semaphore::sleep_us(PAUSE_US);
    }
}
