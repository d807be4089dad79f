//! CPU thread: one thread of a CPU session.

use crate::{rpc, wire_enum};

rpc! {
    /// A thread.
    pub interface CpuThread {
        const NAME = "Cpu_thread";
        const CAP_QUOTA = 0;
        const RAM_QUOTA = 0;
        /// Starts it at instruction pointer `ip` with stack pointer `sp` (also in RDI). Possible once.
        fn start(ip: u64, sp: u64) | StartError;
        /// TSC ticks that it has consumed.
        fn consumed() -> u64;
    }
}

wire_enum! {
    /// Why a thread was not started.
    pub enum StartError {
        /// It was started before.
        AlreadyStarted = 1,
        /// The session has not enough RAM or capabilities for the kernel objects.
        OutOfCaps = 2,
        /// An address is not a user's.
        BadAddress = 3,
    }
}
