//! The lock below [`Mutex`](crate::sync::Mutex): one atomic word, and a semaphore once there is contention.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::cap::Sel;

/// How a context waits and is woken.
pub trait Parking {
    /// Makes something to wait on; `None` if that is not possible now.
    fn create() -> Option<Sel>;
    /// Gives back what another context made at the same time.
    fn discard(made: Sel);
    /// Waits for a wake, which may have come already.
    fn wait(on: Sel);
    /// Wakes one context that waits, or will.
    fn wake(on: Sel);
    /// Waits a short time.
    fn pause();
}

const FREE: u32 = 0;
const LOCKED: u32 = 1;
/// Locked, and somebody may be waiting.
const CONTENDED: u32 = 2;

/// A lock without content.
#[derive(Debug)]
pub struct RawLock<P> {
    state: AtomicU32,
    parking: AtomicU64,
    kind: core::marker::PhantomData<fn() -> P>,
}

impl<P: Parking> RawLock<P> {
    /// A free lock.
    pub const fn new() -> Self {
        Self { state: AtomicU32::new(FREE), parking: AtomicU64::new(Sel::NONE.0), kind: core::marker::PhantomData }
    }

    /// Takes the lock.
    #[inline]
    pub fn acquire(&self) {
        if !self.try_acquire() {
            self.acquire_contended();
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        // Acquire pairs with the release in `release`.
        self.state.compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives the lock back.
    #[inline]
    pub fn release(&self) {
        // Release pairs with the acquires above. If a waiter made this word `CONTENDED` it stored `parking` before,
        // which the acquire half makes visible here.
        if self.state.swap(FREE, Ordering::AcqRel) == CONTENDED {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let parking = Sel(self.parking.load(Ordering::Relaxed));
        if parking != Sel::NONE {
            P::wake(parking);
        }
    }

    /// What to wait on must be in place before the state says that somebody waits: the holder wakes only once.
    #[cold]
    fn acquire_contended(&self) {
        let parking = self.parking();
        while self.state.swap(CONTENDED, Ordering::AcqRel) != FREE {
            match parking {
                Some(parking) => P::wait(parking),
                None => P::pause(),
            }
        }
    }

    fn parking(&self) -> Option<Sel> {
        let present = Sel(self.parking.load(Ordering::Relaxed));
        if present != Sel::NONE {
            return Some(present);
        }
        let made = P::create()?;
        match self.parking.compare_exchange(Sel::NONE.0, made.0, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Some(made),
            Err(theirs) => {
                P::discard(made);
                Some(Sel(theirs))
            }
        }
    }
}

impl<P: Parking> Default for RawLock<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Drop for RawLock<P> {
    fn drop(&mut self) {
        let parking = Sel(*self.parking.get_mut());
        if parking != Sel::NONE {
            crate::semaphore::discard(parking);
        }
    }
}

// SAFETY: only one context gets from `FREE` to another state at a time, and only the holder goes back.
unsafe impl<P: Parking> lock_api::RawMutex for RawLock<P> {
    #[allow(clippy::declare_interior_mutable_const, reason = "the trait wants a constant")]
    const INIT: Self = Self::new();
    type GuardMarker = lock_api::GuardSend;

    fn lock(&self) {
        self.acquire();
    }
    fn try_lock(&self) -> bool {
        self.try_acquire()
    }
    unsafe fn unlock(&self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Condvar, Mutex, PoisonError};
    use std::vec::Vec;

    /// Semaphores of the host: counters behind one condition variable.
    static COUNTERS: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    static CHANGED: Condvar = Condvar::new();

    struct HostParking<const CAN_CREATE: bool>;

    impl<const CAN_CREATE: bool> Parking for HostParking<CAN_CREATE> {
        fn create() -> Option<Sel> {
            let mut counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
            counters.push(0);
            CAN_CREATE.then(|| Sel(counters.len() as u64 - 1))
        }
        fn discard(_: Sel) {}
        fn wait(on: Sel) {
            let mut counters = COUNTERS.lock().unwrap();
            while counters[on.0 as usize] == 0 {
                counters = CHANGED.wait(counters).unwrap();
            }
            counters[on.0 as usize] -= 1;
        }
        fn wake(on: Sel) {
            COUNTERS.lock().unwrap()[on.0 as usize] += 1;
            CHANGED.notify_all();
        }
        fn pause() {
            std::thread::yield_now();
        }
    }

    fn no_update_is_lost<P: Parking + 'static>() {
        const THREADS: u64 = 4;
        const ROUNDS: u64 = 5000;
        let counter = Arc::new(lock_api::Mutex::<RawLock<P>, u64>::new(0));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || {
                    for _ in 0..ROUNDS {
                        let mut value = counter.lock();
                        let before = *value;
                        std::hint::spin_loop();
                        *value = before + 1;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*counter.lock(), THREADS * ROUNDS);
    }

    #[test]
    fn contexts_exclude_each_other() {
        no_update_is_lost::<HostParking<true>>();
    }

    #[test]
    fn contexts_exclude_each_other_without_semaphores() {
        no_update_is_lost::<HostParking<false>>();
    }
}
