//! RM: region maps that are dataspaces.

use crate::Core;
use crate::account::{AccountError, AccountId};
use crate::dataspace::{Content, Dataspace};
use crate::kernel::Machine;
use crate::object::{Handle, Key, Kind};
use crate::ranges::Range;
use abi::session::region_map::RegionMap;
use abi::session::rm::{self, CreateError};
use abi::session::wire::Typed;
use abi::{PAGE_SIZE, USER_TOP};
use alloc::collections::BTreeSet;

/// An RM session.
#[derive(Clone, Debug)]
pub struct Rm {
    /// What pays for it.
    pub account: AccountId,
    /// Its region maps.
    pub maps: BTreeSet<Key>,
}

/// The session that a call is for.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> rm::Server<Handle> for Call<'_, '_, M> {
    fn create(&mut self, size: u64) -> Result<Typed<RegionMap, Handle>, CreateError> {
        let size = size.checked_next_multiple_of(PAGE_SIZE).filter(|size| (PAGE_SIZE..=USER_TOP).contains(size));
        let bounds = size.and_then(|size| Range::new(0, size)).ok_or(CreateError::BadSize)?;
        let account = self.core.rms.get(&self.key).ok_or(CreateError::OutOfCaps)?.account;
        let map = self.core.create_managed(bounds, account).map_err(|error| match error {
            AccountError::OutOfRam => CreateError::OutOfRam,
            _ => CreateError::OutOfCaps,
        })?;
        if let Some(session) = self.core.rms.get_mut(&self.key) {
            session.maps.insert(map);
        }
        Ok(Typed::new(Handle::Own(map)))
    }

    fn destroy(&mut self, map: Typed<RegionMap, Handle>) {
        let session = self.core.rms.get_mut(&self.key);
        if let (Some(key), Some(session)) = (map.into_name().own(), session)
            && session.maps.remove(&key)
        {
            self.core.destroy_managed(key);
        }
    }
}

impl<M: Machine> Core<'_, M> {
    fn create_managed(&mut self, bounds: Range, account: AccountId) -> Result<Key, AccountError> {
        let map = self.create_map(bounds, None, account)?;
        let dataspace = self.create_object(Kind::Dataspace, account).inspect_err(|_| self.destroy_map(map))?;
        self.dataspaces.insert(dataspace, Dataspace::new(bounds.size(), Content::Map(map)));
        if let Some(map) = self.maps.get_mut(&map) {
            map.dataspace = Some(dataspace);
        }
        Ok(map)
    }

    /// Destroys a managed dataspace, which disappears from where it is attached, and then its map.
    fn destroy_managed(&mut self, map: Key) {
        if let Some(dataspace) = self.maps.get(&map).and_then(|map| map.dataspace) {
            self.destroy_dataspace(dataspace);
        }
        self.destroy_map(map);
    }

    /// Closes an RM session.
    pub(crate) fn destroy_rm(&mut self, key: Key) {
        for map in self.rms.remove(&key).map(|session| session.maps).unwrap_or_default() {
            self.destroy_managed(map);
        }
        self.destroy_object(key);
    }
}
