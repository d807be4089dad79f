//! Dataspaces of this component: allocated, attached, freed when dropped.

use alloc::vec::Vec;
use core::fmt;

use abi::cap::MemRights;
use abi::session::dataspace::Dataspace;
use abi::session::pd::{AllocError, Pd};
use abi::session::region_map::{AttachError, Attachment, RegionMap};
use abi::session::rpc::Error;

use crate::capability::Cap;
use crate::rpc::{self, Client};
use crate::sys::memory::{OutOfRange, SharedMemory};

/// RAM of the component's own account. Freed when dropped, wherever it is attached.
#[derive(Debug)]
pub struct Ram {
    dataspace: Cap<Dataspace>,
    pd: Client<Pd>,
}

impl Ram {
    /// Allocates zeroed RAM; `size` is rounded up to pages.
    ///
    /// # Errors
    /// The account cannot pay.
    pub fn allocate(pd: &Client<Pd>, size: u64) -> Result<Self, Error<AllocError>> {
        Ok(Self { dataspace: pd.alloc_ram(size)?, pd: pd.clone() })
    }

    /// The dataspace, to be given to others.
    #[must_use]
    pub const fn cap(&self) -> &Cap<Dataspace> {
        &self.dataspace
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // It is ours, so core frees it.
        let _freed = self.pd.free_ram(&self.dataspace);
    }
}

/// A dataspace attached to the own address space. Detached when dropped.
#[derive(Debug)]
pub struct Attached {
    memory: SharedMemory,
    address_space: Client<RegionMap>,
}

impl Attached {
    /// Attaches all of a dataspace.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(
        address_space: &Client<RegionMap>,
        dataspace: &Cap<Dataspace>,
        rights: MemRights,
    ) -> Result<Self, Error<AttachError>> {
        // The size is core's answer, whatever the origin of the dataspace.
        let size = rpc::client(dataspace).size().map_err(|_| Error::Server(AttachError::InvalidDataspace))?;
        let attachment = Attachment { size, ..Attachment::anywhere(rights) };
        Self::attach_part(address_space, dataspace, attachment)
    }

    /// Attaches a part of known size.
    pub(crate) fn attach_part(
        address_space: &Client<RegionMap>,
        dataspace: &Cap<Dataspace>,
        attachment: Attachment,
    ) -> Result<Self, Error<AttachError>> {
        let address = address_space.attach(dataspace, attachment)?;
        let memory = SharedMemory::attached(address, attachment.size);
        Ok(Self { memory, address_space: address_space.clone() })
    }

    /// The memory.
    #[must_use]
    pub const fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// A copy of `length` bytes from `offset` on.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn copy(&self, offset: usize, length: usize) -> Result<Vec<u8>, CopyError> {
        if offset.checked_add(length).is_none_or(|end| end > self.memory.size()) {
            return Err(CopyError::OutOfRange);
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| CopyError::OutOfMemory { size: length })?;
        bytes.resize(length, 0);
        self.memory.read(offset, &mut bytes).map_err(|OutOfRange| CopyError::OutOfRange)?;
        Ok(bytes)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // The region is there: nobody else detaches it. If the dataspace is gone, core has detached it.
        let _detached = self.address_space.detach(self.memory.address());
    }
}

/// Why nothing was copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyError {
    /// The range leaves the dataspace.
    OutOfRange,
    /// The RAM quota does not suffice for the copy.
    OutOfMemory {
        /// Bytes to copy.
        size: usize,
    },
}

impl fmt::Display for CopyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange => out.write_str("range outside the dataspace"),
            Self::OutOfMemory { size } => write!(out, "RAM quota too small for a copy of {size} bytes"),
        }
    }
}

impl core::error::Error for CopyError {}

/// RAM of the own account, attached readable and writeable: a buffer to share.
#[derive(Debug)]
pub struct AttachedRam {
    // Detached before it is freed: fields are dropped in this order.
    attached: Attached,
    ram: Ram,
}

impl AttachedRam {
    /// Puts both together.
    pub(crate) const fn new(attached: Attached, ram: Ram) -> Self {
        Self { attached, ram }
    }

    /// The dataspace, to be given to others.
    #[must_use]
    pub const fn cap(&self) -> &Cap<Dataspace> {
        self.ram.cap()
    }

    /// The memory.
    #[must_use]
    pub const fn memory(&self) -> &SharedMemory {
        self.attached.memory()
    }

    /// Its two parts.
    pub(crate) fn into_parts(self) -> (Attached, Ram) {
        (self.attached, self.ram)
    }
}
