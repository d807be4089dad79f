//! Threads beside the entrypoint.

use alloc::boxed::Box;
use alloc::format;
use core::mem::ManuallyDrop;

use abi::PAGE_SIZE;
use abi::cap::{MemRights, Sel};
use abi::hypercall::CpuId;
use abi::session::cpu::Cpu;
use abi::session::cpu_thread::CpuThread;
use abi::session::pd::Pd;
use abi::session::region_map::{Attachment, RegionMap};
use abi::status::Status;

use crate::capability::Cap;
use crate::dataspace::{Attached, AttachedRam, Ram};
use crate::error::Error;
use crate::rpc::{self, Client};
use crate::semaphore;
use crate::sys::portal::{Handler, LocalEc};
use crate::sys::stack::{MAX_STACK, Slot};
use crate::sys::thread::Prepared;

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

/// Makes threads: the sessions that it takes, for use by any thread.
#[derive(Clone, Debug)]
pub struct Spawner {
    pub(crate) pd: Client<Pd>,
    pub(crate) pd_cap: Cap<Pd>,
    pub(crate) cpu: Client<Cpu>,
    pub(crate) address_space: Client<RegionMap>,
}

impl Spawner {
    /// Starts a thread.
    ///
    /// # Errors
    /// The account cannot pay, or there is no such CPU.
    pub fn spawn(&self, options: ThreadOptions<'_>, body: impl FnOnce() + Send + 'static) -> Result<Thread, Error> {
        let (slot, memory) = self.stack(options.stack_size)?;
        let prepared = Prepared::new(slot);
        let place = prepared.place(options.cpu, options.below);
        let cap = self.cpu.create_thread(&self.pd_cap, options.name, place)?;
        let done = semaphore::create(0)?;
        let (slot, ip, sp) = prepared.arm(Box::new(move || {
            body();
            done
        }));
        let (attached, ram) = memory.into_parts();
        let resources = ManuallyDrop::new(Resources { _stack: attached, _memory: ram, _slot: slot });
        let thread = Thread { cap, cpu: self.cpu.clone(), done, resources };
        rpc::client(&thread.cap).start(ip, sp)?;
        Ok(thread)
    }

    /// Makes a context that handles messages to portals of its own, for ever, on a CPU of the component's affinity. It runs
    /// on the time of whoever calls. `make` runs on it and returns the handler.
    ///
    /// # Errors
    /// The account cannot pay, or there is no such CPU.
    pub fn handler<H: Handler>(
        &self,
        cpu: u32,
        stack_size: u64,
        make: impl FnOnce(LocalEc) -> H + Send + 'static,
    ) -> Result<LocalEc, Error> {
        let cpu = CpuId(self.cpu.physical_cpu(cpu)?);
        let (slot, memory) = self.stack(stack_size)?;
        let ec = LocalEc::create(cpu, slot, make)?;
        // The context is never destroyed.
        core::mem::forget(memory);
        Ok(ec)
    }

    /// Number of CPUs of the component's affinity.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        (0..).take_while(|cpu| self.cpu.physical_cpu(*cpu).is_ok()).count() as u32
    }

    /// A slot with memory for a stack.
    pub(crate) fn stack(&self, size: u64) -> Result<(Slot, AttachedRam), Error> {
        let size = size.clamp(PAGE_SIZE, MAX_STACK).next_multiple_of(PAGE_SIZE);
        let slot = Slot::allocate().ok_or_else(|| Error::input("no room for another stack"))?;
        let ram =
            Ram::allocate(&self.pd, size).map_err(|error| Error::input(format!("stack of {size} bytes: {error}")))?;
        let rights = MemRights::READ.union(MemRights::WRITE);
        let attachment = Attachment { size, ..Attachment::at(slot.stack(size), rights) };
        let attached = Attached::attach_part(&self.address_space, ram.cap(), attachment)?;
        Ok((slot, AttachedRam::new(attached, ram)))
    }
}

/// A running thread. Dropping it leaves it running.
#[derive(Debug)]
pub struct Thread {
    cap: Cap<CpuThread>,
    cpu: Client<Cpu>,
    done: Sel,
    resources: ManuallyDrop<Resources>,
}

/// What a thread occupies while it lives.
#[derive(Debug)]
pub(crate) struct Resources {
    _stack: Attached,
    _memory: Ram,
    _slot: Slot,
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
