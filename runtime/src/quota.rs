//! Guard of a session's donation: what a server spends for a client never exceeds what the client gave.

use abi::session::parent::Quota;

/// Which currency is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exceeded {
    /// RAM.
    Ram,
    /// Capabilities.
    Caps,
}

/// A donation and how much of it is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Guard {
    limit: Quota,
    used: Quota,
}

impl Guard {
    /// An unused donation.
    #[must_use]
    pub const fn new(limit: Quota) -> Self {
        Self { limit, used: Quota { ram: 0, caps: 0 } }
    }

    /// Takes from it.
    ///
    /// # Errors
    /// There is not enough; nothing was taken.
    pub fn withdraw(&mut self, amount: Quota) -> Result<(), Exceeded> {
        let available = self.available();
        if amount.ram > available.ram {
            return Err(Exceeded::Ram);
        }
        if amount.caps > available.caps {
            return Err(Exceeded::Caps);
        }
        self.used = Quota { ram: self.used.ram + amount.ram, caps: self.used.caps + amount.caps };
        Ok(())
    }

    /// Gives back what was taken.
    pub fn give_back(&mut self, amount: Quota) {
        self.used.ram = self.used.ram.saturating_sub(amount.ram);
        self.used.caps = self.used.caps.saturating_sub(amount.caps);
    }

    /// Adds to it.
    pub fn upgrade(&mut self, amount: Quota) {
        self.limit.ram = self.limit.ram.saturating_add(amount.ram);
        self.limit.caps = self.limit.caps.saturating_add(amount.caps);
    }

    /// What is left.
    #[must_use]
    pub const fn available(&self) -> Quota {
        Quota { ram: self.limit.ram - self.used.ram, caps: self.limit.caps - self.used.caps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quota() -> impl Strategy<Value = Quota> {
        (0_u64..1000, 0_u64..100).prop_map(|(ram, caps)| Quota { ram, caps })
    }

    proptest! {
        #[test]
        fn nothing_is_spent_twice(limit in quota(), amounts in prop::collection::vec(quota(), 0..20)) {
            let mut guard = Guard::new(limit);
            let mut spent = Quota::default();
            for amount in amounts {
                let before = guard;
                match guard.withdraw(amount) {
                    Ok(()) => spent = Quota { ram: spent.ram + amount.ram, caps: spent.caps + amount.caps },
                    Err(_) => prop_assert_eq!(guard, before),
                }
                prop_assert!(spent.ram <= limit.ram && spent.caps <= limit.caps);
            }
            guard.give_back(spent);
            prop_assert_eq!(guard, Guard::new(limit));
        }
    }
}
