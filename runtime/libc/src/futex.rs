//! Futexes, futex(2): what `std` builds its locks from. One queue of waiters, each with a semaphore.

use alloc::collections::VecDeque;

/// Who waits where, in the order of coming. `S` names what a waiter waits on.
struct Queue<S> {
    waiters: VecDeque<(usize, S)>,
}

impl<S: Copy + PartialEq> Queue<S> {
    const fn new() -> Self {
        Self { waiters: VecDeque::new() }
    }

    fn push(&mut self, address: usize, semaphore: S) {
        self.waiters.push_back((address, semaphore));
    }

    /// Takes out the first who waits at an address.
    fn take(&mut self, address: usize) -> Option<S> {
        let index = self.waiters.iter().position(|(at, _)| *at == address)?;
        self.waiters.remove(index).map(|(_, semaphore)| semaphore)
    }

    /// Takes out one who gives up; false if it was taken out before.
    fn cancel(&mut self, semaphore: S) -> bool {
        let index = self.waiters.iter().position(|(_, waiter)| *waiter == semaphore);
        index.is_some_and(|index| self.waiters.remove(index).is_some())
    }
}

#[cfg(kilonova)]
mod waiting {
    use alloc::vec::Vec;
    use core::ffi::{c_int, c_long};
    use core::sync::atomic::{AtomicU32, Ordering};

    use abi::cap::Sel;
    use libc::timespec;
    use runtime::semaphore;
    use runtime::sync::Mutex;

    use super::Queue;
    use crate::errno::fail;
    use crate::time;

    static QUEUE: Mutex<Queue<Sel>> = Mutex::new(Queue::new());
    /// Semaphores that nobody waits on, each with the count 0.
    static IDLE: Mutex<Vec<Sel>> = Mutex::new(Vec::new());

    /// How long to wait if the account cannot pay for a semaphore. Then it returns as if woken, which every user of
    /// futexes has to expect.
    const PAUSE_NS: u64 = 100_000;

    /// The system call.
    ///
    /// # Safety
    /// `word` is valid, and so is `timeout`, if the operation has one and it is not null.
    pub(crate) unsafe fn futex(
        word: *const AtomicU32,
        operation: c_int,
        value: u32,
        timeout: *const timespec,
        mask: u32,
    ) -> c_long {
        let kind = operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
        let all = mask == libc::FUTEX_BITSET_MATCH_ANY as u32;
        match kind {
            libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET if kind == libc::FUTEX_WAIT || all => {
                // SAFETY: `std` gives its own word, which it keeps until this returns, and whose type is that of an atomic;
                // `timeout` is null or on its stack.
                let (word, timeout) = unsafe { (&*word, timeout.as_ref()) };
                let deadline = match timeout.map(|timeout| time::deadline(timeout, kind == libc::FUTEX_WAIT_BITSET)) {
                    Some(None) => return fail(libc::EINVAL),
                    Some(deadline) => deadline,
                    None => None,
                };
                wait(word, value, deadline).map_or_else(fail, |()| 0)
            }
            libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET if kind == libc::FUTEX_WAKE || all => wake(word, value),
            _ => fail(libc::ENOSYS),
        }
    }

    /// Waits for a wake at a word if it has the expected value.
    fn wait(word: &AtomicU32, expected: u32, deadline: Option<u64>) -> Result<(), c_int> {
        let idle = IDLE.lock().pop();
        let Some(sm) = idle.or_else(|| semaphore::create(0).ok()) else {
            time::sleep_ns(PAUSE_NS);
            return Ok(());
        };
        let mut queue = QUEUE.lock();
        // Under the lock: whoever changes the word wakes after that, and then finds this waiter.
        let result = if word.load(Ordering::SeqCst) == expected {
            queue.push(word.as_ptr().addr(), sm);
            drop(queue);
            block(sm, deadline)
        } else {
            drop(queue);
            Err(libc::EAGAIN)
        };
        IDLE.lock().push(sm);
        result
    }

    fn block(sm: Sel, deadline: Option<u64>) -> Result<(), c_int> {
        let woken = match deadline {
            Some(deadline) => semaphore::down_until(sm, deadline),
            None => semaphore::down(sm),
        };
        if woken.is_ok() {
            return Ok(());
        }
        if QUEUE.lock().cancel(sm) {
            return Err(libc::ETIMEDOUT);
        }
        // Woken after the deadline. The wake was under the lock, so it is in the counter.
        semaphore::take_all(sm);
        Ok(())
    }

    /// Wakes some who wait at an address, and says how many.
    fn wake(word: *const AtomicU32, limit: u32) -> c_long {
        let mut queue = QUEUE.lock();
        let mut count = 0;
        while count < c_long::from(limit) {
            let Some(sm) = queue.take(word.addr()) else {
                break;
            };
            // It exists: semaphores are never destroyed.
            let _woken = semaphore::up(sm);
            count += 1;
        }
        count
    }
}

#[cfg(kilonova)]
pub(crate) use waiting::futex;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_are_woken_in_order_and_where_they_wait() {
        let mut queue = Queue::new();
        for (address, waiter) in [(8, 'a'), (16, 'b'), (8, 'c'), (8, 'd')] {
            queue.push(address, waiter);
        }
        assert!(queue.cancel('c'));
        assert_eq!([queue.take(8), queue.take(8), queue.take(8)], [Some('a'), Some('d'), None]);
        assert!(!queue.cancel('a'), "taken before");
        assert_eq!(queue.take(16), Some('b'));
    }
}
