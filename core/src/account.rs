//! Accounts: who owns how much RAM and how many capabilities, and who may give to whom.
//!
//! Every session of core has an account, opened with what its client donated. The account of a PD session is also
//! the component's budget: it has a reference account (its parent's), and the two may transfer to each other.
//! Nothing is created here: the sum over all accounts never changes.
//!
//! A capability of quota is a page of kernel memory ([`KernelAccounts`]). The ledger moves the pages together with the
//! number, and fails without effect if the kernel cannot, because objects that a component made itself occupy them.

use abi::cap::Sel;
use alloc::collections::BTreeMap;

/// Names an account. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AccountId(u64);

/// An amount of both currencies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resources {
    /// Bytes of RAM.
    pub ram: u64,
    /// Capabilities.
    pub caps: u64,
}

impl Resources {
    /// Nothing.
    pub const NONE: Self = Self { ram: 0, caps: 0 };

    /// Only capabilities.
    #[must_use]
    pub const fn caps(caps: u64) -> Self {
        Self { ram: 0, caps }
    }

    /// Only RAM.
    #[must_use]
    pub const fn ram(ram: u64) -> Self {
        Self { ram, caps: 0 }
    }

    /// Both sums; `None` on overflow.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match (self.ram.checked_add(other.ram), self.caps.checked_add(other.caps)) {
            (Some(ram), Some(caps)) => Some(Self { ram, caps }),
            _ => None,
        }
    }

    /// Both differences, not below zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self { ram: self.ram.saturating_sub(other.ram), caps: self.caps.saturating_sub(other.caps) }
    }

    /// What of `self` is missing in `available`.
    const fn shortage(self, available: Self) -> Result<(), AccountError> {
        if self.ram > available.ram {
            Err(AccountError::OutOfRam)
        } else if self.caps > available.caps {
            Err(AccountError::OutOfCaps)
        } else {
            Ok(())
        }
    }
}

/// Why an operation on accounts failed. The ledger is unchanged then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccountError {
    /// The paying account lacks RAM.
    OutOfRam,
    /// The paying account lacks capabilities.
    OutOfCaps,
    /// No such account, or the two accounts may not trade.
    Invalid,
    /// The account still pays for something.
    InUse,
}

/// The kernel's accounts of kernel memory. An account of the ledger names the one that holds what it has not spent;
/// what it has spent on objects of core is in core's own.
pub trait KernelAccounts {
    /// Moves unused pages between the accounts of two protection domains.
    ///
    /// # Errors
    /// [`AccountError::OutOfCaps`] if `from` does not have that many that are unused; nothing was moved then.
    fn move_pages(&self, from: Sel, to: Sel, pages: u64) -> Result<(), AccountError>;
}

/// The first account.
const ROOT: AccountId = AccountId(0);
/// The kernel account of core.
const CORE: Sel = abi::cap::root::PD;

#[derive(Clone, Debug)]
struct Account {
    quota: Resources,
    used: Resources,
    /// Donation of the session's client, not transferable, so that it can be returned.
    donated: Resources,
    /// Account that donated.
    donor: Option<AccountId>,
    reference: Option<AccountId>,
    /// Kernel account.
    purse: Sel,
}

impl Account {
    fn available(&self) -> Resources {
        self.quota.saturating_sub(self.used)
    }

    fn transferable(&self) -> Resources {
        self.quota.saturating_sub(Resources {
            ram: self.used.ram.max(self.donated.ram),
            caps: self.used.caps.max(self.donated.caps),
        })
    }
}

/// All accounts.
#[derive(Clone, Debug)]
pub struct Ledger<K> {
    kernel: K,
    accounts: BTreeMap<AccountId, Account>,
    next: u64,
}

impl<K: KernelAccounts> Ledger<K> {
    /// A ledger with one account that owns everything, and its id.
    #[must_use]
    pub fn new(kernel: K, total: Resources) -> (Self, AccountId) {
        let account = Account {
            quota: total,
            used: Resources::NONE,
            donated: Resources::NONE,
            donor: None,
            reference: None,
            purse: CORE,
        };
        (Self { kernel, accounts: BTreeMap::from([(ROOT, account)]), next: 1 }, ROOT)
    }

    /// The first account.
    #[must_use]
    pub const fn root(&self) -> AccountId {
        ROOT
    }

    fn get(&self, id: AccountId) -> Result<&Account, AccountError> {
        self.accounts.get(&id).ok_or(AccountError::Invalid)
    }

    fn get_mut(&mut self, id: AccountId) -> Result<&mut Account, AccountError> {
        self.accounts.get_mut(&id).ok_or(AccountError::Invalid)
    }

