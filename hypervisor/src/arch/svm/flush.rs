//! When translations are flushed (APM vol. 2, 15.16). All that an ASID has, of linear and of guest-physical addresses, is its vCPU's.

/// TLB_CONTROL (APM vol. 2, 15.16.2).
mod tlb {
    pub const KEEP: u64 = 0;
    pub const FLUSH_ALL: u64 = 1;
    pub const FLUSH_ASID: u64 = 3;
}

/// What an entry flushes whose ASID may be the first of a new generation (`all`); the vCPU last ran with the guest space's
/// generation `seen`, which is `now`. `by_asid`: the processor can flush one ASID.
pub fn needed(all: bool, seen: u64, now: u64, by_asid: bool) -> u64 {
    match (all, seen != now) {
        (true, _) => tlb::FLUSH_ALL,
        (false, true) if by_asid => tlb::FLUSH_ASID,
        (false, true) => tlb::FLUSH_ALL,
        (false, false) => tlb::KEEP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::tags::{Tag, next};
    use proptest::prelude::*;

    #[test]
    fn each_change_is_followed_by_its_flush() {
        assert_eq!(needed(false, 7, 7, true), tlb::KEEP);
        assert_eq!([true, false].map(|by_asid| needed(false, 7, 8, by_asid)), [tlb::FLUSH_ASID, tlb::FLUSH_ALL]);
        assert_eq!([true, false].map(|by_asid| needed(true, 7, 7, by_asid)), [tlb::FLUSH_ALL; 2]);
    }

    const VCPUS: usize = 4;
    const SPACES: usize = 2;

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Enter(usize),
        /// The vCPU wants its translations flushed.
        Forget(usize),
        Unmap(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..VCPUS).prop_map(Op::Enter),
            1 => (0..VCPUS).prop_map(Op::Forget),
            1 => (0..SPACES).prop_map(Op::Unmap),
        ]
    }

    proptest! {
        /// A TLB that keeps everything until it is told otherwise. Its entries are: ASID, vCPU, how often that vCPU had wanted a
        /// flush by then, and the generation of its space.
        #[test]
        fn no_entry_meets_a_stale_translation(
            ops in proptest::collection::vec(op(), 1..200), count in 2u64..5, by_asid: bool,
        ) {
            let none = Tag { number: 0, generation: 0 };
            let (mut held, mut wishes, mut seen) = ([none; VCPUS], [0; VCPUS], [0; VCPUS]);
            let mut last = Tag { number: 0, generation: 1 };
            let mut generations = [1; SPACES];
            let mut translations: Vec<(u64, usize, u64, u64)> = Vec::new();
            for op in ops {
                let vcpu = match op {
                    Op::Forget(vcpu) => {
                        held[vcpu].generation = 0;
                        wishes[vcpu] += 1;
                        continue;
                    }
                    Op::Unmap(space) => {
                        generations[space] += 1;
                        continue;
                    }
                    Op::Enter(vcpu) => vcpu,
                };
                let (now, next) = (generations[vcpu % SPACES], next(held[vcpu], last, count));
                let flush = needed(next.flush_all, seen[vcpu], now, by_asid);
                let asid = next.tag.number;
                translations.retain(|entry| flush == tlb::KEEP || flush == tlb::FLUSH_ASID && entry.0 != asid);
                (held[vcpu], last, seen[vcpu]) = (next.tag, next.last, now);
                let own = (asid, vcpu, wishes[vcpu], now);
                prop_assert!(translations.iter().all(|entry| entry.0 != asid || *entry == own));
                translations.push(own);
            }
        }
    }
}
