//! What an EC does, and who may change that.
//!
//! Its own CPU may, but while it wants or has a handler ([`crate::ipc`]): an EC that waits for its handler's reply is the
//! handler's CPU's to change, which is where that replies, is stopped, and ends. One that has yet to be served is nobody's: many CPUs
//! may follow call chains to it at the same time, to send its message, or because the portal or the handler is gone. Who is to
//! act [claims](claim) it.

use crate::smp::Atomic;
use core::sync::atomic::Ordering::{Acquire, Release};

/// State of an EC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum State {
    /// Continues as its frame says when a scheduling context gets to it.
    Runnable = 0,
    /// A local EC that waits for calls.
    Idle = 1,
    /// Waits until the handler of the portal `wanted` is idle, to send it a message.
    Calling = 2,
    /// The same, to send it an event.
    Raising = 3,
    /// Waits for the reply of `callee`.
    Waiting = 4,
    /// Waits at a semaphore.
    Blocked = 5,
    /// Stopped for good.
    Dead = 6,
    /// Was calling or raising; a CPU is about to make something else of it.
    Claimed = 7,
}

impl State {
    const ALL: [Self; 8] = {
        use State::*;
        [Runnable, Idle, Calling, Raising, Waiting, Blocked, Dead, Claimed]
    };

    /// The state with this number; there are no others.
    #[inline(always)]
    pub fn of(number: u64) -> Self {
        Self::ALL.get(number as usize).copied().unwrap_or(Self::Dead)
    }
}

/// Makes the EC with this state word the caller's to change, if it still is `from` and, now that nobody else changes it, `look` still
/// finds what the caller wants to act on. Until then it may have gone on, and be calling anew.
pub fn claim<T>(word: &impl Atomic, from: State, look: impl FnOnce() -> Option<T>) -> Option<T> {
    // Ordering: Acquire pairs with the Release with which it became `from`: what it wants.
    if !word.replace(from as u64, State::Claimed as u64, Acquire) {
        return None;
    }
    let found = look();
    if found.is_none() {
        // Ordering: Release pairs with the Acquire of the next claim.
        word.store(from as u64, Release);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering::Relaxed;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64 as Model;
    use loom::thread;

    #[test]
    fn states_have_their_numbers() {
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
        }
    }

    /// An EC that calls portal 1. Its frame is touched by whoever may change its state.
    struct Caller {
        state: Model,
        wanted: Model,
        frame: UnsafeCell<u64>,
        /// Portal 1 is there.
        alive: Model,
    }

    impl Caller {
        fn is(&self, state: State) -> bool {
            self.state.load(Acquire) == state as u64
        }

        fn become_(&self, state: State) {
            self.state.store(state as u64, Release);
        }

        fn touch(&self) {
            self.frame.with_mut(|_| ());
        }

        /// Whether it wants portal 1, and that is (not) there.
        fn wants(&self, alive: u64) -> Option<()> {
            (self.wanted.load(Relaxed) == 1 && self.alive.load(Relaxed) == alive).then_some(())
        }

        /// Claims it if it looks so, and then still does.
        fn claim(&self, alive: u64) -> bool {
            self.is(State::Calling)
                && self.wants(alive).is_some()
                && claim(&self.state, State::Calling, || self.wants(alive)).is_some()
        }

        /// On the handler's CPU: sends its message.
        fn send(&self) -> bool {
            let sends = self.claim(1);
            if sends {
                self.touch();
                self.become_(State::Waiting);
            }
            sends
        }

        /// On another CPU: lets it go on without the portal. It does, by another call or by waiting for something else.
        fn abort(&self, then: State) -> bool {
            let aborts = self.claim(0);
            if aborts {
                self.touch();
                self.become_(State::Runnable);
                self.touch();
                self.wanted.store(2, Relaxed);
                self.become_(then);
            }
            aborts
        }
    }

    #[test]
    fn a_call_is_sent_or_aborted() {
        for then in [State::Blocked, State::Calling] {
            loom::model(move || {
                let caller = Arc::new(Caller {
                    state: Model::new(State::Calling as u64),
                    wanted: Model::new(1),
                    frame: UnsafeCell::new(0),
                    alive: Model::new(1),
                });
                let there = [(); 2].map(|()| Arc::clone(&caller));
                let [sender, aborter] = there;
                let sender = thread::spawn(move || sender.send());
                let aborter = thread::spawn(move || aborter.abort(then));
                caller.alive.store(0, Relaxed);
                let (sent, aborted) = (sender.join().unwrap(), aborter.join().unwrap());
                assert!(!(sent && aborted));
                let end = if sent { State::Waiting } else { then };
                assert!(caller.is(if sent || aborted { end } else { State::Calling }), "{sent} {aborted}");
            });
        }
    }
}
