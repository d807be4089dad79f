//! Pager: resolves the page faults of all components, and stops threads whose fault or exception nobody can resolve.

use crate::Core;
use crate::dataspace::Content;
use crate::kernel::Machine;
use crate::object::Key;
use crate::ranges::Range;
use crate::region_map::{ACCESS, NESTING};
use crate::regions::{Chunk, Region};
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Sel};
use abi::event::{EventWords, host};
use abi::session::region_map::Fault;
use abi::status::Status;
use core::fmt;

/// Vector of a page fault (SDM vol. 3, 6.15).
const PAGE_FAULT: u64 = 14;
/// Bits of its error code (SDM vol. 3, 4.7).
const ERROR_WRITE: u64 = 1 << 1;
const ERROR_FETCH: u64 = 1 << 4;

/// What core does about an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The thread goes on.
    Resume,
    /// The thread is stopped for good.
    Stop,
}

/// Why a page fault was not resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unresolved {
    /// Nothing is attached there.
    NoRegion,
    /// What is attached there does not permit the access.
    Violation,
    /// The component cannot pay for its page tables.
    OutOfCaps,
    /// Device memory that is the hypervisor's own.
    Protected,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRegion => "nothing there",
            Self::Violation => "not permitted",
            Self::OutOfCaps => "no capability quota left for page tables",
            Self::Protected => "the hypervisor's own",
        })
    }
}

/// Physical memory to map.
struct Backing {
    chunk: Chunk,
    rights: MemRights,
}

impl<M: Machine> Core<'_, M> {
    /// Whether portal `id` is one that events arrive at.
    #[must_use]
    pub fn is_events(&self, id: u64) -> bool {
        self.events.contains_key(&Key(Sel(id)))
    }

    /// Handles an event that arrived at portal `id`.
    pub fn handle_event(&mut self, id: u64, event: &EventWords) -> Verdict {
        let Some(pd) = self.events.get(&Key(Sel(id))).copied() else {
            return Verdict::Stop;
        };
        match event.reason {
            PAGE_FAULT => self.handle_page_fault(pd, event),
            host::RECALL => Verdict::Resume,
            reason => {
                self.log_event(pd, format_args!("exception {reason} (error {:#x}), ip {:#x}", event.info1, event.rip));
                self.report(pd, Fault { address: event.rip, access: MemRights::EXEC.bits() });
                Verdict::Stop
            }
        }
    }

    fn handle_page_fault(&mut self, pd: Key, event: &EventWords) -> Verdict {
        let (address, access, name) = match event.info1 {
            code if code & ERROR_FETCH != 0 => (event.info2, MemRights::EXEC, "fetch"),
            code if code & ERROR_WRITE != 0 => (event.info2, MemRights::WRITE, "write"),
            _ => (event.info2, MemRights::READ, "read"),
        };
        match self.resolve(pd, address, access) {
            Ok(()) => Verdict::Resume,
            Err(reason) => {
                let ip = event.rip;
                self.log_event(pd, format_args!("page fault at {address:#x} ({name}), ip {ip:#x}: {reason}"));
                self.report(pd, Fault { address, access: access.bits() });
                Verdict::Stop
            }
        }
    }

    fn log_event(&self, pd: Key, what: fmt::Arguments<'_>) {
        let label = self.pds.get(&pd).map_or("", |pd| pd.label.as_str());
        self.log(format_args!("{label}: {what}"));
    }

    /// Tells the one who set the fault handler of the address space.
    fn report(&mut self, pd: Key, fault: Fault) {
        let map = self.pds.get(&pd).map(|pd| pd.map).and_then(|map| self.maps.get_mut(&map));
        if let Some(map) = map {
            map.fault.get_or_insert(fault);
            if let Some(signal) = map.fault_signal {
                self.kernel.signal(signal);
            }
        }
    }

    fn resolve(&mut self, pd: Key, address: u64, access: MemRights) -> Result<(), Unresolved> {
        let pd = self.pds.get(&pd).ok_or(Unresolved::NoRegion)?;
        let Backing { chunk, rights } = self.find_backing(pd.map, address)?;
        if !rights.contains(access | MemRights::READ) {
            return Err(Unresolved::Violation);
        }
        let map = |chunk: Chunk| {
            let memory = Range::new(chunk.offset, chunk.size).ok_or(Status::BadParameter)?;
            self.kernel.map(memory, pd.memory, chunk.address, rights)
        };
        let page = address - address % PAGE_SIZE;
        let one_page = Chunk { address: page, offset: chunk.offset + (page - chunk.address), size: PAGE_SIZE };
        map(chunk).or_else(|_| map(one_page)).map_err(|status| match status {
            Status::OutOfMemory => Unresolved::OutOfCaps,
            _ => Unresolved::Protected,
        })
    }

    /// The largest piece of physical memory that can be mapped for an access to `address` of a region map, walking
    /// down the maps that are attached to maps.
    fn find_backing(&self, map: Key, address: u64) -> Result<Backing, Unresolved> {
        let (mut map, mut local, mut rights) = (map, address, ACCESS);
        // How far the regions of all levels extend below and above the address.
        let (mut below, mut above) = (u64::MAX, u64::MAX);
        for _ in 0..NESTING {
            let regions = &self.maps.get(&map).ok_or(Unresolved::NoRegion)?.regions;
            let region = regions.lookup(local).ok_or(Unresolved::NoRegion)?;
            let dataspace = self.dataspaces.get(&region.dataspace).ok_or(Unresolved::NoRegion)?;
            rights &= region.rights;
            below = below.min(local - region.range.base());
            above = above.min(region.range.end() - local);
            let offset = region.offset + (local - region.range.base());
            match dataspace.content {
                Content::Map(inner) => (map, local) = (inner, offset),
                Content::Physical { memory, rights: limit } => {
                    let extent = Range::new(address - below, below + above).ok_or(Unresolved::NoRegion)?;
                    let offset = memory.base() + offset - below;
                    let visible = Region { range: extent, dataspace: (), offset, rights };
                    let chunk = visible.chunk(address, 0).ok_or(Unresolved::NoRegion)?;
                    return Ok(Backing { chunk, rights: (rights & limit) | (limit - ACCESS) });
                }
            }
        }
        Err(Unresolved::NoRegion)
    }
}
