//! Dataspace: a contiguous piece of physical memory, or a region map seen as memory.

use crate::Core;
use crate::kernel::Machine;
use crate::object::{Handle, Key};
use crate::ranges::Range;
use abi::cap::MemRights;
use abi::session::dataspace;
use alloc::collections::BTreeSet;

/// What is in a dataspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Memory, or registers of a device.
    Physical {
        /// Where: whole pages.
        memory: Range,
        /// What it permits, and how it is cached.
        rights: MemRights,
    },
    /// Whatever is attached to the region map.
    Map(Key),
}

/// A dataspace.
#[derive(Clone, Debug)]
pub struct Dataspace {
    /// Bytes.
    pub size: u64,
    /// What is in it.
    pub content: Content,
    /// Region maps, and the base addresses there, to which parts of it are attached.
    pub attached: BTreeSet<(Key, u64)>,
    /// VM sessions, and the guest-physical base addresses there, to which parts of it are attached.
    pub guests: BTreeSet<(Key, u64)>,
}

impl Dataspace {
    /// A dataspace that is not attached anywhere.
    #[must_use]
    pub const fn new(size: u64, content: Content) -> Self {
        Self { size, content, attached: BTreeSet::new(), guests: BTreeSet::new() }
    }

    /// A piece of memory.
    #[must_use]
    pub const fn physical(memory: Range, rights: MemRights) -> Self {
        Self::new(memory.size(), Content::Physical { memory, rights })
    }

    /// Physical address of its first byte; 0 for a region map, which limits the alignment of attachments in no way.
    #[must_use]
    pub const fn backing(&self) -> u64 {
        match self.content {
            Content::Physical { memory, .. } => memory.base(),
            Content::Map(_) => 0,
        }
    }
}

/// The dataspace that a call is for.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> dataspace::Server<Handle> for Call<'_, '_, M> {
    fn size(&mut self) -> u64 {
        self.core.dataspaces.get(&self.key).map_or(0, |dataspace| dataspace.size)
    }

    fn writeable(&mut self) -> bool {
        match self.core.dataspaces.get(&self.key).map(|dataspace| dataspace.content) {
            Some(Content::Physical { rights, .. }) => rights.contains(MemRights::WRITE),
            Some(Content::Map(_)) => true,
            None => false,
        }
    }
}

impl<M: Machine> Core<'_, M> {
    /// Destroys a dataspace: it disappears from every address space and guest before anyone else can get the memory.
    pub(crate) fn destroy_dataspace(&mut self, key: Key) -> Option<Dataspace> {
        let dataspace = self.dataspaces.remove(&key)?;
        for &(map, base) in &dataspace.attached {
            self.detach(map, base);
        }
        for &(vm, base) in &dataspace.guests {
            self.detach_guest_region(vm, base);
        }
        self.destroy_object(key);
        Some(dataspace)
    }
}
