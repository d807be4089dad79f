//! PD: a component's account, memory and address space, and its protection domain in the kernel.

use crate::Core;
use crate::account::{AccountError, AccountId, Resources};
use crate::affinity::CpuSet;
use crate::dataspace::{Content, Dataspace};
use crate::kernel::Machine;
use crate::object::{Handle, Key, Kind};
use crate::ranges::Range;
use crate::regions::natural_alignment;
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Perms, Sel, root};
use abi::event::host;
use abi::hypercall::SpaceKind;
use abi::session::dataspace::Dataspace as DataspaceInterface;
use abi::session::parent::Parent;
use abi::session::pd::{
    self, Account, AllocError, CLEAR_STEP, NotOwned, Pd as PdInterface, Platform, RefAccountError, TransferError,
};
use abi::session::region_map::RegionMap;
use abi::session::wire::Typed;
use abi::session::{initial, rpc::Interface};
use abi::status::Status;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

/// A protection domain.
#[derive(Clone, Debug)]
pub struct Pd {
    /// Who it is.
    pub label: String,
    /// What it has.
    pub account: AccountId,
    /// The kernel's protection domain.
    pub kernel: Sel,
    /// Its object space.
    pub objects: Sel,
    /// Its memory space.
    pub memory: Sel,
    /// Its port space. Threads keep the one that there was when they were made, so it is there from the start.
    pub ports: Sel,
    /// Its region map.
    pub map: Key,
    /// Where the events of its threads arrive.
    pub events: Key,
    /// RAM that it has allocated.
    pub ram: BTreeSet<Key>,
    /// What of that is being cleared, by size: the dataspace, which nobody knows yet, and the bytes that are zero.
    pub clearing: BTreeMap<u64, (Key, u64)>,
    /// CPUs that it may know of.
    pub cpus: CpuSet,
}

const fn alloc_error(error: AccountError) -> AllocError {
    match error {
        AccountError::OutOfRam => AllocError::OutOfRam,
        AccountError::OutOfCaps => AllocError::OutOfCaps,
        AccountError::Invalid | AccountError::InUse => AllocError::Denied,
    }
}

/// Selectors of a PD in core: the kernel's protection domain, object space, memory space, port space.
const SELECTORS: u64 = 4;

/// The session that a call is for.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> Call<'_, '_, M> {
    fn own(&self) -> Option<AccountId> {
        self.core.pds.get(&self.key).map(|pd| pd.account)
    }

    fn transfer(&mut self, to: Handle, amount: Resources) -> Result<(), TransferError> {
        let to = to.own().and_then(|key| self.core.pds.get(&key)).ok_or(TransferError::Invalid)?.account;
        let from = self.own().ok_or(TransferError::Invalid)?;
        self.core.ledger.transfer(from, to, amount).map_err(|error| match error {
            AccountError::OutOfRam | AccountError::OutOfCaps => TransferError::Exceeded,
            AccountError::Invalid | AccountError::InUse => TransferError::Invalid,
        })
    }
}

impl<M: Machine> pd::Server<Handle> for Call<'_, '_, M> {
    fn alloc_ram_step(&mut self, size: u64) -> Result<Typed<DataspaceInterface, Handle>, AllocError> {
        self.core.alloc_ram_step(self.key, size).map(|key| Typed::new(Handle::Own(key)))
    }

    fn free_ram(&mut self, dataspace: Typed<DataspaceInterface, Handle>) -> Result<(), NotOwned> {
        let key = dataspace.into_name().own().ok_or(NotOwned::NotOwned)?;
        self.core.free_ram(self.key, key)
    }

    fn account(&mut self) -> Account {
        let Some(pd) = self.core.pds.get(&self.key) else {
            return Account::default();
        };
        let (quota, used) = (self.core.ledger.quota(pd.account), self.core.ledger.used(pd.account));
        let (quota, used) = (quota.unwrap_or_default(), used.unwrap_or_default());
        let (_, pages) = self.core.kernel.pages(pd.kernel);
        Account { ram_quota: quota.ram, ram_used: used.ram, cap_quota: quota.caps, cap_used: used.caps + pages }
    }

    fn ref_account(&mut self, pd: Typed<PdInterface, Handle>) -> Result<(), RefAccountError> {
        let reference = pd.into_name().own().and_then(|key| self.core.pds.get(&key));
        let reference = reference.ok_or(RefAccountError::Invalid)?.account;
        let account = self.own().filter(|&own| own != reference).ok_or(RefAccountError::Invalid)?;
        self.core.ledger.set_reference(account, reference).map_err(|_| RefAccountError::AlreadySet)
    }

    fn transfer_ram(&mut self, to: Typed<PdInterface, Handle>, amount: u64) -> Result<(), TransferError> {
        self.transfer(to.into_name(), Resources::ram(amount))
    }

    fn transfer_caps(&mut self, to: Typed<PdInterface, Handle>, amount: u64) -> Result<(), TransferError> {
        self.transfer(to.into_name(), Resources::caps(amount))
    }

