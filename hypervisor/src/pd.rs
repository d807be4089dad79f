//! Protection domain: an account of kernel memory, and lists of everything it pays for.
//!
//! Destroying a PD destroys all that is on its lists.

use crate::account::Account;
use crate::ec::Ec;
use crate::mem::object::{self, AnyObject, Header, Object, Word};
use crate::mem::{Link, Page, lock::Lock, pool, ptab};
use crate::space::{mem::MemSpace, obj::ObjSpace, pio::PioSpace};
use abi::cap::ObjectType;
use abi::status::Status;
use core::iter::successors;
use core::sync::atomic::Ordering::Acquire;

/// A protection domain.
#[derive(Default)]
#[repr(C, align(256))]
pub struct Pd {
    header: Header,
    lock: Lock,
    account: Account,
    /// First object on the list of each [`Rank`].
    first: [Word; Rank::COUNT],
    /// Quota taken away when the destruction began; returns to the owner, from whose account it came.
    closed: Word,
    /// How far its destruction is: [`OPEN`], [`CLOSED`] or [`SETTLED`].
    closing: Word,
    /// 1 while a hypercall works at the destruction.
    claimed: Word,
    pub(crate) obj: Link<ObjSpace>,
    pub(crate) mem: Link<MemSpace>,
    pub(crate) pio: Link<PioSpace>,
}

/// Objects that go together when a PD is destroyed, in the order in which they go: what runs first, what others run in last.
#[derive(Clone, Copy)]
#[repr(usize)]
#[allow(missing_docs, reason = "the names are the objects'")]
pub enum Rank {
    Domains = 0,
    SchedulingContexts = 1,
    Contexts = 2,
    /// What neither runs nor is run in.
    Passive = 3,
    Spaces = 4,
}

impl Rank {
    const COUNT: usize = Self::Spaces as usize + 1;

    const fn of(kind: ObjectType) -> Self {
        match kind {
            ObjectType::Pd => Self::Domains,
            ObjectType::Sc => Self::SchedulingContexts,
            ObjectType::Ec => Self::Contexts,
            ObjectType::Pt | ObjectType::Sm | ObjectType::Hw => Self::Passive,
            _ => Self::Spaces,
        }
    }
}

/// Not being destroyed.
const OPEN: u64 = 0;
/// Nothing more can be paid, but something may still be in the making.
const CLOSED: u64 = 1;
/// The lists only get shorter.
const SETTLED: u64 = 2;

impl ptab::Supply for Pd {
    fn alloc(&self) -> Result<Page, Status> {
        self.alloc(0)
    }

    fn free(&self, page: Page) {
        self.free(page, 0);
    }
}

impl Pd {
    /// Sets up a fresh PD.
    pub fn init(&self, quota: u64) {
        self.account.set_quota(quota);
    }

    /// Quota and used pages; slots count as the pages that they would fill.
    pub fn figures(&self) -> (u64, u64) {
        (self.account.quota(), self.account.used())
    }

    /// Takes `pages` of unused quota out of this account.
    pub fn withdraw(&self, pages: u64) -> Result<(), Status> {
        let _guard = self.lock.lock();
        self.account.withdraw(pages)
    }

    /// Puts `pages` into this account; into one that is being destroyed only for its owner to get them.
    pub fn deposit(&self, pages: u64) {
        let _guard = self.lock.lock();
        if self.closing.get() == OPEN {
            self.account.set_quota(self.account.quota() + pages);
        } else {
            self.closed.set(self.closed.get() + pages);
        }
    }

    /// A zeroed block of `2^order` pages, paid by this account.
    ///
    /// # Errors
    /// `OutOfMemory` if the account is exhausted.
    pub fn alloc(&self, order: usize) -> Result<Page, Status> {
        self.alloc_filled(order, 0)
    }

    /// The same with all words set to `value`.
    ///
    /// # Errors
    /// `OutOfMemory` if the account is exhausted.
    pub fn alloc_filled(&self, order: usize, value: u64) -> Result<Page, Status> {
        self.account.charge_pages(1 << order)?;
        let Some(page) = pool::alloc(order, value) else {
            self.account.refund_pages(1 << order);
            return Err(Status::OutOfMemory);
        };
        Ok(page)
    }