    /// Quota of an account.
    ///
    /// # Errors
    /// [`AccountError::Invalid`] if there is no such account.
    pub fn quota(&self, id: AccountId) -> Result<Resources, AccountError> {
        Ok(self.get(id)?.quota)
    }

    /// What the account pays for at core (not counting kernel memory used by the component itself).
    ///
    /// # Errors
    /// [`AccountError::Invalid`] if there is no such account.
    pub fn used(&self, id: AccountId) -> Result<Resources, AccountError> {
        Ok(self.get(id)?.used)
    }

    /// Opens an account with `donation` out of the available resources of `donor`. Its purse is core's.
    ///
    /// # Errors
    /// The donor lacks something, or does not exist.
    pub fn open(&mut self, donor: AccountId, donation: Resources) -> Result<AccountId, AccountError> {
        let payer = self.get(donor)?;
        donation.shortage(payer.available())?;
        self.kernel.move_pages(payer.purse, CORE, donation.caps)?;
        let account = Account {
            quota: donation,
            used: Resources::NONE,
            donated: donation,
            donor: Some(donor),
            reference: None,
            purse: CORE,
        };
        let id = AccountId(self.next);
        self.next += 1;
        let payer = self.get_mut(donor)?;
        payer.quota = payer.quota.saturating_sub(donation);
        self.accounts.insert(id, account);
        Ok(id)
    }

    /// Adds to the donation of `id`, out of its donor.
    ///
    /// # Errors
    /// The donor lacks something, or there is none.
    pub fn upgrade(&mut self, id: AccountId, more: Resources) -> Result<(), AccountError> {
        let donor = self.get(id)?.donor.ok_or(AccountError::Invalid)?;
        more.shortage(self.get(donor)?.available())?;
        let donated = self.get(id)?.donated.checked_add(more).ok_or(AccountError::Invalid)?;
        self.shift(donor, id, more)?;
        self.get_mut(id)?.donated = donated;
        Ok(())
    }

    /// Moves quota without any check of who may, rolling back nothing because nothing happens before the last check.
    fn shift(&mut self, from: AccountId, to: AccountId, amount: Resources) -> Result<(), AccountError> {
        let (source, destination) = (self.get(from)?, self.get(to)?);
        amount.shortage(source.quota)?;
        let sum = destination.quota.checked_add(amount).ok_or(AccountError::Invalid)?;
        self.kernel.move_pages(source.purse, destination.purse, amount.caps)?;
        self.get_mut(to)?.quota = sum;
        let source = self.get_mut(from)?;
        source.quota = source.quota.saturating_sub(amount);
        Ok(())
    }

    /// Gives the account a purse of its own, to which `pages` that it has not spent have already gone.
    ///
    /// # Errors
    /// [`AccountError::Invalid`] if there is no such account.
    pub fn set_purse(&mut self, id: AccountId, purse: Sel) -> Result<(), AccountError> {
        self.get_mut(id)?.purse = purse;
        Ok(())
    }

    /// Sets the reference account, once.
    ///
    /// # Errors
    /// [`AccountError::Invalid`] if one of the two does not exist, if it would refer to itself, or if it has one.
    pub fn set_reference(&mut self, id: AccountId, reference: AccountId) -> Result<(), AccountError> {
        self.get(reference)?;
        let account = self.get_mut(id)?;
        if id == reference || account.reference.is_some() {
            return Err(AccountError::Invalid);
        }
        account.reference = Some(reference);
        Ok(())
    }

    /// Moves available quota between an account and its reference account, in either direction.
    ///
    /// # Errors
    /// The two may not trade, or `from` lacks something that is neither used nor its own session's donation.
    pub fn transfer(&mut self, from: AccountId, to: AccountId, amount: Resources) -> Result<(), AccountError> {
        let (source, destination) = (self.get(from)?, self.get(to)?);
        if from == to {
            return Ok(());
        }
        if source.reference != Some(to) && destination.reference != Some(from) {
            return Err(AccountError::Invalid);
        }
        amount.shortage(source.transferable())?;
        self.shift(from, to, amount)
    }

    /// Spends on an object of core.
    ///
    /// # Errors
    /// The account lacks something.
    pub fn charge(&mut self, id: AccountId, cost: Resources) -> Result<(), AccountError> {
        let account = self.get(id)?;
        cost.shortage(account.available())?;
        let used = account.used.checked_add(cost).ok_or(AccountError::Invalid)?;
        self.kernel.move_pages(account.purse, CORE, cost.caps)?;
        self.get_mut(id)?.used = used;
        Ok(())
    }

