//! When translations are flushed (APM vol. 2, 15.16). All that an ASID has, of linear and of guest-physical addresses, is its vCPU's.

/// Values of TLB_CONTROL (APM vol. 2, 15.16.2).
pub const KEEP: u64 = 0;
const FLUSH_ALL: u64 = 1;
const FLUSH_ASID: u64 = 3;

/// What an entry flushes whose ASID may be the first of a new generation (`all`); the vCPU last ran with the guest space's
/// generation `seen`, which is `now`. `by_asid`: the processor can flush one ASID.
pub fn needed(all: bool, seen: u64, now: u64, by_asid: bool) -> u64 {
    match (all, seen != now) {
        (true, _) => FLUSH_ALL,
        (false, true) if by_asid => FLUSH_ASID,
        (false, true) => FLUSH_ALL,
        (false, false) => KEEP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::tags::model::{Cpu, op};
    use proptest::prelude::*;

    #[test]
    fn each_change_is_followed_by_its_flush() {
        assert_eq!(needed(false, 7, 7, true), KEEP);
        assert_eq!([true, false].map(|by_asid| needed(false, 7, 8, by_asid)), [FLUSH_ASID, FLUSH_ALL]);
        assert_eq!([true, false].map(|by_asid| needed(true, 7, 7, by_asid)), [FLUSH_ALL; 2]);
    }

    proptest! {
        /// A TLB that keeps everything until it is told otherwise. Its entries are: ASID, vCPU, how often that vCPU had wanted a
        /// flush by then, and the generation of its space.
        #[test]
        fn no_entry_meets_a_stale_translation(
            ops in proptest::collection::vec(op(), 1..200), count in 2u64..5, by_asid: bool,
        ) {
            let mut cpu = Cpu::new();
            let mut translations: Vec<(u64, usize, u64, u64)> = Vec::new();
            for entry in ops.into_iter().filter_map(|op| cpu.step(op, count)) {
                let flush = needed(entry.next.flush_all, entry.seen, entry.now, by_asid);
                let asid = entry.next.tag.number;
                translations.retain(|old| flush == KEEP || flush == FLUSH_ASID && old.0 != asid);
                let own = (asid, entry.vcpu, entry.wishes, entry.now);
                prop_assert!(translations.iter().all(|old| old.0 != asid || *old == own));
                translations.push(own);
            }
        }
    }
}
