//! How much a client donates to a session, attempt by attempt.

use abi::session::parent::{Quota, SessionError};

/// Raised by this much when the server says that a donation is too small.
const STEP: Quota = Quota { ram: 4096, caps: 4 };
/// How often a donation is raised before the client gives up.
const MAX_STEPS: u32 = 16;

/// The donation of the next attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Donation {
    quota: Quota,
    steps: u32,
}

/// What to do after a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Try again.
    Retry,
    /// Ask the parent for this, wait until something has changed, and try again.
    Ask(Quota),
    /// It is final.
    GiveUp,
}

impl Donation {
    /// What the caller gives, but not less than the interface's minimum.
    pub(crate) fn new(given: Quota, least: Quota) -> Self {
        let quota = Quota { ram: given.ram.max(least.ram), caps: given.caps.max(least.caps) };
        Self { quota, steps: 0 }
    }

    /// The amount.
    pub(crate) const fn quota(&self) -> Quota {
        self.quota
    }

    /// Draws the conclusion from a refusal. `Insufficient*` is the server's: too small. `OutOf*` is about the client's own
    /// account.
    pub(crate) fn refused(&mut self, reason: SessionError) -> Next {
        match reason {
            SessionError::InsufficientRam => self.raise(Quota { caps: 0, ..STEP }),
            SessionError::InsufficientCaps => self.raise(Quota { ram: 0, ..STEP }),
            SessionError::OutOfRam => Next::Ask(Quota { caps: 0, ..self.quota }),
            SessionError::OutOfCaps => Next::Ask(Quota { ram: 0, ..self.quota }),
            SessionError::Denied | SessionError::StillPending => Next::GiveUp,
        }
    }

    fn raise(&mut self, by: Quota) -> Next {
        if self.steps == MAX_STEPS {
            return Next::GiveUp;
        }
        self.steps += 1;
        self.quota.ram = self.quota.ram.saturating_add(by.ram);
        self.quota.caps = self.quota.caps.saturating_add(by.caps);
        Next::Retry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn donation() -> Donation {
        Donation::new(Quota { ram: 100, caps: 9 }, Quota { ram: 8192, caps: 3 })
    }

    #[test]
    fn the_larger_of_gift_and_minimum_counts() {
        assert_eq!(donation().quota(), Quota { ram: 8192, caps: 9 });
    }

    #[test]
    fn a_server_that_wants_more_gets_more_of_that() {
        let mut donation = donation();
        assert_eq!(donation.refused(SessionError::InsufficientRam), Next::Retry);
        assert_eq!(donation.refused(SessionError::InsufficientCaps), Next::Retry);
        assert_eq!(donation.quota(), Quota { ram: 8192 + STEP.ram, caps: 9 + STEP.caps });
    }

    #[test]
    fn a_greedy_server_is_given_up() {
        let mut donation = Donation::new(Quota { ram: u64::MAX, caps: 0 }, Quota::default());
        for _ in 0..MAX_STEPS {
            assert_eq!(donation.refused(SessionError::InsufficientRam), Next::Retry);
        }
        assert_eq!(donation.refused(SessionError::InsufficientRam), Next::GiveUp);
    }

    #[test]
    fn the_own_account_is_the_parents_business_and_denial_is_final() {
        let mut donation = donation();
        assert_eq!(donation.refused(SessionError::OutOfRam), Next::Ask(Quota { ram: 8192, caps: 0 }));
        assert_eq!(donation.refused(SessionError::OutOfCaps), Next::Ask(Quota { ram: 0, caps: 9 }));
        assert_eq!(donation.refused(SessionError::Denied), Next::GiveUp);
        assert_eq!(donation, self::donation());
    }
}
