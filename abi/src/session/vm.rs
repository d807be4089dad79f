//! VM: the guest-physical memory and virtual CPUs of one virtual machine.
//!
//! Exits do not pass through this session: the VMM makes portals for the [events](crate::event::guest) in its own
//! object space, handled by portal handlers of its own, and names their base selector per vCPU.

use super::dataspace::Dataspace;
use super::pd::Pd;
use super::wire::{Cap, VcpuContext};
use crate::cap::MemRights;
use crate::{rpc, wire_enum, wire_record};

rpc! {
    /// A virtual machine.
    pub interface Vm {
        const NAME = "VM";
        const CAP_QUOTA = 8;
        const RAM_QUOTA = 64 * 1024;
        /// Makes the guest's memory space in the VMM's protection domain, which pays for it and for the vCPUs.
        /// To be called first, once.
        fn bind(pd: Cap<Pd>) | VmError;
        /// Attaches a part of a dataspace to guest-physical memory.
        fn attach(dataspace: Cap<Dataspace>, attachment: GuestAttachment) | VmError;
        /// Removes everything in a page-aligned guest-physical range.
        fn detach(guest_address: u64, size: u64) | VmError;
        /// Makes a vCPU on a CPU of the session's affinity. Its exits go to the portals from selector
        /// `event_base` on in the object space of the VMM. It does not run yet.
        fn create_vcpu(cpu: u32, event_base: u64) -> Cap<VcpuContext> | VmError;
        /// Lets the `index`-th vCPU made run; the first thing it does is the startup exit.
        fn start_vcpu(index: u32) | VmError;
    }
}

wire_record! {
    /// What to attach and where.
    pub struct GuestAttachment {
        /// Guest-physical address: a multiple of the page size.
        pub guest_address: u64,
        /// First byte in the dataspace: a multiple of the page size.
        pub offset: u64,
        /// Bytes, rounded up to pages; 0 for the rest of the dataspace.
        pub size: u64,
        /// Bits of [`MemRights`]; `EXEC` lets the guest execute.
        pub rights: u32,
    }
}

impl GuestAttachment {
    /// The rights; `None` if unknown ones are asked for.
    #[must_use]
    pub const fn mem_rights(&self) -> Option<MemRights> {
        MemRights::from_bits(self.rights)
    }
}

wire_enum! {
    /// Why an operation on a virtual machine failed.
    pub enum VmError {
        /// The session has not enough RAM: upgrade it.
        OutOfRam = 1,
        /// The session or the protection domain has not enough capabilities.
        OutOfCaps = 2,
        /// The guest-physical range is taken.
        Conflict = 3,
        /// The capability names no dataspace, or offset and size leave it.
        InvalidDataspace = 4,
        /// The capability names no protection domain, or `bind` was not called or called twice.
        InvalidPd = 5,
        /// An address, size, index, selector or right is out of range.
        BadParameter = 6,
        /// The session has no such CPU.
        NoSuchCpu = 7,
        /// The machine cannot run guests.
        NoVirtualization = 8,
    }
}
