//! Tags of translations: SVM's ASIDs, VMX's VPIDs. Each CPU gives them out in increasing order; when all have been given, a
//! new generation begins with one flush of everything. So a tag that is new in its generation finds no
//! translations, and a vCPU that wants to be rid of its own just takes a new one.

use crate::cpu::Cpu;
use crate::frame::{Frame, Reg};

/// A tag and its generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// The number that the processor knows; never 0, which is the host's.
    pub number: u64,
    /// Generation; 0 for a vCPU that holds no tag.
    pub generation: u64,
}

/// What the next entry of a vCPU needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Next {
    /// Tag to use, now held by the vCPU.
    pub tag: Tag,
    /// Last tag that the CPU has given out.
    pub last: Tag,
    /// Translations of all tags must be flushed first.
    pub flush_all: bool,
}

/// The tag of a vCPU that holds `held`, on a CPU that gave out `last` and has tags below `count`.
#[inline(always)]
pub fn next(held: Tag, last: Tag, count: u64) -> Next {
    if held.generation == last.generation {
        return Next { tag: held, last, flush_all: false };
    }
    let is_last = last.number + 1 >= count;
    let tag =
        Tag { number: if is_last { 1 } else { last.number + 1 }, generation: last.generation + u64::from(is_last) };
    Next { tag, last: tag, flush_all: is_last }
}

/// Gives the vCPU with this frame the tag for its next entry on `cpu`.
pub fn take(cpu: &'static Cpu, frame: Frame, count: u64) -> Next {
    let held = Tag { number: frame.get(Reg::Asid), generation: frame.get(Reg::AsidGeneration) };
    let last = Tag { number: cpu.asid.get(), generation: cpu.asid_generation.get() };
    let next = next(held, last, count);
    cpu.asid.set(next.last.number);
    cpu.asid_generation.set(next.last.generation);
    frame.set(Reg::Asid, next.tag.number);
    frame.set(Reg::AsidGeneration, next.tag.generation);
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VCPUS: usize = 5;

    #[derive(Clone, Copy, Debug)]
    enum Op {
        /// A vCPU is entered and leaves translations behind.
        Enter(usize),
        /// A vCPU wants its translations flushed.
        Forget(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..VCPUS).prop_map(Op::Enter),
            1 => (0..VCPUS).prop_map(Op::Forget),
        ]
    }

    proptest! {
        /// A TLB that keeps everything until it is told otherwise. Its entries are: who made it, and how often that vCPU had
        /// wanted a flush by then.
        #[test]
        fn no_vcpu_meets_foreign_or_stale_translations(ops in proptest::collection::vec(op(), 1..200), count in 2u64..6) {
            let none = Tag { number: 0, generation: 0 };
            let (mut held, mut wishes) = ([none; VCPUS], [0; VCPUS]);
            let mut last = Tag { number: 0, generation: 1 };
            let mut tlb: Vec<(u64, usize, u64)> = Vec::new();
            for op in ops {
                match op {
                    Op::Forget(vcpu) => {
                        held[vcpu].generation = 0;
                        wishes[vcpu] += 1;
                    }
                    Op::Enter(vcpu) => {
                        let next = next(held[vcpu], last, count);
                        prop_assert!((1..count.max(2)).contains(&next.tag.number));
                        if next.flush_all {
                            tlb.clear();
                        }
                        (held[vcpu], last) = (next.tag, next.last);
                        for &(tag, owner, age) in &tlb {
                            prop_assert!(tag != next.tag.number || (owner, age) == (vcpu, wishes[vcpu]));
                        }
                        tlb.push((next.tag.number, vcpu, wishes[vcpu]));
                    }
                }
            }
        }
    }

    #[test]
    fn a_vcpu_keeps_its_tag_and_flushes_are_rare() {
        let held = Tag { number: 3, generation: 7 };
        let last = Tag { number: 9, generation: 7 };
        assert_eq!(next(held, last, 16), Next { tag: held, last, flush_all: false });
        let new = next(Tag { number: 3, generation: 6 }, last, 16);
        assert_eq!((new.tag.number, new.flush_all), (10, false));
        let wrapped = next(Tag { number: 3, generation: 6 }, last, 10);
        assert_eq!((wrapped.tag, wrapped.flush_all), (Tag { number: 1, generation: 8 }, true));
    }
}

/// What happens to translations of vCPUs, for model tests of what each vendor flushes.
#[cfg(test)]
pub(super) mod model {
    use super::{Next, Tag, next};
    use proptest::prelude::*;

    pub const VCPUS: usize = 4;
    pub const SPACES: usize = 2;

    #[derive(Clone, Copy, Debug)]
    pub enum Op {
        /// A vCPU is entered.
        Enter(usize),
        /// A vCPU wants its translations flushed.
        Forget(usize),
        /// A space loses translations.
        Unmap(usize),
    }

    pub fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..VCPUS).prop_map(Op::Enter),
            1 => (0..VCPUS).prop_map(Op::Forget),
            1 => (0..SPACES).prop_map(Op::Unmap),
        ]
    }

    /// An entry of a vCPU.
    pub struct Entry {
        pub vcpu: usize,
        pub space: usize,
        pub next: Next,
        /// Generation of its space at its last entry, and now.
        pub seen: u64,
        pub now: u64,
        /// How often it has wanted a flush.
        pub wishes: u64,
    }

    /// The vCPUs and spaces of a CPU.
    pub struct Cpu {
        held: [Tag; VCPUS],
        wishes: [u64; VCPUS],
        seen: [u64; VCPUS],
        last: Tag,
        generations: [u64; SPACES],
    }

    impl Cpu {
        pub const fn new() -> Self {
            let none = Tag { number: 0, generation: 0 };
            let last = Tag { number: 0, generation: 1 };
            Self { held: [none; VCPUS], wishes: [0; VCPUS], seen: [0; VCPUS], last, generations: [1; SPACES] }
        }

        /// Does it, with `count` tags. What is entered, if something is.
        pub fn step(&mut self, op: Op, count: u64) -> Option<Entry> {
            match op {
                Op::Forget(vcpu) => {
                    self.held[vcpu].generation = 0;
                    self.wishes[vcpu] += 1;
                    None
                }
                Op::Unmap(space) => {
                    self.generations[space] += 1;
                    None
                }
                Op::Enter(vcpu) => {
                    let space = vcpu % SPACES;
                    let (next, seen, now) =
                        (next(self.held[vcpu], self.last, count), self.seen[vcpu], self.generations[space]);
                    (self.held[vcpu], self.last, self.seen[vcpu]) = (next.tag, next.last, now);
                    Some(Entry { vcpu, space, next, seen, now, wishes: self.wishes[vcpu] })
                }
            }
        }
    }
}
