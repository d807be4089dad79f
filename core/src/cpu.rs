//! CPU: threads, inside the priority band and on the CPUs of a session.

use crate::Core;
use crate::account::{AccountError, AccountId};
use crate::affinity::CpuSet;
use crate::kernel::Machine;
use crate::object::{Handle, Key, Kind};
use abi::cap::Sel;
use abi::hypercall::{CpuId, CreateEc, CreateSc, EcBody};
use abi::session::args::Args;
use abi::session::cpu::{self, CreateError, NoSuchCpu, PRIORITY, PRIORITY_LIMIT, THREAD_NAME_MAX, ThreadPlace};
use abi::session::cpu_thread::{self, CpuThread, StartError};
use abi::session::initial;
use abi::session::pd::Pd;
use abi::session::wire::{Text, Typed};
use abi::status::Status;
use abi::{PAGE_SIZE, USER_TOP};
use alloc::collections::BTreeSet;

/// Highest priority of components: core's own handlers are above.
const HIGHEST: u8 = CreateSc::PRIORITIES - 2;
/// Lowest priority of components.
const LOWEST: u8 = 1;
/// Time that a thread runs before others of its priority.
pub const BUDGET_US: u32 = 10_000;

/// Priorities that a session may use: its highest, and all below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Band(u8);

impl Band {
    /// The band that session arguments ask for.
    #[must_use]
    pub fn of(args: Args<'_>) -> Self {
        let below = args.number(PRIORITY).unwrap_or(0).min(PRIORITY_LIMIT - 1);
        let steps = below * u64::from(HIGHEST - LOWEST + 1) / PRIORITY_LIMIT;
        // At most HIGHEST - LOWEST.
        Self(HIGHEST - steps as u8)
    }

    /// The priority some steps below the highest, or the lowest there is.
    #[must_use]
    pub fn below(self, steps: u32) -> u8 {
        self.0.saturating_sub(u8::try_from(steps).unwrap_or(u8::MAX)).max(LOWEST)
    }
}

/// A CPU session.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// What pays for it.
    pub account: AccountId,
    /// Its priorities.
    pub band: Band,
    /// Its CPUs.
    pub cpus: CpuSet,
    /// Its threads.
    pub threads: BTreeSet<Key>,
}

/// A thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Protection domain that it runs in, as long as that exists.
    pub pd: Option<Key>,
    /// Its name.
    pub name: Text<THREAD_NAME_MAX>,
    cpu: CpuId,
    priority: u8,
    utcb: u64,
    /// Execution context, followed by the scheduling context, once it was started.
    started: Option<Sel>,
}

/// Selectors of a started thread.
const SELECTORS: u64 = 2;

/// The session that a call is for.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> cpu::Server<Handle> for Call<'_, '_, M> {
    fn create_thread(
        &mut self,
        pd: Typed<Pd, Handle>,
        name: Text<THREAD_NAME_MAX>,
        place: ThreadPlace,
    ) -> Result<Typed<CpuThread, Handle>, CreateError> {
        let pd = pd.into_name().own().filter(|key| self.core.pds.contains_key(key)).ok_or(CreateError::InvalidPd)?;
        let session = self.core.cpus.get(&self.key).ok_or(CreateError::NoSuchCpu)?;
        let cpu = session.cpus.get(place.cpu).ok_or(CreateError::NoSuchCpu)?;
        if !place.utcb.is_multiple_of(PAGE_SIZE) || place.utcb == 0 || place.utcb >= USER_TOP {
            return Err(CreateError::BadUtcb);
        }
        let priority = session.band.below(place.below);
        let key = self.core.create_object(Kind::CpuThread, session.account).map_err(|error| match error {
            AccountError::OutOfRam => CreateError::OutOfRam,
            _ => CreateError::OutOfCaps,
        })?;
        self.core.threads.insert(key, Thread { pd: Some(pd), name, cpu, priority, utcb: place.utcb, started: None });
        if let Some(session) = self.core.cpus.get_mut(&self.key) {
            session.threads.insert(key);
        }
        Ok(Typed::new(Handle::Own(key)))
    }

    fn physical_cpu(&mut self, cpu: u32) -> Result<u16, NoSuchCpu> {
        let session = self.core.cpus.get(&self.key).ok_or(NoSuchCpu::NoSuchCpu)?;
        session.cpus.get(cpu).map(|cpu| cpu.0).ok_or(NoSuchCpu::NoSuchCpu)
    }

    fn kill_thread(&mut self, thread: Typed<CpuThread, Handle>) {
        let session = self.core.cpus.get_mut(&self.key);
        if let (Some(key), Some(session)) = (thread.into_name().own(), session)
            && session.threads.remove(&key)
        {
            self.core.destroy_thread(key);
        }
    }
}

