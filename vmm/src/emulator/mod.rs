//! Emulation of the instructions that exit: accesses to device memory, string I/O, and privileged
//! instructions on CPUs that report neither the length nor the operands of what they intercepted.
//!
//! An instruction is fetched through the guest's own page tables and decoded; every operand is
//! located and every permission checked before the first access, so that a guest exception leaves
//! memory, devices and registers untouched (string instructions: up to the last whole iteration).
//! Any bytes are acceptable input: what is not covered is a typed error with bytes and state.

mod address;
mod arithmetic;
mod branch;
mod bus;
mod cache;
mod condition;
mod decode;
mod descriptor;
mod error;
mod execute;
mod fetch;
mod integer;
mod intercept;
mod multiply;
mod operand;
mod operation;
mod shift;
mod stack;
mod string;
mod system;
mod task;
mod vector;

pub use bus::{Bus, Width};
pub(crate) use error::Place;
pub use error::{EmulationError, Exception, ExceptionVector, Unemulated};
pub use intercept::{ControlRegister, Intercepted, InterceptedOperation};
pub use task::{Cause, Switched, TaskSwitch};

use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::state::{Rflags, VcpuState};
use cache::DecodeCache;
use decode::{Decoded, decode_raw, lower};
use error::Stop;
use execute::{Executor, Progress};
use fetch::Fetcher;

/// A nested page fault on a translated address, as the exit reports it. It spares the walk for
/// the data operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault {
    /// Guest-physical address of the access. It must lie outside guest RAM and stem from the
    /// final translation of the operand, not from a walk of the guest's tables (VMCB.EXITINFO1
    /// bit 32, APM2 15.25.6).
    pub address: GuestAddress,
    /// Whether the hardware checked permission to write (EXITINFO1 bit 1).
    pub write: bool,
}

/// How an emulated instruction ended. The registers passed in are already updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: RIP is behind it, or where it leads (single-stepped string instructions: after one iteration, at the
    /// unchanged RIP). The interrupt shadow of the instruction before ends.
    Retired {
        /// RFLAGS.TF was set: a single-step #DB (DR6.BS) is due.
        single_step: bool,
    },
    /// RIP is unchanged and executing the instruction again continues it: a repeated string
    /// instruction used up its share of this exit, or a page table changed under the walk.
    Again,
    /// The guest gets this exception at the unchanged RIP.
    Fault(Exception),
}

/// Most iterations of a repeated string instruction in one exit: bounds the time in which the
/// vCPU takes no interrupt.
const STRING_ITERATIONS_PER_EXIT: u32 = 1024;

/// Instruction emulator of one vCPU.
pub struct Emulator<'m, M: GuestMemoryBackend> {
    memory: &'m M,
    cache: DecodeCache<'m, M>,
}

impl<'m, M: GuestMemoryBackend> Emulator<'m, M> {
    /// An emulator that has seen no instruction yet, for a guest with this RAM.
    pub fn new(memory: &'m M) -> Self {
        Emulator { memory, cache: DecodeCache::default() }
    }

    /// Emulates the instruction at CS:RIP. Accesses outside guest RAM go to `bus`. `given` is as much of the instruction as the CPU
    /// has fetched, and perhaps of what follows; where it is empty or ends too early, the rest is fetched through the guest's tables.
    ///
    /// # Errors
    /// [`EmulationError`] when the instruction, its mode or its location is not covered. Nothing
    /// has changed then, but for the whole iterations that a string instruction had finished.
    pub fn emulate<B: Bus>(
        &mut self,
        state: &mut VcpuState,
        bus: &mut B,
        fault: Option<NestedFault>,
        given: &[u8],
    ) -> Result<Outcome, EmulationError> {
        let single_step = state.rflags.contains(Rflags::TF);
        let limit = if single_step { 1 } else { STRING_ITERATIONS_PER_EXIT };
        let memory = self.memory;
        let fresh;
        let decoded = match self.cache.find(state, given) {
            Some(decoded) => Ok(decoded),
            None => {
                fresh = self.decode(state, given);
                fresh.as_ref().map_err(|stop| *stop)
            }
        };
        let result = decoded.and_then(|decoded| {
            let progress = Executor { state, memory, bus, fault, limit }.execute(decoded)?;
            Ok((progress, decoded.length))
        });
        match result {
            Ok((Progress::Complete, length)) => {
                state.advance_rip(length);
                state.rflags.remove(Rflags::RF);
                Ok(Outcome::Retired { single_step })
            }
            Ok((Progress::Jumped, _)) => {
                state.rflags.remove(Rflags::RF);
                Ok(Outcome::Retired { single_step })
            }
            Ok((Progress::Partial, _)) if single_step => Ok(Outcome::Retired { single_step }),
            Ok((Progress::Partial, _)) | Err(Stop::Again) => Ok(Outcome::Again),
            Err(Stop::Fault(exception)) => Ok(Outcome::Fault(exception.in_mode(state.mode()))),
            Err(Stop::Unemulated(reason)) => Err(self.error(reason, state)),
        }
    }

    /// Decodes the intercepted instruction at CS:RIP, for exits that report neither its length nor
    /// its operands. Registers are not touched: the caller acts and then moves RIP by
    /// [`Intercepted::length`] with [`VcpuState::advance_rip`].
    ///
    /// `None` if the page tables changed since the exit: resuming the guest at the unchanged RIP
    /// repeats the exit or has the CPU raise the fault that is due.
    ///
    /// # Errors
    /// [`EmulationError`] when it is none of [`InterceptedOperation`].
    pub fn decode_intercepted(&self, state: &VcpuState) -> Result<Option<Intercepted>, EmulationError> {
        match intercept::decode(&Fetcher { state, memory: self.memory, given: &[] }) {
            Ok(intercepted) => Ok(Some(intercepted)),
            Err(Stop::Again | Stop::Fault(_)) => Ok(None),
            Err(Stop::Unemulated(reason)) => Err(self.error(reason, state)),
        }
    }

    /// Performs a task switch.
    ///
    /// # Errors
    /// [`EmulationError`] where what it needs is not in RAM.
    #[cold]
    pub fn switch_task(&self, state: &mut VcpuState, request: TaskSwitch) -> Result<Switched, EmulationError> {
        let result = task::Switch { memory: self.memory, state, request }.run();
        result.map_err(|reason| self.error(reason, state))
    }

    /// Fetches and decodes the instruction at CS:RIP, and remembers it.
    #[cold]
    fn decode(&mut self, state: &VcpuState, given: &[u8]) -> Result<Decoded, Stop> {
        let fetcher = Fetcher { state, memory: self.memory, given };
        let mut code = fetcher.fetch()?;
        let instruction = decode_raw(&mut code, &fetcher)?;
        let decoded = lower(&instruction).ok_or(Unemulated::Instruction)?;
        self.cache.remember(state, self.memory, code, decoded);
        Ok(decoded)
    }

    /// Where the guest is, for a report.
    #[cold]
    pub(crate) fn place<'a>(&self, state: &'a VcpuState) -> Place<'a> {
        Place { state, bytes: fetch::readable_bytes(state, self.memory) }
    }

    #[cold]
    fn error(&self, reason: Unemulated, state: &VcpuState) -> EmulationError {
        let Place { bytes, .. } = self.place(state);
        EmulationError { reason, bytes, state: Box::new(state.clone()) }
    }
}

#[cfg(test)]
mod tests;