    /// Returns a block got from [`Pd::alloc`].
    pub fn free(&self, page: Page, order: usize) {
        pool::free(page, order);
        self.account.refund_pages(1 << order);
    }

    /// A slot for a new object, paid by this account. Not yet on the list, still dead.
    ///
    /// # Errors
    /// `OutOfMemory` if the account is exhausted.
    #[inline(always)]
    pub fn new_object<T: Object>(&'static self) -> Result<&'static T, Status> {
        self.account.charge_slot()?;
        object::alloc(Some(self)).ok_or_else(|| {
            self.account.refund_slot();
            Status::OutOfMemory
        })
    }

    /// Returns the slot of an object that is dead, off the list, and unreferenced.
    pub fn free_object<T: Object>(&self, object: &'static T) {
        object::free(object);
        self.account.refund_slot();
    }

    /// Puts a fully set-up object on the list and brings it to life.
    pub fn adopt<T: Object>(&self, object: &'static T) {
        let _always = self.adopt_if(object, || Ok(()));
    }

    /// The same, if `allowed` says so when nothing else can be adopted, or retired by [`Pd::retire_unless`].
    ///
    /// # Errors
    /// Those of `allowed`.
    #[inline(always)]
    pub fn adopt_if<T: Object>(
        &self,
        object: &'static T,
        allowed: impl FnOnce() -> Result<(), Status>,
    ) -> Result<(), Status> {
        let _guard = self.lock.lock();
        allowed()?;
        let list = &self.first[const { Rank::of(T::TYPE) as usize }];
        let first = list.get();
        object.header().prev.set(0);
        object.header().next.set(first);
        if let Some(next) = object::header_at(first) {
            next.prev.set(object.addr());
        }
        list.set(object.addr());
        object::publish(object);
        Ok(())
    }

    /// Takes a dead object off the list.
    pub fn disown<T: Object>(&self, object: &'static T) {
        let _guard = self.lock.lock();
        let header = object.header();
        let (prev, next) = (header.prev.get(), header.next.get());
        match object::header_at(prev) {
            Some(prev) => prev.next.set(next),
            None => self.first[Rank::of(T::TYPE) as usize].set(next),
        }
        if let Some(next) = object::header_at(next) {
            next.prev.set(prev);
        }
    }

    /// The live object of a rank most recently adopted. As it lives, its slot is not freed before this CPU has
    /// left the kernel. A dead one on the list is being buried, by this or another CPU, and its slot may be somebody else's at once;
    /// there are [few](crate::cpu::MAX_DOOMED) of each CPU.
    pub fn newest(&self, rank: Rank) -> Option<AnyObject> {
        let _guard = self.lock.lock();
        self.list(rank).find(|header| header.is_alive())?.object()
    }

    /// Whether nothing is on the lists, dead or alive.
    pub fn is_empty(&self) -> bool {
        let _guard = self.lock.lock();
        self.first.iter().all(|list| list.get() == 0)
    }

    /// Makes `object` dead unless `uses` holds for an EC of the PD. Whether this was what killed it.
    ///
    /// # Errors
    /// `Busy` if it is used.
    pub fn retire_unless<T: Object>(
        &self,
        object: &'static T,
        uses: impl Fn(&'static Ec) -> bool,
    ) -> Result<bool, Status> {
        let _guard = self.lock.lock();
        // Dead ones count: whoever destroys them still uses what they refer to.
        if self.contexts().any(uses) { Err(Status::Busy) } else { Ok(object::retire(object)) }
    }

    /// What is on the list of a rank, dead or alive; the lock is held.
    fn list(&self, rank: Rank) -> impl Iterator<Item = &'static Header> {
        successors(object::header_at(self.first[rank as usize].get()), |header| object::header_at(header.next.get()))
    }

    /// Every EC, dead or alive; the lock is held, as it is for what [`Pd::adopt_if`] calls. Pages of dead ones may be somebody else's.
    pub fn contexts(&self) -> impl Iterator<Item = &'static Ec> {
        self.list(Rank::Contexts).filter_map(|header| match header.object() {
            Some(AnyObject::Ec(ec)) => Some(ec),
            _ => None,
        })
    }

    /// Begins the destruction: from now on nothing can be paid from the account.
    pub fn close(&self) {
        let _guard = self.lock.lock();
        if self.closing.get() == OPEN {
            self.closing.set(CLOSED);
            self.closed.set(self.account.quota());
            self.account.set_quota(0);
        }
    }

