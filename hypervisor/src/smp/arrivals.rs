//! What other CPUs hand over: a list that any CPU may push to and one takes whole, linked through the objects themselves.

use super::atomic::Atomic;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The one pushed last, as the address of an object; 0: empty.
#[derive(Default)]
#[repr(transparent)]
pub struct Arrivals<A = AtomicU64>(A);

impl<A: Atomic> Arrivals<A> {
    /// Adds `object`, which is on no such list; `link` makes it refer to another one, or to nothing.
    pub fn push(&self, object: u64, link: impl Fn(u64)) {
        loop {
            let last = self.0.load(Relaxed);
            link(last);
            // Ordering: Release pairs with the Acquire in `take`: the link, and all that was done to the object.
            if self.0.replace(last, object, Release) {
                return;
            }
        }
    }

    /// Empties the list. The one pushed last.
    pub fn take(&self) -> u64 {
        // Ordering: Acquire, see `push`. Later pushes continue the release sequence of earlier ones.
        self.0.swap(0, Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64 as Model;
    use loom::thread;

    #[test]
    fn everything_arrives_once_and_in_order_of_its_sender() {
        loom::model(|| {
            // Objects 1 to 3; 1 and 2 are sent by the same CPU.
            let list = Arc::new(Arrivals(Model::new(0)));
            let links = Arc::new([0; 4].map(|_| Model::new(99)));
            let senders = [&[1, 2][..], &[3]].map(|objects| {
                let (list, links) = (Arc::clone(&list), Arc::clone(&links));
                thread::spawn(move || {
                    objects.iter().for_each(|&o| list.push(o, |next| links[o as usize].store(next, Relaxed)));
                })
            });
            let mut seen = Vec::new();
            let mut collect = || {
                let mut at = list.take();
                let mut taken = Vec::new();
                while at != 0 {
                    taken.push(at);
                    at = links[at as usize].load(Relaxed);
                }
                seen.extend(taken.into_iter().rev());
            };
            collect();
            for sender in senders {
                sender.join().unwrap();
            }
            collect();
            assert!(seen.iter().position(|&o| o == 1) < seen.iter().position(|&o| o == 2), "{seen:?}");
            seen.sort_unstable();
            assert_eq!(seen, [1, 2, 3]);
        });
    }
}