    fn address_space(&mut self) -> Typed<RegionMap, Handle> {
        let map = self.core.pds.get(&self.key).map(|pd| pd.map);
        Typed::new(map.map_or(Handle::Nothing, Handle::Own))
    }

    /// None of core's own objects is anybody's parent but init's.
    fn assign_parent(&mut self, parent: Typed<Parent, Handle>) {
        if let Handle::Foreign(parent, _) = parent.into_name() {
            self.core.assign_parent(self.key, parent);
        }
    }

    fn platform(&mut self) -> Platform {
        let cpus = self.core.pds.get(&self.key).map_or(0, |pd| pd.cpus.count());
        Platform { tsc_hz: self.core.machine_info.tsc_hz, cpus, features: self.core.machine_info.features.bits() }
    }
}

impl<M: Machine> Core<'_, M> {
    /// Makes a protection domain whose account is `account`.
    ///
    /// # Errors
    /// The account cannot pay; nothing has changed then.
    pub(crate) fn create_pd(&mut self, label: &str, account: AccountId, cpus: CpuSet) -> Result<Key, AccountError> {
        let key = self.create_object(Kind::Pd, account)?;
        self.create_pd_parts(key, label, account, cpus).map(|()| key).inspect_err(|_| self.destroy_object(key))
    }

    fn create_pd_parts(&mut self, key: Key, label: &str, account: AccountId, cpus: CpuSet) -> Result<(), AccountError> {
        let kernel = self.alloc_selectors(SELECTORS)?;
        let memory = kernel.offset(2);
        let Some(user) = Range::new(PAGE_SIZE, initial::STACK_BASE + STACK_AREA_SIZE - PAGE_SIZE) else {
            return Err(AccountError::Invalid);
        };
        let made = self.create_map(user, Some(memory), account).and_then(|map| {
            let events = self.create_object(Kind::Events, account);
            events.map(|events| (map, events)).inspect_err(|_| self.destroy_map(map))
        });
        let (map, events) = made.inspect_err(|_| self.free_selectors(kernel, SELECTORS))?;
        let pd = Pd {
            label: label.into(),
            account,
            kernel,
            objects: kernel.offset(1),
            memory,
            ports: kernel.offset(3),
            map,
            events,
            ram: BTreeSet::new(),
            clearing: BTreeMap::new(),
            cpus,
        };
        self.events.insert(events, key);
        let result = self.create_kernel_pd(&pd);
        self.pds.insert(key, pd);
        result.inspect_err(|_| self.destroy_pd_parts(key))
    }

    fn create_kernel_pd(&mut self, pd: &Pd) -> Result<(), AccountError> {
        let (quota, used) = (self.ledger.quota(pd.account)?, self.ledger.used(pd.account)?);
        let out_of_caps = |_| AccountError::OutOfCaps;
        self.kernel.create_pd(pd.kernel, quota.saturating_sub(used).caps).map_err(out_of_caps)?;
        self.ledger.set_purse(pd.account, pd.kernel)?;
        self.kernel.create_space(pd.objects, pd.kernel, SpaceKind::Object).map_err(out_of_caps)?;
        self.kernel.create_space(pd.memory, pd.kernel, SpaceKind::Memory).map_err(out_of_caps)?;
        self.kernel.create_space(pd.ports, pd.kernel, SpaceKind::Pio).map_err(out_of_caps)?;
        let give = |sel, at, perms| self.kernel.give_cap(sel, pd.objects, at, perms).map_err(out_of_caps);
        give(pd.kernel, initial::PD, Perms::PD_CREATE)?;
        give(pd.objects, initial::OBJ, Perms::SPACE_GRANT | Perms::SPACE_TAKE)?;
        (0..host::COUNT).try_for_each(|event| give(pd.events.0, initial::EVENT_BASE.offset(event), Perms::PT_EVENT))
    }

    /// Destroys a protection domain: threads, spaces and everything it made go with it, and its quota returns to its
    /// account, which the caller closes.
    pub(crate) fn destroy_pd(&mut self, key: Key) {
        self.destroy_pd_parts(key);
        self.destroy_object(key);
    }

    fn destroy_pd_parts(&mut self, key: Key) {
        let Some(pd) = self.pds.remove(&key) else {
            return;
        };
        // Before the memory goes, nobody may run in it.
        self.kernel.destroy(pd.kernel);
        self.unbind_pd(key);
        let returned = self.ledger.set_purse(pd.account, root::PD);
        debug_assert!(returned.is_ok(), "a PD has an account");
        self.events.remove(&pd.events);
        self.destroy_object(pd.events);
        self.destroy_map(pd.map);
        for &dataspace in &pd.ram {
            self.release_ram(dataspace, pd.account);
        }
        self.free_selectors(pd.kernel, SELECTORS);
    }

    /// Makes sessions of others forget a protection domain that goes: its key may name another one later.
    fn unbind_pd(&mut self, key: Key) {
        for thread in self.threads.values_mut() {
            thread.pd = thread.pd.filter(|&pd| pd != key);
        }
        for ports in self.io_ports.values_mut() {
            ports.pd = ports.pd.filter(|&pd| pd != key);
        }
        self.unbind_vms(key);
    }

    /// Goes on with an allocation of zeroed RAM, or begins one.
    ///
    /// # Errors
    /// As [`AllocError`] says; nothing has changed then, except with [`AllocError::Unfinished`].
    pub(crate) fn alloc_ram_step(&mut self, pd: Key, size: u64) -> Result<Key, AllocError> {
        let size = size.checked_next_multiple_of(PAGE_SIZE).filter(|&size| size > 0).ok_or(AllocError::Denied)?;
        let owner = self.pds.get_mut(&pd).ok_or(AllocError::Denied)?;
        let account = owner.account;
        let (key, cleared) = match owner.clearing.remove(&size) {
            Some(begun) => begun,
            None => (self.begin_ram(pd, size, account).map_err(alloc_error)?, 0),
        };
        let step = CLEAR_STEP.min(size - cleared);
        let part = self.physical(key).and_then(|memory| Range::new(memory.base() + cleared, step));
        let zeroed = part.map_or(Err(Status::BadParameter), |part| self.kernel.0.zero(part));
        let owner = self.pds.get_mut(&pd).ok_or(AllocError::Denied)?;
        if let Err(status) = zeroed {
            owner.ram.remove(&key);
            self.release_ram(key, account);
            self.log(format_args!("{part:x?} cannot be cleared: {status:?}"));
            return Err(AllocError::Denied);
        }
        if cleared + step < size {
            owner.clearing.insert(size, (key, cleared + step));
            return Err(AllocError::Unfinished);
        }
        Ok(key)
    }

    /// Takes RAM, which is not clear yet, with all that it costs.
    fn begin_ram(&mut self, pd: Key, size: u64, account: AccountId) -> Result<Key, AccountError> {
        self.ledger.charge(account, Resources::ram(size))?;
        let taken = self.take_ram(size).ok_or(AccountError::Invalid);
        let made = taken.and_then(|memory| {
            let key = self.create_object(Kind::Dataspace, account);
            key.map(|key| (memory, key)).inspect_err(|_| self.return_ram(memory))
        });
        let (memory, key) = made.inspect_err(|_| self.credit(account, Resources::ram(size)))?;
        let rights = MemRights::READ | MemRights::WRITE | MemRights::EXEC;
        self.dataspaces.insert(key, Dataspace::physical(memory, rights));
        if let Some(pd) = self.pds.get_mut(&pd) {
            pd.ram.insert(key);
        }
        Ok(key)
    }

    /// Where a dataspace of memory is.
    pub(crate) fn physical(&self, dataspace: Key) -> Option<Range> {
        match self.dataspaces.get(&dataspace)?.content {
            Content::Physical { memory, .. } => Some(memory),
            Content::Map(_) => None,
        }
    }

    /// Contiguous RAM, aligned for the largest pages if there is such.
    fn take_ram(&mut self, size: u64) -> Option<Range> {
        let best = natural_alignment(size);
        self.ram.alloc(size, best).or_else(|| self.ram.alloc(size, PAGE_SIZE))
    }

    fn return_ram(&mut self, memory: Range) {
        let freed = self.ram.free(memory);
        debug_assert!(freed.is_ok(), "{memory:?} freed twice");
    }

    fn free_ram(&mut self, pd: Key, dataspace: Key) -> Result<(), NotOwned> {
        let owner = self.pds.get_mut(&pd).ok_or(NotOwned::NotOwned)?;
        let is_clearing = owner.clearing.values().any(|&(key, _)| key == dataspace);
        if is_clearing || !owner.ram.remove(&dataspace) {
            return Err(NotOwned::NotOwned);
        }
        let account = owner.account;
        self.release_ram(dataspace, account);
        Ok(())
    }

    fn release_ram(&mut self, key: Key, account: AccountId) {
        if let Some(Dataspace { content: Content::Physical { memory, .. }, .. }) = self.destroy_dataspace(key) {
            self.return_ram(memory);
            self.credit(account, Resources::ram(memory.size()));
        }
    }

    /// Puts the capability to its parent where a component expects it.
    pub(crate) fn assign_parent(&mut self, pd: Key, parent: Sel) {
        if let Some(pd) = self.pds.get(&pd)
            && self.kernel.give_cap(parent, pd.objects, initial::PARENT, Perms::PT_CALL).is_err()
        {
            self.log(format_args!("{}: no room for the capability to its parent", pd.label));
        }
    }
}

/// Bytes of the stack area.
const STACK_AREA_SIZE: u64 = initial::STACK_SLOT_SIZE * initial::STACK_SLOTS;

/// A donation must at least make the kernel objects that every PD has.
const _: () = assert!(PdInterface::CAP_QUOTA >= 8);
