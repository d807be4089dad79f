//! Accounts: who owns how much RAM and how many capabilities, and who may give to whom.
//!
//! Every session of core has an account, opened with what its client donated. The account of a PD session is also
//! the component's budget: it has a reference account (its parent's), and the two may transfer to each other.
//! Nothing is created here: the sum over all accounts never changes.
//!
//! A capability of quota is a page of kernel memory ([`KernelAccounts`]). The ledger moves the pages together with the
//! number, and fails without effect if the kernel cannot, because objects that a component made itself occupy them.

use abi::cap::Sel;
use abi::session::parent::Quota;
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

impl From<Quota> for Resources {
    fn from(Quota { ram, caps }: Quota) -> Self {
        Self { ram, caps }
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
mod tests;
