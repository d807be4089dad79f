//! The kernel and the memory below core, for real.

use abi::cap::Sel;
use abi::hypercall::{AssignInt, CreateEc, CreatePd, CreateSc, CreateSm, CreateSpace, CtrlPd, Delegate};
use abi::state::Mtd;
use abi::status::Status;
use core::fmt;
use kilonova_core::kernel::Machine;
use kilonova_core::ranges::Range;
use runtime::console;
use runtime::sys::portal::LocalEc;
use runtime::sys::{physical, syscall};

/// The machine, with the context that handles core's portals.
#[derive(Debug)]
pub struct Hardware {
    handler: LocalEc,
}

impl Hardware {
    /// With this handler for all portals.
    pub const fn new(handler: LocalEc) -> Self {
        Self { handler }
    }
}

impl Machine for Hardware {
    fn create_portal(&self, sel: Sel) -> Result<(), Status> {
        self.handler.create_portal(sel, sel.0, Mtd::empty())
    }
    fn create_pd(&self, create: CreatePd) -> Result<(), Status> {
        syscall::create_pd(create).map(drop)
    }
    fn create_space(&self, create: CreateSpace) -> Result<(), Status> {
        syscall::create_space(create).map(drop)
    }
    fn create_ec(&self, create: CreateEc) -> Result<(), Status> {
        syscall::create_foreign_ec(create)
    }
    fn create_sc(&self, create: CreateSc) -> Result<(), Status> {
        syscall::create_sc(create).map(drop)
    }
    fn create_sm(&self, create: CreateSm) -> Result<(), Status> {
        syscall::create_sm(create).map(drop)
    }
    fn destroy(&self, object: Sel) -> Result<(), Status> {
        syscall::destroy(object)
    }
    fn delegate(&self, delegate: Delegate) -> Result<u64, Status> {
        syscall::delegate(delegate)
    }
    fn ctrl_pd(&self, ctrl: CtrlPd) -> Result<(u64, u64), Status> {
        syscall::ctrl_pd(ctrl).map(|values| (values.rdx, values.r8))
    }
    fn consumed(&self, sc: Sel) -> Result<u64, Status> {
        syscall::consumed(sc)
    }
    fn sm_up(&self, sm: Sel) -> Result<(), Status> {
        syscall::sm_up(sm)
    }
    fn assign_int(&self, assign: AssignInt) -> Result<(u64, u64), Status> {
        syscall::assign_int(assign).map(|values| (values.rdx, values.r8))
    }
    fn zero(&self, memory: Range) -> Result<(), Status> {
        physical::zero(memory.base(), memory.size())
    }
    fn copy(&self, from: Range, to: Range) -> Result<(), Status> {
        physical::copy(from.base(), to.base(), from.size().min(to.size()))
    }
    fn read(&self, address: u64, into: &mut [u8]) {
        if physical::read(address, into).is_err() {
            into.fill(0);
        }
    }
    fn log(&self, line: fmt::Arguments<'_>) {
        console::write_line(line);
    }
}
