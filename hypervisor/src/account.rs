//! Account of kernel memory: a quota, and what of it is in use, by any number of CPUs at once. It is never overdrawn, not even for
//! a moment, so that nobody is refused what the quota still has because another CPU asks for too much.

use crate::mem::object::Word;
use crate::mem::pool;
use abi::status::Status;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// An account, in pages. All zero: nothing to use, and nothing used.
#[derive(Default)]
#[repr(C)]
pub struct Account {
    quota: Word,
    /// Pages in use.
    pages: Word,
    /// Object slots in use.
    slots: Word,
}

impl Account {
    /// Pages that may be used.
    #[inline(always)]
    pub fn quota(&self) -> u64 {
        self.quota.get()
    }

    /// Pages in use. Slots count as the pages that they would fill.
    pub fn used(&self) -> u64 {
        self.pages.get().max(self.slots.get().div_ceil(pool::SLOTS_PER_PAGE))
    }

    /// Sets the quota, of which nothing may be in use beyond that. Changes of the quota are for the caller to serialise.
    pub fn set_quota(&self, quota: u64) {
        self.quota.set(quota);
    }

    /// Takes `pages` out of the quota. Changes of the quota are for the caller to serialise.
    ///
    /// # Errors
    /// `OutOfMemory` if they are not there or in use.
    pub fn withdraw(&self, pages: u64) -> Result<(), Status> {
        let quota = self.quota.get();
        let left = quota.checked_sub(pages).filter(|&left| left >= self.used()).ok_or(Status::OutOfMemory)?;
        // Ordering: SeqCst, as in `charge`: of a withdrawal and a charge at the same time, at least one sees the other.
        self.quota.atomic().swap(left, SeqCst);
        if left < self.used() {
            self.quota.set(quota);
            return Err(Status::OutOfMemory);
        }
        Ok(())
    }

    #[inline(always)]
    fn charge(&self, used: &Word, amount: u64, per_page: u64) -> Result<(), Status> {
        let mut before = used.get();
        let after = loop {
            let after = before + amount;
            if after > self.quota.get() * per_page {
                return Err(Status::OutOfMemory);
            }
            match used.atomic().compare_exchange_weak(before, after, SeqCst, Relaxed) {
                Ok(_) => break after,
                Err(now) => before = now,
            }
        };
        if after > self.quota.atomic().load(SeqCst) * per_page {
            used.atomic().fetch_sub(amount, Relaxed);
            return Err(Status::OutOfMemory);
        }
        Ok(())
    }

    /// Uses `count` pages.
    ///
    /// # Errors
    /// `OutOfMemory` if there are not as many.
    #[inline(always)]
    pub fn charge_pages(&self, count: u64) -> Result<(), Status> {
        self.charge(&self.pages, count, 1)
    }

    /// Uses an object slot.
    ///
    /// # Errors
    /// `OutOfMemory` if there is none.
    #[inline(always)]
    pub fn charge_slot(&self) -> Result<(), Status> {
        self.charge(&self.slots, 1, pool::SLOTS_PER_PAGE)
    }

    /// Gives `count` pages back.
    #[inline(always)]
    pub fn refund_pages(&self, count: u64) {
        self.pages.atomic().fetch_sub(count, Relaxed);
    }

    /// Gives an object slot back.
    #[inline(always)]
    pub fn refund_slot(&self) {
        self.slots.atomic().fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    const QUOTA: u64 = 100;

    /// Some ask for more than there can be, one for what must always be there.
    #[test]
    fn who_asks_for_too_much_takes_nothing_from_others() {
        let (account, done) = (Account::default(), AtomicBool::new(false));
        account.set_quota(QUOTA);
        account.charge_pages(QUOTA - 1).unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Relaxed) {
                        assert_eq!(account.charge_pages(2), Err(Status::OutOfMemory));
                    }
                });
            }
            let served = (0..100_000).all(|_| {
                let outcome = account.charge_pages(1);
                account.refund_pages(u64::from(outcome.is_ok()));
                outcome.is_ok() && account.used() <= QUOTA
            });
            done.store(true, Relaxed);
            assert!(served);
        });
    }

    /// What one withdraws, another one cannot be using.
    #[test]
    fn withdrawn_and_used_never_exceed_the_quota() {
        let account = Account::default();
        account.set_quota(1);
        for _ in 0..20_000 {
            let (withdrawn, charged) = thread::scope(|scope| {
                let other = scope.spawn(|| account.charge_pages(1).is_ok());
                (account.withdraw(1).is_ok(), other.join().unwrap())
            });
            assert!(!(withdrawn && charged));
            assert_eq!((account.quota(), account.used()), (u64::from(!withdrawn), u64::from(charged)));
            account.refund_pages(charged.into());
            account.set_quota(1);
        }
    }
}