    /// Takes back a charge.
    ///
    /// # Errors
    /// [`AccountError::Invalid`] if the account does not exist or has not been charged that much.
    pub fn credit(&mut self, id: AccountId, cost: Resources) -> Result<(), AccountError> {
        let account = self.get(id)?;
        cost.shortage(account.used).map_err(|_| AccountError::Invalid)?;
        self.kernel.move_pages(CORE, account.purse, cost.caps)?;
        let account = self.get_mut(id)?;
        account.used = account.used.saturating_sub(cost);
        Ok(())
    }

    /// Closes an account that pays for nothing any more and whose pages have returned to core's purse: the donation
    /// goes back to the donor, the rest to the reference account, which also inherits those that referred to it.
    ///
    /// # Errors
    /// [`AccountError::InUse`] if it still pays for something or has a purse; [`AccountError::Invalid`] for the first account.
    pub fn close(&mut self, id: AccountId) -> Result<(), AccountError> {
        let account = self.get(id)?;
        if account.used != Resources::NONE || account.purse != CORE {
            return Err(AccountError::InUse);
        }
        let donor = account.donor.ok_or(AccountError::Invalid)?;
        let heir = account.reference.unwrap_or(donor);
        let donated = account.donated;
        let rest = account.quota.saturating_sub(donated);
        self.shift(id, donor, donated)?;
        self.shift(id, heir, rest)?;
        self.accounts.remove(&id);
        for (&other, account) in &mut self.accounts {
            if account.reference == Some(id) {
                account.reference = Some(heir).filter(|&heir| heir != other);
            }
            if account.donor == Some(id) {
                account.donor = Some(donor);
            }
        }
        Ok(())
    }

