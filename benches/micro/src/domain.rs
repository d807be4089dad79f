//! The other protection domain, and portal handlers here and there.

use crate::asm::{handlers, hypercall, pages};
use crate::memory;
use crate::selectors::{DOMAIN, DOMAIN_MEM, DOMAIN_OBJ, HANDLERS, NOTHING};
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Sel, root};
use abi::hypercall::{CpuId, CreateEc, CreatePd, CreatePt, CreateSpace, EcBody, SpaceKind};
use abi::state::Mtd;
use abi::status::Status;

/// Pages of kernel memory of the other domain.
const QUOTA: u64 = 512;

/// Entry of a portal.
pub type Entry = unsafe extern "sysv64" fn() -> !;

/// A portal handler.
#[derive(Clone, Copy, Debug)]
pub struct LocalEc {
    /// Selector.
    pub ec: Sel,
    /// Domain.
    pub pd: Sel,
    /// CPU.
    pub cpu: u16,
    /// Address of its UTCB.
    pub utcb: u64,
}

/// Handler of exceptions and exits, in this task.
pub const EVENTS: LocalEc = LocalEc { ec: HANDLERS, pd: root::PD, cpu: 0, utcb: handlers::EVENT_UTCB };
/// Handler of calls inside this task.
pub const HERE: LocalEc = LocalEc { ec: Sel(HANDLERS.0 + 1), utcb: handlers::LOCAL_UTCB, ..EVENTS };
/// Handler in the other domain.
pub const THERE: LocalEc = LocalEc { ec: Sel(HANDLERS.0 + 2), pd: DOMAIN, utcb: handlers::CALL_UTCB, ..EVENTS };
/// Handler on another CPU, in this task.
pub const ELSEWHERE: LocalEc = LocalEc { ec: Sel(HANDLERS.0 + 3), cpu: 1, utcb: handlers::REMOTE_UTCB, ..EVENTS };

impl LocalEc {
    /// Creates it.
    pub fn create(self) -> Result<Self, Status> {
        // The handlers use no stack, but a local EC has one.
        let body = EcBody::Local { utcb: self.utcb, sp: PAGE_SIZE };
        let Self { ec: dst, pd, .. } = self;
        let cpu = CpuId(self.cpu);
        hypercall(CreateEc { dst, pd, cpu, event_base: NOTHING, body }.encode())?;
        Ok(self)
    }

    /// Creates a portal of it.
    pub fn portal(self, dst: Sel, entry: Entry, mtd: Mtd) -> Result<(), Status> {
        let ip = entry as usize as u64;
        hypercall(CreatePt { dst, pd: root::PD, ec: self.ec, ip, id: 0, mtd }.encode())?;
        Ok(())
    }
}

/// Creates the other domain, with an object and a memory space in which the code of `entries` is mapped.
pub fn create(entries: &[Entry]) -> Result<(), Status> {
    hypercall(CreatePd { dst: DOMAIN, parent: root::PD, quota: QUOTA }.encode())?;
    for (dst, kind) in [(DOMAIN_OBJ, SpaceKind::Object), (DOMAIN_MEM, SpaceKind::Memory)] {
        hypercall(CreateSpace { dst, pd: DOMAIN, kind }.encode())?;
    }
    let first = |entry: &Entry| *entry as usize as u64 / PAGE_SIZE;
    let pages = entries.iter().map(first).min().zip(entries.iter().map(first).max());
    let (first, last) = pages.ok_or(Status::BadParameter)?;
    // A handler may cross the end of its page.
    for (index, page) in (0..).zip(first..=last + 1) {
        let rights = MemRights::READ | MemRights::EXEC;
        memory::map(root::MEM, pages::copy(page, index), DOMAIN_MEM, page, 1, rights)?;
    }
    Ok(())
}
