//! Mutual exclusion between threads.

use abi::cap::Sel;

use crate::semaphore;
use crate::sys::lock::{Parking, RawLock};

/// A mutual-exclusion lock. It costs a kernel object only once somebody had to wait for it.
pub type Mutex<T> = lock_api::Mutex<RawLock<Semaphores>, T>;

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
