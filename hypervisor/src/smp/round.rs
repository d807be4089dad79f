//! A round: one CPU asks all others to perform an operation and waits until all have. Any number of CPUs may do so at the same
//! time, and who waits performs what others ask for. There is no lock and no order between rounds, so
//! each takes as long as the slowest CPU needs to look at its requests, and nobody can be kept waiting by those who ask more often.

use super::atomic::Atomic;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Words of a set of CPUs.
const WORDS: usize = abi::hip::MAX_CPUS.div_ceil(64);

/// The CPUs that ask a CPU to perform their operation. All zero: none.
#[repr(transparent)]
pub struct Requests<A = AtomicU64, const N: usize = WORDS>([A; N]);

impl<A: Atomic, const N: usize> Requests<A, N> {
    /// Adds CPU `from`, whose operation is written down. Whether the CPU must be told to look: if not, somebody else tells it.
    pub fn add(&self, from: u64) -> bool {
        // Ordering: Release pairs with the swap in `take`: who sees the request sees the operation.
        self.0[from as usize / 64].fetch_or(1 << (from % 64), Release) == 0
    }

    /// Takes all requests and calls `perform` with each CPU that asks. Most often there are none: CPUs interrupt each other for
    /// other reasons.
    #[inline(always)]
    pub fn take(&self, perform: impl FnMut(u64)) {
        if self.0.iter().any(|word| word.load(Relaxed) != 0) {
            self.take_some(perform);
        }
    }

    #[cold]
    #[inline(never)]
    fn take_some(&self, mut perform: impl FnMut(u64)) {
        for (word, first) in self.0.iter().zip((0..).step_by(64)) {
            // Ordering: Acquire, see `add`. Others' additions to the word since continue the release sequence of each.
            let mut bits = word.swap(0, Acquire);
            while bits != 0 {
                perform(first + u64::from(bits.trailing_zeros()));
                bits &= bits - 1;
            }
        }
    }
}

/// How many CPUs have yet to perform a CPU's operation.
#[derive(Default)]
#[repr(transparent)]
pub struct Missing<A = AtomicU64>(A);

impl<A: Atomic> Missing<A> {
    /// A round of `count` others begins.
    pub fn begin(&self, count: u64) {
        self.0.store(count, Relaxed);
    }

    /// A CPU has performed the operation, and left whatever it was in before.
    pub fn performed(&self) {
        // Ordering: Release pairs with the Acquire in `none`; AcqRel for those who come after.
        self.0.fetch_sub(1, AcqRel);
    }

    /// Whether all have: what they did is visible then.
    pub fn none(&self) -> bool {
        self.0.load(Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64 as Model;
    use loom::thread;

    /// A CPU: who asks it, its own operation (a number that is not 0), who has yet to perform that, and the last one it performed
    /// for each CPU.
    struct Cpu {
        requests: Requests<Model, 1>,
        missing: Missing<Model>,
        operation: Model,
        performed: Vec<Model>,
    }

    fn machine(count: usize) -> Arc<Vec<Cpu>> {
        let cpu = |_| Cpu {
            requests: Requests([Model::new(0)]),
            missing: Missing(Model::new(0)),
            operation: Model::new(0),
            performed: (0..count).map(|_| Model::new(0)).collect(),
        };
        Arc::new((0..count).map(cpu).collect())
    }

    fn serve(machine: &[Cpu], me: usize) {
        machine[me].requests.take(|from| {
            let from = &machine[from as usize];
            let index = machine.iter().position(|cpu| std::ptr::eq(cpu, from)).unwrap();
            let before = machine[me].performed[index].load(Relaxed);
            let operation = from.operation.load(Relaxed);
            assert_eq!(operation, before + 1, "performed once each, and as it was written down");
            machine[me].performed[index].store(operation, Relaxed);
            from.missing.performed();
        });
    }

    /// Begins round number `number` of CPU `me`, with `others`.
    fn ask(machine: &[Cpu], me: usize, others: std::ops::Range<usize>, number: u64) {
        machine[me].operation.store(number, Relaxed);
        machine[me].missing.begin(others.len() as u64);
        for other in others {
            machine[other].requests.add(me as u64);
        }
    }

    /// The whole round.
    fn everywhere(machine: &[Cpu], me: usize, others: std::ops::Range<usize>, number: u64) {
        ask(machine, me, others.clone(), number);
        while !machine[me].missing.none() {
            serve(machine, me);
            thread::yield_now();
        }
        for other in others {
            assert_eq!(machine[other].performed[me].load(Relaxed), number, "all have performed it");
        }
    }

    /// Looks at its requests until it has performed the operations of `askers`.
    fn bystander(machine: &[Cpu], me: usize, askers: std::ops::Range<usize>) {
        while askers.clone().any(|asker| machine[me].performed[asker].load(Relaxed) == 0) {
            serve(machine, me);
            thread::yield_now();
        }
    }

    fn explore(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(model);
    }

    #[test]
    fn two_cpus_that_ask_each_other_both_finish() {
        explore(|| {
            let machine = machine(2);
            let there = Arc::clone(&machine);
            let other = thread::spawn(move || {
                everywhere(&there, 1, 0..1, 1);
                // This one has what it wants, the other one may still wait.
                bystander(&there, 1, 0..1);
            });
            everywhere(&machine, 0, 1..2, 1);
            bystander(&machine, 0, 1..2);
            other.join().unwrap();
        });
    }

    #[test]
    fn a_word_is_reused_for_the_next_round_only_when_all_have_read_it() {
        explore(|| {
            let machine = machine(2);
            let there = Arc::clone(&machine);
            let other = thread::spawn(move || {
                while there[1].performed[0].load(Relaxed) < 2 {
                    serve(&there, 1);
                    thread::yield_now();
                }
            });
            everywhere(&machine, 0, 1..2, 1);
            everywhere(&machine, 0, 1..2, 2);
            other.join().unwrap();
        });
    }

    #[test]
    fn two_that_ask_a_third_one_are_both_served() {
        explore(|| {
            let machine = machine(3);
            let askers = [0, 1].map(|me| {
                let there = Arc::clone(&machine);
                thread::spawn(move || ask(&there, me, 2..3, 1))
            });
            bystander(&machine, 2, 0..2);
            askers.into_iter().for_each(|asker| asker.join().unwrap());
            assert!(machine[0].missing.none() && machine[1].missing.none());
        });
    }

    #[test]
    fn only_the_first_request_needs_an_interrupt() {
        explore(|| {
            let requests = Requests::<Model, 4>(std::array::from_fn(|_| Model::new(0)));
            assert!(requests.add(3) && !requests.add(5) && requests.add(200));
            let mut seen = Vec::new();
            requests.take(|from| seen.push(from));
            assert_eq!(seen, [3, 5, 200]);
            assert!(requests.add(5));
        });
    }
}
