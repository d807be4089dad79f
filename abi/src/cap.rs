//! Capabilities: selectors, object types and permissions.

/// Index into the object space of the calling protection domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sel(pub u64);

impl Sel {
    /// Number of selectors of an object space.
    pub const COUNT: u64 = 1 << 17;
    /// Number of selectors that a page of an object space is for. It stays there when they have become free.
    pub const PER_PAGE: u64 = 256;
    /// A selector that never names anything (out of range by design).
    pub const NONE: Self = Self(u64::MAX >> 8);

    /// The selector `n` further.
    #[must_use]
    pub const fn offset(self, n: u64) -> Self {
        Self(self.0 + n)
    }
}

/// Type of a kernel object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ObjectType {
    /// Protection domain: an account, and the creator of everything it pays for.
    Pd = 1,
    /// Execution context: thread, portal handler or vCPU.
    Ec = 2,
    /// Scheduling context: priority and budget.
    Sc = 3,
    /// Portal.
    Pt = 4,
    /// Semaphore.
    Sm = 5,
    /// Space of capabilities.
    ObjSpace = 6,
    /// Host memory: the address space of threads.
    MemSpace = 7,
    /// Guest-physical memory.
    GuestSpace = 8,
    /// Memory as seen by devices.
    DmaSpace = 9,
    /// I/O ports.
    PioSpace = 10,
    /// Model-specific registers.
    MsrSpace = 11,
    /// The authority over the machine: interrupts, power. One exists; the root task holds it.
    Hw = 12,
}

bitflags::bitflags! {
    /// Permissions of a capability. The meaning of bits 0 to 3 depends on the object's type; bit 4 is the
    /// same for all. The type is part of each lookup, so bits of different types cannot be confused.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Perms: u8 {
        /// PD: create portals, semaphores and host ECs paid by it.
        const PD_CREATE = 1 << 0;
        /// PD: transfer quota from or to it, query it, create PDs out of it.
        const PD_QUOTA = 1 << 1;
        /// PD: create scheduling contexts paid by it.
        const PD_CREATE_SC = 1 << 2;
        /// PD: create spaces and vCPUs paid by it.
        const PD_CREATE_SPACE = 1 << 3;
        /// EC: recall it.
        const EC_CTRL = 1 << 0;
        /// EC: bind portals to it.
        const EC_BIND_PT = 1 << 1;
        /// EC: bind a scheduling context to it.
        const EC_BIND_SC = 1 << 2;
        /// SC: query.
        const SC_CTRL = 1 << 0;
        /// Portal: call it.
        const PT_CALL = 1 << 0;
        /// Portal: set its id and state selection.
        const PT_CTRL = 1 << 1;
        /// Portal: use it for exceptions and VM exits.
        const PT_EVENT = 1 << 2;
        /// Semaphore: up.
        const SM_UP = 1 << 0;
        /// Semaphore: down.
        const SM_DOWN = 1 << 1;
        /// Space: be the source of a delegation.
        const SPACE_GRANT = 1 << 0;
        /// Space: be the destination of a delegation or removal.
        const SPACE_TAKE = 1 << 1;
        /// Space: bind it to a vCPU or device.
        const SPACE_ASSIGN = 1 << 2;
        /// Hw: assign interrupts.
        const HW_INTERRUPT = 1 << 0;
        /// Hw: power states and reset.
        const HW_POWER = 1 << 1;
        /// Any type: destroy the object.
        const DESTROY = 1 << 4;
        /// All of them.
        const ALL = 0x1f;
    }
}

bitflags::bitflags! {
    /// Rights and cacheability of a memory mapping. In guest spaces `EXEC` permits execution by the guest.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MemRights: u32 {
        /// Readable (every other right implies it; empty rights remove the mapping).
        const READ = 1 << 0;
        /// Writable.
        const WRITE = 1 << 1;
        /// Executable.
        const EXEC = 1 << 2;
        /// Uncached, for device registers.
        const UNCACHED = 1 << 3;
        /// Write-combining, for frame buffers.
        const WRITE_COMBINED = 1 << 4;
    }
}

/// Selectors of the root task's initial capabilities.
pub mod root {
    use super::Sel;
    /// Its protection domain, whose account holds all kernel memory.
    pub const PD: Sel = Sel(0);
    /// Its object space.
    pub const OBJ: Sel = Sel(1);
    /// Its host memory space.
    pub const MEM: Sel = Sel(2);
    /// Its I/O ports: initially empty.
    pub const PIO: Sel = Sel(3);
    /// Its first thread.
    pub const EC: Sel = Sel(4);
    /// That thread's scheduling context.
    pub const SC: Sel = Sel(5);
    /// All physical memory but what the hypervisor keeps; "virtual" addresses are physical ones.
    pub const PHYS: Sel = Sel(6);
    /// All I/O ports.
    pub const ALL_PIO: Sel = Sel(7);
    /// All model-specific registers that a vCPU may be given.
    pub const ALL_MSR: Sel = Sel(8);
    /// The machine.
    pub const HW: Sel = Sel(9);
    /// Semaphore that is upped for each record of the [journal](crate::journal).
    pub const JOURNAL: Sel = Sel(10);
    /// First selector that is free.
    pub const FREE: Sel = Sel(16);
}
