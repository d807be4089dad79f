//! Region maps: the address spaces of protection domains, and those that clients of RM compose.

use crate::Core;
use crate::account::{AccountError, AccountId, Resources};
use crate::kernel::Machine;
use crate::object::{Handle, Key, Kind};
use crate::ranges::Range;
use crate::regions::{self, Region, RegionMap};
use abi::cap::{MemRights, Perms, Sel};
use abi::session::dataspace::Dataspace as DataspaceInterface;
use abi::session::region_map::{self, AttachError, Attachment, Fault, NoRegion};
use abi::session::wire::{Signal, Typed};
use alloc::collections::BTreeMap;

/// How deep region maps may be attached to each other for faults to be resolved.
pub const NESTING: usize = 5;
/// Regions that the memory for one capability of quota suffices for.
const REGIONS_PER_CAP: u64 = 8;

/// A region map.
#[derive(Clone, Debug)]
pub struct Map {
    /// What is where.
    pub regions: RegionMap<Key>,
    /// Memory space that it is the content of; `None` for one made by RM.
    pub space: Option<Sel>,
    /// Who pays for the regions.
    pub payer: AccountId,
    /// The map as a dataspace, for one made by RM.
    pub dataspace: Option<Key>,
    /// Whom to tell about faults.
    pub fault_signal: Option<Sel>,
    /// First fault that stopped a thread.
    pub fault: Option<Fault>,
}

impl Map {
    /// An empty map of the addresses `bounds`.
    #[must_use]
    pub const fn new(bounds: Range, space: Option<Sel>, payer: AccountId) -> Self {
        let regions = RegionMap::new(bounds);
        Self { regions, space, payer, dataspace: None, fault_signal: None, fault: None }
    }
}

/// The region map that a call is for.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> region_map::Server<Handle> for Call<'_, '_, M> {
    fn attach(
        &mut self,
        dataspace: Typed<DataspaceInterface, Handle>,
        attachment: Attachment,
    ) -> Result<u64, AttachError> {
        let key = dataspace.into_name().own().ok_or(AttachError::InvalidDataspace)?;
        self.core.attach(self.key, key, &attachment)
    }

    fn detach(&mut self, address: u64) -> Result<(), NoRegion> {
        let map = self.core.maps.get(&self.key).ok_or(NoRegion::NoRegion)?;
        let region = map.regions.lookup(address).filter(|region| region.range.base() == address);
        region.ok_or(NoRegion::NoRegion)?;
        self.core.detach(self.key, address);
        Ok(())
    }

    /// For an address space. A fault stops the thread in any case; the signal lets the parent know.
    fn fault_handler(&mut self, sigh: Typed<Signal, Handle>) {
        let signal = self.core.keep(sigh.into_name(), Perms::SM_UP).ok();
        let Some(map) = self.core.maps.get_mut(&self.key) else {
            return;
        };
        let old = core::mem::replace(&mut map.fault_signal, signal);
        if let (Some(_), Some(signal)) = (map.fault, signal) {
            self.core.kernel.signal(signal);
        }
        if let Some(old) = old {
            self.core.free_selectors(old, 1);
        }
    }

    fn fault(&mut self) -> Option<Fault> {
        self.core.maps.get(&self.key)?.fault
    }

    /// Nothing, for an address space of a protection domain.
    fn dataspace(&mut self) -> Typed<DataspaceInterface, Handle> {
        let dataspace = self.core.maps.get(&self.key).and_then(|map| map.dataspace);
        Typed::new(dataspace.map_or(Handle::Nothing, Handle::Own))
    }
}

/// Capabilities that `count` regions cost.
fn cost(count: usize) -> u64 {
    (count as u64).div_ceil(REGIONS_PER_CAP)
}

