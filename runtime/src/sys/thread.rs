//! Entry of threads.

use alloc::boxed::Box;

use abi::cap::Sel;
use abi::session::cpu::ThreadPlace;

use super::stack::Slot;
use crate::semaphore;

/// What a thread runs. It returns the semaphore to be upped when the thread needs nothing any more but its stack.
type Body = Box<dyn FnOnce() -> Sel + Send>;

/// A thread in the making: its slot and what it will run.
#[derive(Debug)]
pub(crate) struct Prepared {
    slot: Slot,
}

impl Prepared {
    /// A thread for the stack in `slot`, whose owner has provided memory.
    pub(crate) const fn new(slot: Slot) -> Self {
        Self { slot }
    }

    /// What the CPU session needs.
    pub(crate) const fn place(&self, cpu: u32, below: u32) -> ThreadPlace {
        ThreadPlace { cpu, below, utcb: self.slot.utcb() }
    }

    /// Hands over what to run. Returns the slot, to be kept until the thread is gone, and the initial instruction and
    /// stack pointers. The UTCB comes into being with the thread, so the box waits on the stack, where a return address
    /// would be.
    pub(crate) fn arm(self, body: Body) -> (Slot, u64, u64) {
        let stack_pointer = self.slot.stack_pointer();
        // SAFETY: the owner of the slot has attached memory there, and the thread does not run yet.
        unsafe { *(stack_pointer as *mut *mut Body) = Box::into_raw(Box::new(body)) };
        (self.slot, enter as *const () as u64, stack_pointer)
    }
}

/// The hypervisor passes a thread its initial stack pointer in RDI.
extern "sysv64" fn enter(stack_pointer: *const *mut Body) -> ! {
    // SAFETY: `arm` put the box there for this thread; nothing has been called yet that could overwrite it.
    let body = unsafe { Box::from_raw(*stack_pointer) };
    super::portal::initialise_context();
    let done = body();
    super::tls::remove();
    // Nobody may be waiting, and the semaphore is there until `join` is done.
    let _joined = semaphore::up(done);
    semaphore::sleep_forever()
}
