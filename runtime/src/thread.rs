//! Threads beside the entrypoint.

use core::mem::ManuallyDrop;

use abi::cap::Sel;
use abi::session::cpu_thread::CpuThread;
use abi::status::Status;

use crate::capability::Cap;
use crate::dataspace::{Attached, Ram};
use crate::rpc::Client;
use crate::semaphore;
use crate::sys::stack::Slot;

/// Where and how a thread runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadOptions<'a> {
    /// Name, for humans.
    pub name: &'a str,
    /// CPU inside the component's affinity.
    pub cpu: u32,
    /// Steps below the component's highest priority.
    pub below: u32,
    /// Bytes of stack, rounded up to pages.
    pub stack_size: u64,
}

/// A running thread. Dropping it leaves it running.
#[derive(Debug)]
pub struct Thread {
    pub(crate) cap: Cap<CpuThread>,
    pub(crate) cpu: Client<abi::session::cpu::Cpu>,
    pub(crate) done: Sel,
    pub(crate) resources: ManuallyDrop<Resources>,
}

/// What a thread occupies while it lives.
#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) _stack: Attached,
    pub(crate) _memory: Ram,
    pub(crate) _slot: Slot,
}

impl Thread {
    /// Waits until its body has returned, and frees what it occupied.
    ///
    /// # Errors
    /// The thread cannot be waited for: it stays.
    pub fn join(self) -> Result<(), Status> {
        let Self { cap, cpu, done, resources } = self;
        semaphore::down(done)?;
        if cpu.kill_thread(&cap).is_ok() {
            semaphore::discard(done);
            drop(ManuallyDrop::into_inner(resources));
        }
        Ok(())
    }
}
