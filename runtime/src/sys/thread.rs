//! Entry of threads.

use alloc::boxed::Box;

use abi::session::cpu::ThreadPlace;

use super::stack::Slot;
use super::utcb::{USER_CONTEXT, current};

/// What a thread runs.
type Body = Box<dyn FnOnce() + Send>;

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
        ThreadPlace {
            cpu,
            below,
            utcb: self.slot.utcb(),
        }
    }

    /// Hands over what to run, once the CPU session has made the thread. Returns the slot, to be kept until the
    /// thread is gone, and the initial instruction and stack pointers.
    pub(crate) fn arm(self, body: Body) -> (Slot, u64, u64) {
        let utcb = self.slot.utcb() as *mut abi::utcb::Utcb;
        // SAFETY: the CPU session has mapped the UTCB there, and the thread does not run yet.
        unsafe { (*utcb).user[USER_CONTEXT] = Box::into_raw(Box::new(body)) as u64 };
        let stack_pointer = self.slot.stack_pointer();
        (self.slot, enter as *const () as u64, stack_pointer)
    }
}

extern "sysv64" fn enter() -> ! {
    super::portal::initialise_context();
    // SAFETY: `arm` put the box there for this thread.
    let body = unsafe { Box::from_raw((*current()).user[USER_CONTEXT] as *mut Body) };
    body();
    crate::semaphore::sleep_forever()
}
