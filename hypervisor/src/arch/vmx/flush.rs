//! When translations are flushed (SDM vol. 3, 29.4.3). Linear ones are tagged with the vCPU's VPID, guest-physical ones with the root of
//! the guest space, combined ones with both.

use super::{caps, ept};
use crate::arch::tags::Next;
use core::arch::asm;

/// What to flush before an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flush {
    /// Linear and combined translations of all VPIDs.
    pub every_tag: bool,
    /// Guest-physical and combined translations of the guest space.
    pub space: bool,
}

/// What an entry with this tag needs; the vCPU last ran with the guest space's generation `seen`, which is `now`.
#[inline(always)]
pub fn needed(next: Next, seen: u64, now: u64) -> Flush {
    Flush { every_tag: next.flush_all, space: seen != now }
}

/// INVEPT types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
enum Invept {
    Single = 1,
    All = 2,
}

fn invept_type(capabilities: u64) -> Invept {
    if capabilities & ept::capability::INVEPT_SINGLE != 0 { Invept::Single } else { Invept::All }
}

/// INVVPID of all contexts.
const INVVPID_ALL: u64 = 2;

impl Flush {
    /// Flushes on this CPU. `pointer` is the EPT pointer of the guest space.
    #[cold]
    pub fn perform(self, pointer: u64) {
        if self.every_tag && caps::has_vpid() {
            invvpid();
        }
        if self.space {
            invept(invept_type(caps::ept()), pointer);
        }
    }
}

/// Flushes all translations that guests may have on this CPU.
pub fn everything() {
    if caps::has_vpid() {
        invvpid();
    }
    if caps::ept() & ept::capability::INVEPT_ALL != 0 {
        invept(Invept::All, 0);
    }
}

fn invvpid() {
    let descriptor = [0u64; 2];
    // SAFETY: the processor has this type (`caps::has_vpid`); flushing translations does not change what memory holds.
    unsafe { asm!("invvpid {}, [{}]", in(reg) INVVPID_ALL, in(reg) &descriptor, options(nostack)) };
}

fn invept(kind: Invept, pointer: u64) {
    let descriptor = [pointer, 0];
    // SAFETY: as for `invvpid`; the type is one that the processor has (`caps::read`).
    unsafe { asm!("invept {}, [{}]", in(reg) kind as u64, in(reg) &descriptor, options(nostack)) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::tags::model::{self, Cpu, op};
    use crate::arch::tags::{self, Tag};
    use proptest::prelude::*;

    #[test]
    fn each_change_is_followed_by_its_flush() {
        let held = Tag { number: 4, generation: 2 };
        let last = Tag { number: 4, generation: 2 };
        let kept = tags::next(held, last, 8);
        let none = Flush { every_tag: false, space: false };
        assert_eq!(needed(kept, 7, 7), none);
        assert_eq!(needed(kept, 7, 8), Flush { space: true, ..none });
        // Never ran in this space.
        assert_eq!(needed(kept, 0, 1), Flush { space: true, ..none });
        // A new tag alone has no translations.
        let fresh = tags::next(Tag { generation: 0, ..held }, last, 8);
        assert_eq!(needed(fresh, 7, 7), none);
        let wrapped = tags::next(Tag { generation: 0, ..held }, last, 5);
        assert_eq!(needed(wrapped, 7, 7), Flush { every_tag: true, space: false });
        assert_eq!(needed(wrapped, 7, 9), Flush { every_tag: true, space: true });
    }

    #[test]
    fn one_context_if_the_processor_can() {
        use ept::capability::{INVEPT_ALL, INVEPT_SINGLE};
        assert_eq!(invept_type(INVEPT_SINGLE | INVEPT_ALL), Invept::Single);
        assert_eq!(invept_type(INVEPT_ALL), Invept::All);
    }

    /// A translation in the model's TLB, with the facts it was made from.
    #[derive(Clone, Copy, Debug)]
    struct Entry {
        tag: u64,
        vcpu: usize,
        wishes: u64,
        space: usize,
        generation: u64,
        /// Guest-physical translations have no tag.
        combined: bool,
    }

    proptest! {
        #[test]
        fn no_entry_meets_a_stale_translation(ops in proptest::collection::vec(op(), 1..200), count in 2u64..5) {
            let mut cpu = Cpu::new();
            let mut tlb: Vec<Entry> = Vec::new();
            for model::Entry { vcpu, space, next, seen, now, wishes } in ops.into_iter().filter_map(|op| cpu.step(op, count)) {
                let flush = needed(next, seen, now);
                tlb.retain(|e| !(flush.every_tag && e.combined || flush.space && e.space == space));
                for e in tlb.iter().filter(|e| e.space == space) {
                    if !e.combined || e.tag == next.tag.number {
                        prop_assert_eq!(e.generation, now);
                    }
                    if e.combined && e.tag == next.tag.number {
                        prop_assert_eq!((e.vcpu, e.wishes), (vcpu, wishes));
                    }
                }
                for combined in [false, true] {
                    tlb.push(Entry { tag: next.tag.number, vcpu, wishes, space, generation: now, combined });
                }
            }
        }
    }
}