impl<M: Machine> Core<'_, M> {
    /// Attaches a part of a dataspace to a region map.
    ///
    /// # Errors
    /// As [`AttachError`] says; nothing has changed then.
    pub(crate) fn attach(&mut self, map: Key, dataspace: Key, wish: &Attachment) -> Result<u64, AttachError> {
        let rights = wish.mem_rights().ok_or(AttachError::BadAttachment)?;
        let source = self.dataspaces.get(&dataspace).ok_or(AttachError::InvalidDataspace)?;
        let attachment = regions::Attachment {
            dataspace,
            dataspace_size: source.size,
            backing: source.backing(),
            offset: wish.offset,
            size: (wish.size != 0).then_some(wish.size),
            at: wish.fixed_address(),
            rights,
        };
        let target = self.maps.get_mut(&map).ok_or(AttachError::Conflict)?;
        let (payer, before) = (target.payer, target.regions.len());
        let region = target.regions.attach(&attachment).map_err(|error| match error {
            regions::AttachError::Unaligned => AttachError::BadAttachment,
            regions::AttachError::OutOfDataspace => AttachError::InvalidDataspace,
            regions::AttachError::Conflict => AttachError::Conflict,
        })?;
        let base = region.range.base();
        let more = Resources::caps(cost(before + 1) - cost(before));
        if let Err(error) = self.ledger.charge(payer, more) {
            target.regions.detach(base);
            return Err(match error {
                AccountError::OutOfRam => AttachError::OutOfRam,
                _ => AttachError::OutOfCaps,
            });
        }
        if let Some(source) = self.dataspaces.get_mut(&dataspace) {
            source.attached.insert((map, base));
        }
        Ok(base)
    }

    /// Detaches the region at `address`. It is taken out of the map first, so that no fault maps it again.
    pub(crate) fn detach(&mut self, key: Key, address: u64) {
        let Some(map) = self.maps.get_mut(&key) else {
            return;
        };
        let Some(region) = map.regions.detach(address) else {
            return;
        };
        let (payer, left) = (map.payer, map.regions.len());
        if let Some(source) = self.dataspaces.get_mut(&region.dataspace) {
            source.attached.remove(&(key, region.range.base()));
        }
        self.unmap(key, region.range);
        self.credit(payer, Resources::caps(cost(left + 1) - cost(left)));
    }

    /// Removes what is mapped at `range` of a region map, wherever the map is.
    ///
    /// A map attached many times to one that is attached many times is in as many places as the product says. So this
    /// goes from level to level, and of all the places of a map in the next one only their hull goes further: the work is that
    /// of all attachments once per level. What is removed beside the range comes back with the next fault.
    fn unmap(&self, key: Key, range: Range) {
        if let Some(space) = self.maps.get(&key).and_then(|map| map.space) {
            self.kernel.unmap(space, range);
        }
        let mut level = BTreeMap::from([(key, range)]);
        for _ in 0..NESTING {
            let mut outer: BTreeMap<Key, Range> = BTreeMap::new();
            for (key, range) in level {
                for (key, map, region) in self.places(key) {
                    let Some(seen) = outer_range(region, range) else { continue };
                    match map.space {
                        Some(space) => self.kernel.unmap(space, seen),
                        None => drop(outer.entry(key).and_modify(|hull| *hull = hull.hull(seen)).or_insert(seen)),
                    }
                }
            }
            level = outer;
        }
    }

    /// Where a map is attached: the maps, and the regions there.
    fn places(&self, key: Key) -> impl Iterator<Item = (Key, &Map, &Region<Key>)> {
        let dataspace = self.maps.get(&key).and_then(|map| map.dataspace);
        let attached = dataspace.and_then(|dataspace| self.dataspaces.get(&dataspace)).map(|source| &source.attached);
        attached.into_iter().flatten().filter_map(|&(key, base)| {
            let map = self.maps.get(&key)?;
            Some((key, map, map.regions.lookup(base)?))
        })
    }

    /// Makes an empty map, paid by `payer`.
    ///
    /// # Errors
    /// The payer cannot.
    pub(crate) fn create_map(
        &mut self,
        bounds: Range,
        space: Option<Sel>,
        payer: AccountId,
    ) -> Result<Key, AccountError> {
        let key = self.create_object(Kind::RegionMap, payer)?;
        self.maps.insert(key, Map::new(bounds, space, payer));
        Ok(key)
    }

    /// Destroys a map with all that is attached to it.
    pub(crate) fn destroy_map(&mut self, key: Key) {
        while let Some(base) =
            self.maps.get(&key).and_then(|map| map.regions.iter().next()).map(|region| region.range.base())
        {
            self.detach(key, base);
        }
        if let Some(signal) = self.maps.remove(&key).and_then(|map| map.fault_signal) {
            self.free_selectors(signal, 1);
        }
        self.destroy_object(key);
    }
}

/// Where `inner`, a range of the map that is attached as `region`, is seen in the outer map.
fn outer_range(region: &Region<Key>, inner: Range) -> Option<Range> {
    let visible = Range::new(region.offset, region.range.size())?.intersection(inner)?;
    Range::new(region.range.base() + (visible.base() - region.offset), visible.size())
}

/// Rights that a page table entry can express apart from caching.
pub const ACCESS: MemRights = MemRights::READ.union(MemRights::WRITE).union(MemRights::EXEC);
