//! What running a virtual machine needs of the hypervisor, so that everything else can be tested without one.

use std::fmt;

use abi::state::{ArchState, Mtd};

/// The hypervisor, as the handlers of exits see it.
pub trait Kernel {
    /// The host's time-stamp counter.
    fn now(&self) -> u64;
    /// The state that the exit being handled delivered, and from which the reply is taken. `access` must not
    /// send messages, and nobody else does while an exit is handled.
    fn with_state<R>(&self, access: impl FnOnce(&mut ArchState) -> R) -> R;
    /// Blocks the handler of virtual CPU `vcpu` until it is woken, or the host's TSC reaches `deadline`.
    fn wait(&self, vcpu: usize, deadline: Option<u64>);
    /// Ends the wait of a handler, now or the next time it waits.
    fn wake(&self, vcpu: usize);
    /// Makes a virtual CPU raise its recall event before it executes another instruction.
    fn recall(&self, vcpu: usize);
    /// Sets what state recall events of a virtual CPU deliver.
    fn select_recall(&self, vcpu: usize, selection: Mtd);
    /// Has the component's entrypoint look after serial lines and the end of the machine.
    fn attend(&self);
    /// Says what of the component's budget is in use. Only when the guest does not continue: it spoils the state.
    fn log_use(&self);
    /// Writes to the log. It spoils the state: whoever lets the guest continue puts that back.
    fn log(&self, line: fmt::Arguments<'_>);
}