    /// Sum over all accounts.
    #[must_use]
    pub fn total(&self) -> Resources {
        let add = |sum: Resources, account: &Account| sum.checked_add(account.quota).unwrap_or(sum);
        self.accounts.values().fold(Resources::NONE, add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;
    use alloc::vec::Vec;
    use core::cell::RefCell;
    use proptest::prelude::*;

    /// Unused pages of each kernel account.
    #[derive(Clone, Debug)]
    struct Kernel(Rc<RefCell<Vec<u64>>>);

    impl KernelAccounts for Kernel {
        fn move_pages(&self, from: Sel, to: Sel, pages: u64) -> Result<(), AccountError> {
            let mut unused = self.0.borrow_mut();
            let (from, to) = (from.0 as usize, to.0 as usize);
            unused[from] = unused[from].checked_sub(pages).ok_or(AccountError::OutOfCaps)?;
            unused[to] += pages;
            Ok(())
        }
    }

    const TOTAL: Resources = Resources { ram: 1 << 20, caps: 1000 };

    fn ledger() -> (Ledger<Kernel>, AccountId, Kernel) {
        let kernel = Kernel(Rc::new(RefCell::new(alloc::vec![TOTAL.caps])));
        let (ledger, root) = Ledger::new(kernel.clone(), TOTAL);
        (ledger, root, kernel)
    }

    fn slot(n: usize) -> Sel {
        Sel(n as u64)
    }

    fn some(n: u64) -> Resources {
        Resources { ram: n * 16, caps: n }
    }

    #[test]
    fn siblings_cannot_trade() {
        let (mut ledger, root, _) = ledger();
        let a = ledger.open(root, some(10)).unwrap();
        let b = ledger.open(root, some(10)).unwrap();
        ledger.set_reference(a, root).unwrap();
        ledger.set_reference(b, root).unwrap();
        ledger.transfer(root, a, some(10)).unwrap();
        assert_eq!(ledger.transfer(a, b, some(1)), Err(AccountError::Invalid));
        assert_eq!(ledger.transfer(a, a, some(99)), Ok(()));
    }

    #[test]
    fn the_reference_account_is_set_once() {
        let (mut ledger, root, _) = ledger();
        let a = ledger.open(root, some(10)).unwrap();
        let b = ledger.open(root, some(10)).unwrap();
        assert_eq!(ledger.set_reference(a, a), Err(AccountError::Invalid));
        ledger.set_reference(a, root).unwrap();
        assert_eq!(ledger.set_reference(a, b), Err(AccountError::Invalid));
        assert_eq!(ledger.transfer(b, a, some(0)), Err(AccountError::Invalid));
    }

    #[test]
    fn the_donation_itself_cannot_be_transferred() {
        let (mut ledger, root, _) = ledger();
        let a = ledger.open(root, some(10)).unwrap();
        ledger.set_reference(a, root).unwrap();
        ledger.transfer(root, a, some(5)).unwrap();
        assert_eq!(ledger.transfer(a, root, some(6)), Err(AccountError::OutOfRam));
        ledger.transfer(a, root, some(5)).unwrap();
    }

    #[test]
    fn what_the_component_spent_in_the_kernel_cannot_be_moved() {
        let (mut ledger, root, kernel) = ledger();
        let a = ledger.open(root, Resources::NONE).unwrap();
        kernel.0.borrow_mut().push(0);
        ledger.set_purse(a, slot(1)).unwrap();
        ledger.set_reference(a, root).unwrap();
        ledger.transfer(root, a, some(20)).unwrap();
        kernel.0.borrow_mut()[1] -= 15;
        assert_eq!(ledger.transfer(a, root, some(6)), Err(AccountError::OutOfCaps));
        assert_eq!(ledger.charge(a, some(6)), Err(AccountError::OutOfCaps));
        ledger.charge(a, some(5)).unwrap();
        assert_eq!(ledger.quota(a), Ok(some(20)));
    }

    #[test]
    fn an_account_that_still_pays_cannot_be_closed() {
        let (mut ledger, root, _) = ledger();
        let a = ledger.open(root, some(10)).unwrap();
        ledger.charge(a, some(1)).unwrap();
        assert_eq!(ledger.close(a), Err(AccountError::InUse));
        assert_eq!(ledger.credit(a, some(2)), Err(AccountError::Invalid));
        ledger.credit(a, some(1)).unwrap();
        ledger.close(a).unwrap();
        assert_eq!(ledger.quota(root), Ok(TOTAL));
    }

    #[test]
    fn heirs_get_what_a_closed_account_had() {
        let (mut ledger, root, _) = ledger();
        let a = ledger.open(root, some(10)).unwrap();
        ledger.set_reference(a, root).unwrap();
        let b = ledger.open(root, some(10)).unwrap();
        ledger.set_reference(b, a).unwrap();
        ledger.transfer(root, a, some(30)).unwrap();
        ledger.transfer(a, b, some(20)).unwrap();
        ledger.close(a).unwrap();
        ledger.transfer(b, root, some(20)).unwrap();
        ledger.close(b).unwrap();
        assert_eq!(ledger.quota(root), Ok(TOTAL));
    }

    proptest! {
        #[test]
        fn nothing_is_created_or_lost(
            ops in prop::collection::vec((0..7u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..200u64), 0..200)
        ) {
            let (mut ledger, root, kernel) = ledger();
            let mut ids = alloc::vec![root];
            for (op, a, b, n) in ops {
                let (a, b) = (*a.get(&ids), *b.get(&ids));
                let before = ledger.clone();
                let pages = kernel.0.borrow().clone();
                let result = match op {
                    0 => ledger.open(a, some(n)).map(|id| ids.push(id)),
                    1 => ledger.upgrade(a, some(n)),
                    2 => ledger.set_reference(a, b),
                    3 => ledger.transfer(a, b, some(n)),
                    4 => ledger.charge(a, some(n)),
                    5 => ledger.credit(a, some(n)),
                    _ => ledger.close(a).map(|()| ids.retain(|&id| id != a)),
                };
                if result.is_err() {
                    for &id in &ids {
                        prop_assert_eq!(before.quota(id), ledger.quota(id));
                        prop_assert_eq!(before.used(id), ledger.used(id));
                    }
                    prop_assert_eq!(pages, kernel.0.borrow().clone());
                }
                prop_assert_eq!(ledger.total(), TOTAL);
                for &id in &ids {
                    let (quota, used) = (ledger.quota(id).unwrap(), ledger.used(id).unwrap());
                    prop_assert!(used.ram <= quota.ram && used.caps <= quota.caps);
                }
            }
        }

        #[test]
        fn purses_hold_what_is_not_spent(
            ops in prop::collection::vec((0..4u8, any::<prop::sample::Index>(), 0..100u64), 0..100)
        ) {
            let (mut ledger, root, kernel) = ledger();
            let mut ids = Vec::new();
            for _ in 0..4 {
                let id = ledger.open(root, Resources::NONE).unwrap();
                kernel.0.borrow_mut().push(0);
                ids.push(id);
                ledger.set_purse(id, slot(ids.len())).unwrap();
                ledger.set_reference(id, root).unwrap();
            }
            for (op, a, n) in ops {
                let a = *a.get(&ids);
                let _ = match op {
                    0 => ledger.transfer(root, a, some(n)),
                    1 => ledger.transfer(a, root, some(n)),
                    2 => ledger.charge(a, some(n)),
                    _ => ledger.credit(a, some(n)),
                };
                for (n, &id) in ids.iter().enumerate() {
                    let rest = ledger.quota(id).unwrap().saturating_sub(ledger.used(id).unwrap());
                    prop_assert_eq!(kernel.0.borrow()[n + 1], rest.caps);
                }
            }
        }
    }
}