    /// Whether all CPUs have been quiescent since it was closed: what was being made then is on the list.
    pub fn is_settled(&self) -> bool {
        self.closing.get() == SETTLED
    }

    /// All CPUs have been quiescent since it was closed.
    pub fn settle(&self) {
        self.closing.set(SETTLED);
    }

    /// Makes the calling hypercall the only one that works at the destruction, until [`Pd::release`]. False if another one does.
    pub fn claim(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `publish` of `release`.
        self.claimed.atomic().swap(1, Acquire) == 0
    }

    /// Ends a claim.
    pub fn release(&self) {
        self.claimed.publish(0);
    }

    /// Ends the destruction: the quota returns to where it came from.
    pub fn return_quota(&self, owner: &Self) {
        owner.deposit(self.closed.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sm::Sm;
    use crate::testing;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quota_is_conserved_and_never_exceeded(
            ops in proptest::collection::vec((0usize..4, 0u64..40, any::<prop::sample::Index>()), 1..100)
        ) {
            let accounts = [testing::pd(60), testing::pd(30)];
            let mut held: Vec<(usize, Page)> = Vec::new();
            let mut objects = [0; 2];
            for (kind, amount, pick) in ops {
                let which = pick.index(2);
                let (account, other) = (accounts[which], accounts[1 - which]);
                match kind {
                    0 if account.withdraw(amount).is_ok() => other.deposit(amount),
                    0 => {}
                    1 => held.extend(account.alloc(0).ok().map(|page| (which, page))),
                    2 => {
                        // Objects count too: what they need cannot be taken away.
                        objects[which] += u64::from(account.new_object::<Sm>().is_ok());
                    }
                    _ if !held.is_empty() => {
                        let (owner, page) = held.swap_remove(pick.index(held.len()));
                        accounts[owner].free(page, 0);
                    }
                    _ => {}
                }
                prop_assert_eq!(accounts.iter().map(|a| a.figures().0).sum::<u64>(), 90);
                for (i, account) in accounts.iter().enumerate() {
                    let (quota, used) = account.figures();
                    prop_assert!(used <= quota);
                    let pages = held.iter().filter(|h| h.0 == i).count() as u64;
                    prop_assert_eq!(used, pages.max(objects[i].div_ceil(pool::SLOTS_PER_PAGE)));
                }
            }
        }
    }

    #[test]
    fn each_rank_knows_what_was_adopted_and_not_disowned() {
        let pd = testing::pd(16);
        assert!(pd.is_empty());
        let sms: Vec<&'static Sm> = (0..5).map(|_| testing::object(pd)).collect();
        let (domain, space): (&'static Pd, &'static ObjSpace) = (testing::object(pd), testing::object(pd));
        assert!(pd.newest(Rank::Contexts).is_none() && pd.newest(Rank::SchedulingContexts).is_none());
        assert!(matches!(pd.newest(Rank::Domains), Some(AnyObject::Pd(found)) if found.addr() == domain.addr()));
        assert!(matches!(pd.newest(Rank::Spaces), Some(AnyObject::ObjSpace(found)) if found.addr() == space.addr()));
        for i in [2, 0, 4] {
            pd.disown(sms[i]);
        }
        for expected in [Some(3), Some(1), None] {
            let newest = pd.newest(Rank::Passive);
            let index = |sm: &'static Sm| sms.iter().position(|other| other.addr() == sm.addr());
            assert_eq!(
                newest.and_then(|object| if let AnyObject::Sm(sm) = object { index(sm) } else { None }),
                expected
            );
            // A dead one is passed over, but there.
            expected.map(|i| object::retire(sms[i]));
        }
        pd.disown(domain);
        pd.disown(space);
        assert!(!pd.is_empty());
        [3, 1].into_iter().for_each(|i| pd.disown(sms[i]));
        assert!(pd.is_empty());
    }

    #[test]
    fn a_closed_account_pays_nothing_and_returns_all() {
        let parent = testing::pd(100);
        let child: &'static Pd = parent.new_object().unwrap();
        parent.withdraw(40).unwrap();
        child.init(40);
        child.close();
        assert_eq!(child.alloc(0).err(), Some(Status::OutOfMemory));
        child.return_quota(parent);
        assert_eq!(parent.figures().0, 100);
    }
}