/// The thread that a call is for.
pub(crate) struct ThreadCall<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> cpu_thread::Server<Handle> for ThreadCall<'_, '_, M> {
    fn start(&mut self, ip: u64, sp: u64) -> Result<(), StartError> {
        self.core.start_thread(self.key, ip, sp)
    }

    fn consumed(&mut self) -> u64 {
        let started = self.core.threads.get(&self.key).and_then(|thread| thread.started);
        started.map_or(0, |ec| self.core.kernel.0.consumed(ec.offset(1)).unwrap_or(0))
    }
}

impl<M: Machine> Core<'_, M> {
    /// Starts a thread.
    ///
    /// # Errors
    /// As [`StartError`] says; nothing has changed then.
    pub(crate) fn start_thread(&mut self, key: Key, ip: u64, sp: u64) -> Result<(), StartError> {
        if ip >= USER_TOP || sp > USER_TOP {
            return Err(StartError::BadAddress);
        }
        let sel = self.alloc_selectors(SELECTORS).map_err(|_| StartError::OutOfCaps)?;
        let result = self.start_thread_at(key, sel, ip, sp);
        if result.is_err() {
            self.kernel.destroy(sel);
            self.free_selectors(sel, SELECTORS);
        }
        result
    }

    fn start_thread_at(&mut self, key: Key, ec: Sel, ip: u64, sp: u64) -> Result<(), StartError> {
        let thread = self.threads.get_mut(&key).filter(|thread| thread.started.is_none());
        let thread = thread.ok_or(StartError::AlreadyStarted)?;
        let pd = thread.pd.and_then(|pd| self.pds.get(&pd)).ok_or(StartError::OutOfCaps)?.kernel;
        let start_error = |status| match status {
            Status::OutOfMemory => StartError::OutOfCaps,
            _ => StartError::BadAddress,
        };
        let body = EcBody::Thread { utcb: thread.utcb, sp, ip };
        let create = CreateEc { dst: ec, pd, cpu: thread.cpu, event_base: initial::EVENT_BASE, body };
        self.kernel.0.create_ec(create).map_err(start_error)?;
        let sc = CreateSc { dst: ec.offset(1), pd, ec, priority: thread.priority, budget_us: BUDGET_US };
        self.kernel.0.create_sc(sc).map_err(start_error)?;
        thread.started = Some(ec);
        Ok(())
    }

    /// Destroys a thread.
    pub(crate) fn destroy_thread(&mut self, key: Key) {
        if let Some(ec) = self.threads.remove(&key).and_then(|thread| thread.started) {
            self.kernel.destroy(ec.offset(1));
            self.kernel.destroy(ec);
            self.free_selectors(ec, SELECTORS);
        }
        self.destroy_object(key);
    }

    /// Closes a CPU session.
    pub(crate) fn destroy_cpu(&mut self, key: Key) {
        for thread in self.cpus.remove(&key).map(|session| session.threads).unwrap_or_default() {
            self.destroy_thread(thread);
        }
        self.destroy_object(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_all_priorities() {
        assert_eq!(Band::of(Args("")), Band(HIGHEST));
        assert_eq!(Band::of(Args("priority=65535")), Band(LOWEST));
        assert_eq!(Band::of(Args("priority=99999999")), Band(LOWEST));
        assert_eq!(Band::of(Args("priority=32768")).below(0), 63);
        assert_eq!(Band(10).below(3), 7);
        assert_eq!(Band(10).below(u32::MAX), LOWEST);
    }
}
