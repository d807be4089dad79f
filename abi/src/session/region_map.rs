//! Region map: an address space, or a part of one that is itself a dataspace.

use super::dataspace::Dataspace;
use super::wire::{Cap, Signal};
use crate::cap::MemRights;
use crate::{rpc, wire_enum, wire_record};

rpc! {
    /// A region map.
    pub interface RegionMap {
        const NAME = "Region_map";
        const CAP_QUOTA = 0;
        const RAM_QUOTA = 0;
        /// Attaches a part of a dataspace and returns its address in the map. The rights effective are those
        /// of `attachment` that the dataspace permits too.
        fn attach(dataspace: Cap<Dataspace>, attachment: Attachment) -> u64 | AttachError;
        /// Removes the region that starts at an address.
        fn detach(address: u64) | NoRegion;
        /// Sets the signal for faults in no region. Without it such a fault stops the thread for good.
        fn fault_handler(sigh: Cap<Signal>);
        /// The first unresolved fault. An attachment resumes every thread whose fault it resolves; ask again after each.
        fn fault() -> Option<Fault>;
        /// The map as a dataspace.
        fn dataspace() -> Cap<Dataspace>;
    }
}

wire_record! {
    /// What to attach and where.
    pub struct Attachment {
        /// First byte in the dataspace: a multiple of the page size.
        pub offset: u64,
        /// Bytes, rounded up to pages; 0 for the rest of the dataspace.
        pub size: u64,
        /// Address in the map: a multiple of the page size. `ANYWHERE`: the map chooses.
        pub address: u64,
        /// Bits of [`MemRights`]; a region without `READ` is reserved.
        pub rights: u32,
    }
}

impl Attachment {
    /// An address that is no wish.
    pub const ANYWHERE: u64 = u64::MAX;

    /// All of a dataspace, at an address that the map chooses.
    #[must_use]
    pub const fn anywhere(rights: MemRights) -> Self {
        Self { offset: 0, size: 0, address: Self::ANYWHERE, rights: rights.bits() }
    }

    /// All of a dataspace at `address`.
    #[must_use]
    pub const fn at(address: u64, rights: MemRights) -> Self {
        Self { offset: 0, size: 0, address, rights: rights.bits() }
    }

    /// The address wished for, if any.
    #[must_use]
    pub const fn fixed_address(&self) -> Option<u64> {
        if self.address == Self::ANYWHERE { None } else { Some(self.address) }
    }

    /// The rights; `None` if unknown ones are asked for.
    #[must_use]
    pub const fn mem_rights(&self) -> Option<MemRights> {
        MemRights::from_bits(self.rights)
    }
}

wire_record! {
    /// A fault that no region resolves.
    pub struct Fault {
        /// Address relative to the map.
        pub address: u64,
        /// The access: bits of [`MemRights`].
        pub access: u32,
    }
}

wire_enum! {
    /// Why nothing was attached.
    pub enum AttachError {
        /// The account of the map cannot pay in RAM.
        OutOfRam = 1,
        /// The account of the map cannot pay in capabilities.
        OutOfCaps = 2,
        /// The address is taken or outside the map, or no free range is large enough.
        Conflict = 3,
        /// The capability names no dataspace, or offset and size leave it.
        InvalidDataspace = 4,
        /// An offset or address is no multiple of the page size, or a right is unknown.
        BadAttachment = 5,
    }
}

wire_enum! {
    /// Why nothing was detached.
    pub enum NoRegion {
        /// No region starts at the address.
        NoRegion = 1,
    }
}
