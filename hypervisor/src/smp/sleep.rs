//! Sleep: an idle CPU that refers to nothing. [Rounds](super::everywhere) need not wake it: it has no translations of user spaces, no EC's
//! state, and is in no kernel code, so that what they wait for holds of it already.
//!
//! It sleeps and wakes by itself, at any time; that is the other half of the argument. Who asks, and who wakes, both modify the same word.
//! Either the CPU is found awake, and told; or it wakes later, and sees everything that was done before it was asked for.

use super::atomic::Atomic;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Whether a CPU sleeps: not 0.
#[derive(Default)]
#[repr(transparent)]
pub struct Sleep<A = AtomicU64>(A);

impl<A: Atomic> Sleep<A> {
    /// The CPU has let go of everything.
    pub fn begin(&self) {
        // Ordering: Release pairs with the Acquire in `lasts`: who finds it asleep sees what it has put into memory. A swap, so that
        // everything that happens to the word has one order.
        self.0.swap(1, Release);
    }

    /// The CPU is about to look at objects again, if it has slept: an interrupt has come, without which nothing is on its lists.
    #[inline(always)]
    pub fn end(&self) {
        if self.0.load(Relaxed) != 0 {
            // Ordering: Acquire pairs with the Release in `lasts` of everybody who has found it asleep: what they took away is gone. Each of
            // them modified the word, which continues the release sequences of those before.
            self.0.swap(0, Acquire);
        }
    }

    /// For other CPUs: whether it sleeps, now that this one has taken away what it must not find when it wakes.
    pub fn lasts(&self) -> bool {
        // Ordering: see `begin` and `end`. A load would let the CPU wake unseen, and see what was there before.
        self.0.fetch_or(0, AcqRel) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64 as Model;
    use loom::thread;

    /// What CPUs share: an object that is alive until it is 0, what the sleeper has put into it, and whether its memory is free.
    struct Machine {
        sleep: Sleep<Model>,
        alive: Model,
        state: Model,
        is_free: Model,
        quiescent: Model,
    }

    /// Destroys the object: waits for a CPU that is awake only.
    fn destroy(machine: &Machine) {
        machine.alive.store(0, Relaxed);
        if !machine.sleep.lasts() {
            while machine.quiescent.load(Acquire) == 0 {
                thread::yield_now();
            }
        }
        assert_eq!(machine.state.load(Relaxed), 1, "what a CPU had of it came back");
        machine.is_free.store(1, Relaxed);
    }

    #[test]
    fn who_wakes_finds_nothing_that_was_destroyed_while_it_slept() {
        for destroyers in 1..=2 {
            loom::model(move || {
                let machine = Arc::new(Machine {
                    sleep: Sleep(Model::new(0)),
                    alive: Model::new(1),
                    state: Model::new(0),
                    is_free: Model::new(0),
                    quiescent: Model::new(0),
                });
                let there = Arc::clone(&machine);
                let sleeper = thread::spawn(move || {
                    there.state.store(1, Relaxed);
                    there.sleep.begin();
                    there.sleep.end();
                    if there.alive.load(Relaxed) != 0 {
                        assert_eq!(there.is_free.load(Relaxed), 0, "it uses what is no more");
                    }
                    there.quiescent.store(1, Release);
                });
                let there = Arc::clone(&machine);
                let other = (destroyers == 2).then(|| thread::spawn(move || there.sleep.lasts()));
                destroy(&machine);
                sleeper.join().unwrap();
                other.map(|other| other.join().unwrap());
            });
        }
    }
}
