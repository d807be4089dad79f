//! Opening and closing sessions of core's services: what a client must donate, and who pays.

use crate::Core;
use crate::account::{AccountError, AccountId, Resources};
use crate::cpu::{Band, Cpu};
use crate::kernel::Machine;
use crate::object::{Key, Kind};
use crate::rm::Rm;
use crate::vm::Vm;
use abi::hip::Features;
use abi::session::affinity::Affinity;
use abi::session::args::{Args, last_element};
use abi::session::parent::{Quota, SessionError};
use abi::session::rpc::Interface;
use abi::session::{cpu, io_mem, io_port, irq, log, pd, rm, rom, vm};
use alloc::collections::BTreeSet;

/// A session of core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// Its object.
    pub key: Key,
    /// What its client donated.
    pub account: AccountId,
}

/// The kind of object and the least donation of a service; `None` if core has no such service.
fn service(name: &str) -> Option<(Kind, Quota)> {
    Some(match name {
        rom::Rom::NAME => (Kind::Rom, rom::Rom::LEAST),
        log::Log::NAME => (Kind::Log, log::Log::LEAST),
        pd::Pd::NAME => (Kind::Pd, pd::Pd::LEAST),
        cpu::Cpu::NAME => (Kind::Cpu, cpu::Cpu::LEAST),
        rm::Rm::NAME => (Kind::Rm, rm::Rm::LEAST),
        io_mem::IoMem::NAME => (Kind::IoMem, io_mem::IoMem::LEAST),
        io_port::IoPort::NAME => (Kind::IoPort, io_port::IoPort::LEAST),
        irq::Irq::NAME => (Kind::Irq, irq::Irq::LEAST),
        vm::Vm::NAME => (Kind::Vm, vm::Vm::LEAST),
        _ => return None,
    })
}

/// Session error of a payment out of the client's own account.
fn own(error: AccountError) -> SessionError {
    match error {
        AccountError::OutOfRam => SessionError::OutOfRam,
        AccountError::OutOfCaps => SessionError::OutOfCaps,
        AccountError::Invalid | AccountError::InUse => SessionError::Denied,
    }
}

/// Session error of a payment out of the donation.
fn donated(error: AccountError) -> SessionError {
    match error {
        AccountError::OutOfRam => SessionError::InsufficientRam,
        AccountError::OutOfCaps => SessionError::InsufficientCaps,
        AccountError::Invalid | AccountError::InUse => SessionError::Denied,
    }
}

impl<M: Machine> Core<'_, M> {
    /// Opens a session out of the account of `payer`.
    ///
    /// # Errors
    /// As [`SessionError`] says; nothing has changed then.
    pub(crate) fn open_session(
        &mut self,
        payer: AccountId,
        name: &str,
        args: Args<'_>,
        affinity: &Affinity,
    ) -> Result<Session, SessionError> {
        let Some((kind, least)) = service(name) else {
            self.log(format_args!("no service \"{name}\" (wanted by \"{}\")", args.label()));
            return Err(SessionError::Denied);
        };
        let quota = args.quota();
        if quota.ram < least.ram {
            return Err(SessionError::InsufficientRam);
        }
        if quota.caps < least.caps {
            return Err(SessionError::InsufficientCaps);
        }
        let account = self.ledger.open(payer, quota.into()).map_err(own)?;
        match self.create_session(kind, account, args, affinity) {
            Ok(key) => Ok(Session { key, account }),
            Err(error) => {
                self.close_account(account);
                Err(error)
            }
        }
    }

    fn create_session(
        &mut self,
        kind: Kind,
        account: AccountId,
        args: Args<'_>,
        affinity: &Affinity,
    ) -> Result<Key, SessionError> {
        let cpus = self.machine_info.cpus.select(affinity);
        let simple = |core: &mut Self| core.create_object(kind, account).map_err(donated);
        match kind {
            Kind::Rom => self.open_rom(args, account),
            Kind::Log => simple(self).inspect(|&key| drop(self.logs.insert(key, args.label().into()))),
            Kind::Pd => self.create_pd(args.label(), account, cpus).map_err(donated),
            Kind::Cpu => {
                let session = Cpu { account, band: Band::of(args), cpus, threads: BTreeSet::new() };
                simple(self).inspect(|&key| drop(self.cpus.insert(key, session)))
            }
            Kind::Rm => {
                let session = Rm { account, maps: BTreeSet::new() };
                simple(self).inspect(|&key| drop(self.rms.insert(key, session)))
            }
            Kind::IoMem => self.exclusive("memory", args, |core| core.open_io_mem(args, account)),
            Kind::IoPort => self.exclusive("ports", args, |core| core.open_io_port(args, account)),
            Kind::Irq => self.exclusive("interrupt", args, |core| core.open_irq(args, account)),
            Kind::Vm => {
                if !self.machine_info.features.intersects(Features::SVM | Features::VMX) {
                    self.log(format_args!("VM service absent: {}", self.machine_info.vcpu_absence));
                    return Err(SessionError::Denied);
                }
                let guest_memory = Vm::guest_memory().ok_or(SessionError::Denied)?;
                let session = Vm::new(account, Band::of(args), cpus, guest_memory);
                simple(self).inspect(|&key| drop(self.vms.insert(key, session)))
            }
            Kind::Parent | Kind::Events | Kind::RegionMap | Kind::Dataspace | Kind::CpuThread => {
                Err(SessionError::Denied)
            }
        }
    }

    fn open_rom(&mut self, args: Args<'_>, account: AccountId) -> Result<Key, SessionError> {
        let name = last_element(args.label());
        let Some(&module) = self.modules.get(name) else {
            self.log(format_args!("no boot module \"{name}\" (wanted as \"{}\")", args.label()));
            return Err(SessionError::Denied);
        };
        let key = self.create_object(Kind::Rom, account).map_err(donated)?;
        self.roms.insert(key, module);
        Ok(key)
    }

    /// Opens a session of which there can be only one.
    fn exclusive(
        &mut self,
        what: &str,
        args: Args<'_>,
        open: impl FnOnce(&mut Self) -> Option<Result<Key, AccountError>>,
    ) -> Result<Key, SessionError> {
        match open(self) {
            Some(result) => result.map_err(donated),
            None => {
                self.log(format_args!("{what} not available: {}", args.0));
                Err(SessionError::Denied)
            }
        }
    }

    /// Adds to the donation of a session.
    ///
    /// # Errors
    /// The payer lacks something.
    pub(crate) fn upgrade_session(&mut self, session: Session, more: Resources) -> Result<(), AccountError> {
        self.ledger.upgrade(session.account, more)
    }

    /// Closes a session: everything in it goes, and the donation returns.
    pub(crate) fn close_session(&mut self, session: Session) {
        let key = session.key;
        match self.objects.get(&key).map(|object| object.kind) {
            Some(Kind::Pd) => self.destroy_pd(key),
            Some(Kind::Cpu) => self.destroy_cpu(key),
            Some(Kind::Rm) => self.destroy_rm(key),
            Some(Kind::IoMem) => self.destroy_io_mem(key),
            Some(Kind::IoPort) => self.destroy_io_port(key),
            Some(Kind::Irq) => self.destroy_irq(key),
            Some(Kind::Vm) => self.destroy_vm(key),
            _ => {
                self.roms.remove(&key);
                self.logs.remove(&key);
                self.destroy_object(key);
            }
        }
        self.close_account(session.account);
    }

    fn close_account(&mut self, account: AccountId) {
        let closed = self.ledger.close(account);
        debug_assert!(closed.is_ok(), "{account:?} still pays for something: {closed:?}");
    }
}
