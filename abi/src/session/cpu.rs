//! CPU: makes threads, inside the priority band and the affinity of the session.

use super::cpu_thread::CpuThread;
use super::pd::Pd;
use super::wire::{Cap, Text};
use crate::{rpc, wire_enum, wire_record};

/// Longest name of a thread.
pub const THREAD_NAME_MAX: usize = 32;
/// Session argument (also of VM): how far below the highest priority, from 0 to [`PRIORITY_LIMIT`] - 1.
/// Each parent on the way maps the values of its children into their bands.
pub const PRIORITY: &str = "priority";
/// Number of values of [`PRIORITY`], which core maps to those of the kernel.
pub const PRIORITY_LIMIT: u64 = 1 << 16;

rpc! {
    /// A source of CPU time.
    pub interface Cpu {
        const NAME = "CPU";
        const CAP_QUOTA = 4;
        const RAM_QUOTA = 16 * 1024;
        /// Makes a thread of a protection domain, which pays. It does not run yet.
        fn create_thread(pd: Cap<Pd>, name: Text<THREAD_NAME_MAX>, place: ThreadPlace) -> Cap<CpuThread> | CreateError;
        /// The machine's number of a CPU of this session.
        fn physical_cpu(cpu: u32) -> u16 | NoSuchCpu;
        /// Destroys a thread of this session.
        fn kill_thread(thread: Cap<CpuThread>);
    }
}

wire_record! {
    /// Where a thread runs.
    pub struct ThreadPlace {
        /// CPU, numbered inside the session's affinity from 0.
        pub cpu: u32,
        /// Steps below the highest priority of the session.
        pub below: u32,
        /// Page-aligned address of its UTCB.
        pub utcb: u64,
    }
}

wire_enum! {
    /// The CPU is not one of the session.
    pub enum NoSuchCpu {
        /// It is not.
        NoSuchCpu = 1,
    }
}

wire_enum! {
    /// Why no thread was made.
    pub enum CreateError {
        /// The session has not enough RAM: upgrade it.
        OutOfRam = 1,
        /// The session or the protection domain has not enough capabilities.
        OutOfCaps = 2,
        /// The capability names no protection domain.
        InvalidPd = 3,
        /// The session has no such CPU.
        NoSuchCpu = 4,
        /// The address of the UTCB is in use or not a user's.
        BadUtcb = 5,
    }
}
