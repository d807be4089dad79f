//! The kernel as core uses it: hypercalls with core's conventions, over a [`Machine`] that tests can replace.

use crate::account::{AccountError, KernelAccounts};
use crate::ranges::Range;
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Perms, Sel, root};
use abi::hypercall::{
    AssignInt, CpuId, CreateEc, CreatePd, CreateSc, CreateSm, CreateSpace, CtrlPd, Delegate, IntSource, SpaceKind,
};
use abi::status::Status;
use core::fmt;

/// The ground that core stands on: the kernel's calls as they are, physical memory, and the log.
#[allow(clippy::missing_errors_doc, reason = "the kernel's errors are those of its documentation")]
pub trait Machine {
    /// Makes a portal of core at `sel`, with `sel` as its id.
    fn create_portal(&self, sel: Sel) -> Result<(), Status>;
    /// Makes a protection domain.
    fn create_pd(&self, create: CreatePd) -> Result<(), Status>;
    /// Makes a space.
    fn create_space(&self, create: CreateSpace) -> Result<(), Status>;
    /// Makes an execution context of another domain.
    fn create_ec(&self, create: CreateEc) -> Result<(), Status>;
    /// Makes a scheduling context.
    fn create_sc(&self, create: CreateSc) -> Result<(), Status>;
    /// Makes a semaphore.
    fn create_sm(&self, create: CreateSm) -> Result<(), Status>;
    /// Destroys an object.
    fn destroy(&self, object: Sel) -> Result<(), Status>;
    /// Delegates or removes; returns how many units were done. With an error a part may have been done, too.
    fn delegate(&self, delegate: Delegate) -> Result<u64, Status>;
    /// Moves quota, or returns quota and used pages.
    fn ctrl_pd(&self, ctrl: CtrlPd) -> Result<(u64, u64), Status>;
    /// TSC ticks consumed by a scheduling context.
    fn consumed(&self, sc: Sel) -> Result<u64, Status>;
    /// Ups a semaphore.
    fn sm_up(&self, sm: Sel) -> Result<(), Status>;
    /// Routes an interrupt: address and data of a message-signalled one.
    fn assign_int(&self, assign: AssignInt) -> Result<(u64, u64), Status>;
    /// Fills physical memory that nobody else uses with zeros.
    fn zero(&self, memory: Range) -> Result<(), Status>;
    /// Copies between two pieces of physical memory of the same size, of which nobody else uses the second.
    fn copy(&self, from: Range, to: Range) -> Result<(), Status>;
    /// Reads physical memory from `address` on.
    fn read(&self, address: u64, into: &mut [u8]);
    /// Writes a line to the log.
    fn log(&self, line: fmt::Arguments<'_>);
}

/// The kernel.
#[derive(Debug)]
pub struct Kernel<'m, M>(pub &'m M);

impl<M> Clone for Kernel<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M> Copy for Kernel<'_, M> {}

impl<M: Machine> KernelAccounts for Kernel<'_, M> {
    fn move_pages(&self, from: Sel, to: Sel, pages: u64) -> Result<(), AccountError> {
        if from == to || pages == 0 {
            return Ok(());
        }
        self.0.ctrl_pd(CtrlPd::Transfer { to, from, pages }).map(drop).map_err(|_| AccountError::OutOfCaps)
    }
}

#[allow(clippy::missing_errors_doc, reason = "the kernel's errors are those of its documentation")]
impl<M: Machine> Kernel<'_, M> {
    /// Quota and used pages of a protection domain.
    pub fn pages(&self, pd: Sel) -> (u64, u64) {
        self.0.ctrl_pd(CtrlPd::Query { pd }).unwrap_or((0, 0))
    }

    /// Makes a protection domain with `quota` pages of core's.
    pub fn create_pd(&self, dst: Sel, quota: u64) -> Result<(), Status> {
        self.0.create_pd(CreatePd { dst, parent: root::PD, quota })
    }

    /// Makes a space of `pd`.
    pub fn create_space(&self, dst: Sel, pd: Sel, kind: SpaceKind) -> Result<(), Status> {
        self.0.create_space(CreateSpace { dst, pd, kind })
    }

    /// Makes a semaphore of core.
    pub fn create_sm(&self, dst: Sel) -> Result<(), Status> {
        self.0.create_sm(CreateSm { dst, pd: root::PD, count: 0, receiver: Sel::NONE, id: 0 })
    }

    /// Ups a semaphore. That it is gone is not core's business.
    pub fn signal(&self, semaphore: Sel) {
        let _ = self.0.sm_up(semaphore);
    }

    /// Destroys the object at a selector, if it still lives, and empties the selector.
    pub fn destroy(&self, sel: Sel) {
        let _ = self.0.destroy(sel);
        self.drop_caps(sel, 1);
    }

    /// Empties selectors of core.
    pub fn drop_caps(&self, sel: Sel, count: u64) {
        let _ = self.delegate(Delegate { from: root::OBJ, to: root::OBJ, src: 0, dst: sel.0, count, rights: 0 });
    }

    /// Copies a capability of core into an object space.
    pub fn give_cap(&self, sel: Sel, space: Sel, at: Sel, perms: Perms) -> Result<(), Status> {
        let rights = u32::from(perms.bits());
        self.delegate(Delegate { from: root::OBJ, to: space, src: sel.0, dst: at.0, count: 1, rights })
    }

    /// Maps physical memory. All three must be page-aligned. With an error a part may have been mapped.
    pub fn map(&self, memory: Range, space: Sel, at: u64, rights: MemRights) -> Result<(), Status> {
        self.delegate(Delegate {
            from: root::PHYS,
            to: space,
            src: memory.base() / PAGE_SIZE,
            dst: at / PAGE_SIZE,
            count: memory.size() / PAGE_SIZE,
            rights: rights.bits(),
        })
    }

    /// Unmaps page-aligned addresses of a space.
    pub fn unmap(&self, space: Sel, addresses: Range) {
        let (dst, count) = (addresses.base() / PAGE_SIZE, addresses.size() / PAGE_SIZE);
        let _ = self.delegate(Delegate { from: root::PHYS, to: space, src: 0, dst, count, rights: 0 });
    }

    /// Puts I/O ports into a port space, or takes them away.
    pub fn give_ports(&self, ports: Range, space: Sel, allow: bool) -> Result<(), Status> {
        let (src, count) = (ports.base(), ports.size());
        self.delegate(Delegate { from: root::ALL_PIO, to: space, src, dst: src, count, rights: u32::from(allow) })
    }

    /// Lets virtual CPUs in an MSR space reach registers without exit, as far as the kernel switches them.
    pub fn give_msrs(&self, msrs: Range, space: Sel) -> Result<(), Status> {
        let (src, count) = (msrs.base(), msrs.size());
        let rights = (MemRights::READ | MemRights::WRITE).bits();
        self.delegate(Delegate { from: root::ALL_MSR, to: space, src, dst: src, count, rights })
    }

    /// Routes an interrupt to a semaphore: address and data of a message-signalled one.
    pub fn assign_int(&self, sm: Sel, source: IntSource) -> Result<(u64, u64), Status> {
        self.0.assign_int(AssignInt { hw: root::HW, sm, cpu: CpuId(0), source })
    }

    /// Delegates to the end, or until the kernel refuses.
    fn delegate(&self, mut delegate: Delegate) -> Result<(), Status> {
        while delegate.count > 0 {
            let step = self.0.delegate(delegate)?.min(delegate.count);
            if step == 0 {
                return Err(Status::BadParameter);
            }
            delegate.src += step;
            delegate.dst += step;
            delegate.count -= step;
        }
        Ok(())
    }
}
