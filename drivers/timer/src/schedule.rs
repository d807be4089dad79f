//! Which client is due when. Times are microseconds of one monotonic clock.

use abi::session::timer::{SHORTEST_PERIOD_US, SHORTEST_US};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// A client.
pub type ClientId = u64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Planned {
    at: u64,
    /// 0: once.
    period: u64,
}

/// At most one time per client.
#[derive(Debug, Default)]
pub struct Schedule {
    planned: BTreeMap<ClientId, Planned>,
    order: BTreeSet<(u64, ClientId)>,
    /// Alarms are given no sooner than [`SHORTEST_US`] after the last, so that times close together share one.
    not_before: u64,
}

impl Schedule {
    /// Plans one alarm `us` from now, in place of what was planned for the client.
    pub fn once(&mut self, client: ClientId, now: u64, us: u64) {
        self.plan(client, Planned { at: now.saturating_add(us.max(SHORTEST_US)), period: 0 });
    }

    /// Plans an alarm every `us` from now on, in place of what was planned for the client. 0 plans none.
    pub fn periodic(&mut self, client: ClientId, now: u64, us: u64) {
        if us == 0 {
            return self.cancel(client);
        }
        let period = us.max(SHORTEST_PERIOD_US);
        self.plan(client, Planned { at: now.saturating_add(period), period });
    }

    /// Forgets a client.
    pub fn cancel(&mut self, client: ClientId) {
        if let Some(planned) = self.planned.remove(&client) {
            self.order.remove(&(planned.at, client));
        }
    }

    /// When to look again.
    pub fn next(&self) -> Option<u64> {
        self.order.first().map(|(at, _)| (*at).max(self.not_before))
    }

    /// Takes the clients that are due. Periods that have passed unseen are one alarm, and the next one is where
    /// it was planned from the start.
    pub fn expire(&mut self, now: u64) -> Vec<ClientId> {
        let mut due = Vec::new();
        while let Some((at, client)) = self.order.first().copied().filter(|(at, _)| *at <= now) {
            due.push(client);
            let period = self.planned.get(&client).map_or(0, |planned| planned.period);
            self.cancel(client);
            if let Some(passed) = (now - at).checked_div(period) {
                let next = at.saturating_add((passed + 1).saturating_mul(period));
                self.plan(client, Planned { at: next, period });
            }
        }
        if !due.is_empty() {
            self.not_before = now.saturating_add(SHORTEST_US);
        }
        due
    }

    fn plan(&mut self, client: ClientId, planned: Planned) {
        self.cancel(client);
        self.planned.insert(client, planned);
        self.order.insert((planned.at, client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_alarm_comes_once_and_not_early() {
        let mut schedule = Schedule::default();
        schedule.once(1, 1000, 500);
        assert_eq!(schedule.next(), Some(1500));
        assert_eq!(schedule.expire(1499), []);
        assert_eq!(schedule.expire(1500), [1]);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn short_times_are_lengthened() {
        let mut schedule = Schedule::default();
        schedule.once(1, 0, 0);
        schedule.periodic(2, 0, 1);
        assert_eq!(schedule.expire(SHORTEST_US), [1]);
        assert_eq!(schedule.next(), Some(SHORTEST_PERIOD_US));
    }

    #[test]
    fn a_late_period_coalesces_and_does_not_drift() {
        let mut schedule = Schedule::default();
        schedule.periodic(1, 100, 10_000);
        assert_eq!(schedule.expire(35_600), [1]);
        assert_eq!(schedule.next(), Some(40_100));
    }

    #[test]
    fn one_shot_ends_a_period_and_zero_does_too() {
        let mut schedule = Schedule::default();
        schedule.periodic(1, 0, 10_000);
        schedule.once(1, 0, 20_000);
        assert_eq!(schedule.expire(20_000), [1]);
        assert_eq!(schedule.next(), None);
        schedule.periodic(1, 20_000, 10_000);
        schedule.periodic(1, 20_000, 0);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn alarms_close_together_are_given_together() {
        let mut schedule = Schedule::default();
        schedule.once(1, 0, 1000);
        schedule.once(2, 0, 1010);
        schedule.once(3, 0, 1100);
        assert_eq!(schedule.expire(1000), [1]);
        let next = schedule.next().unwrap();
        assert_eq!(next, 1000 + SHORTEST_US);
        assert_eq!(schedule.expire(next), [2, 3]);
    }

    proptest! {
        #[test]
        fn every_alarm_comes_in_time(plans in prop::collection::vec((0_u64..5, 0_u64..100_000, any::<bool>()), 1..30)) {
            let mut schedule = Schedule::default();
            let mut wanted = BTreeMap::new();
            for (client, us, periodic) in plans {
                if periodic {
                    schedule.periodic(client, 0, us);
                    wanted.insert(client, (us > 0).then(|| us.max(SHORTEST_PERIOD_US)));
                } else {
                    schedule.once(client, 0, us);
                    wanted.insert(client, Some(us.max(SHORTEST_US)));
                }
            }
            let mut first = BTreeMap::new();
            for _ in 0..50 {
                let Some(now) = schedule.next() else { break };
                for client in schedule.expire(now) {
                    first.entry(client).or_insert(now);
                }
                prop_assert!(schedule.next().is_none_or(|next| next >= now + SHORTEST_US));
            }
            for (client, at) in first {
                let planned = wanted.get(&client).copied().flatten().unwrap();
                prop_assert!((planned..=planned + SHORTEST_US).contains(&at));
            }
        }

        #[test]
        fn the_end_of_time_is_harmless(now: u64, us: u64, later: u64) {
            let mut schedule = Schedule::default();
            schedule.periodic(1, now, us);
            schedule.once(2, now, us);
            schedule.expire(later);
            schedule.next();
        }
    }
}
