//! PD: the account of a component, its memory, its address space. Core makes the kernel's protection domain and spaces.
//!
//! Quota that the session was created with stays with it. Transfers are between an account and its reference account
//! only, out of what is unused. One capability of quota is also one page of kernel memory.

use super::dataspace::Dataspace;
use super::parent::Parent;
use super::region_map::RegionMap;
use super::rpc::{Error, Transport};
use super::wire::Cap;
use crate::{rpc, wire_enum, wire_record};

rpc! {
    /// A protection domain.
    pub interface Pd {
        const NAME = "PD";
        const CAP_QUOTA = 40;
        const RAM_QUOTA = 64 * 1024;
        /// Allocates zeroed RAM; `size` is rounded up to pages. Costs one capability. As others wait meanwhile, a call clears no
        /// more than [`CLEAR_STEP`]: while the answer is [`AllocError::Unfinished`], the next call with the same size goes on.
        fn alloc_ram_step(size: u64) -> Cap<Dataspace> | AllocError;
        /// Frees RAM of this session, which disappears from all address spaces and guests.
        fn free_ram(dataspace: Cap<Dataspace>) | NotOwned;
        /// Quota and use.
        fn account() -> Account;
        /// Sets the reference account. Possible once.
        fn ref_account(pd: Cap<Pd>) | RefAccountError;
        /// Moves bytes of RAM quota from this account to another.
        fn transfer_ram(to: Cap<Pd>, amount: u64) | TransferError;
        /// Moves capability quota from this account to another.
        fn transfer_caps(to: Cap<Pd>, amount: u64) | TransferError;
        /// The region map of the address space.
        fn address_space() -> Cap<RegionMap>;
        /// Gives the protection domain its parent. To be done before its first thread starts.
        fn assign_parent(parent: Cap<Parent>);
        /// What the machine is.
        fn platform() -> Platform;
    }
}

/// Most bytes of RAM that one call clears.
pub const CLEAR_STEP: u64 = 2 << 20;

impl<T: Transport> Client<T> {
    /// Allocates zeroed RAM, in as many steps as it takes.
    ///
    /// # Errors
    /// See [`AllocError`].
    pub fn alloc_ram(&self, size: u64) -> Result<super::wire::Typed<Dataspace, T::Cap>, Error<AllocError>> {
        loop {
            match self.alloc_ram_step(size) {
                Err(Error::Server(AllocError::Unfinished)) => {}
                result => return result,
            }
        }
    }
}

wire_record! {
    /// An account. Unused is quota minus used, of each.
    pub struct Account {
        /// Bytes of RAM.
        pub ram_quota: u64,
        /// Bytes of RAM in use.
        pub ram_used: u64,
        /// Capabilities.
        pub cap_quota: u64,
        /// Capabilities in use.
        pub cap_used: u64,
    }
}

wire_record! {
    /// The machine.
    pub struct Platform {
        /// TSC ticks per second.
        pub tsc_hz: u64,
        /// CPUs of the machine; those that the component may use are its CPU session's.
        pub cpus: u32,
        /// [`Features`](crate::hip::Features).
        pub features: u64,
    }
}

wire_enum! {
    /// Why RAM was not allocated.
    pub enum AllocError {
        /// The account has not enough RAM.
        OutOfRam = 1,
        /// The account has not enough capabilities.
        OutOfCaps = 2,
        /// The size is 0 or more than the machine has in one piece.
        Denied = 3,
        /// It is still being cleared.
        Unfinished = 4,
    }
}

wire_enum! {
    /// Why a dataspace was not freed.
    pub enum NotOwned {
        /// It is not RAM of this session.
        NotOwned = 1,
    }
}

wire_enum! {
    /// Why the reference account was not set.
    pub enum RefAccountError {
        /// It was set before.
        AlreadySet = 1,
        /// The capability names no account.
        Invalid = 2,
    }
}

wire_enum! {
    /// Why quota was not moved.
    pub enum TransferError {
        /// The capability names no account, or neither account is the other's reference account.
        Invalid = 1,
        /// There is not as much unused.
        Exceeded = 2,
    }
}
