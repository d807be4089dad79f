//! IRQ: an interrupt. Session arguments: `irq_number`, `irq_trigger` (`edge`, `level`), `irq_polarity` (`high`, `low`).
//!
//! The driver makes a semaphore (member of a receiver, like those of signals) and has core bind it to the
//! interrupt. After an interrupt a level-triggered line stays masked until the driver takes from the
//! semaphore without waiting: that is the acknowledgement. An edge must not be acknowledged: one that has come
//! meanwhile would be taken, too.

use super::wire::{Cap, InterruptSemaphore};
use crate::{rpc, wire_enum, wire_record};

rpc! {
    /// An interrupt.
    pub interface Irq {
        const NAME = "IRQ";
        const CAP_QUOTA = 3;
        const RAM_QUOTA = 8 * 1024;
        /// Binds the interrupt to a semaphore. It is destroyed when another takes its place, and with the session.
        fn bind(semaphore: Cap<InterruptSemaphore>) -> IrqInfo | BindError;
    }
}

wire_record! {
    /// How the interrupt is raised.
    pub struct IrqInfo {
        /// Whether the device must write a message.
        pub msi: bool,
        /// Physical address that it writes to.
        pub address: u64,
        /// What it writes.
        pub data: u32,
    }
}

wire_enum! {
    /// Why an interrupt was not bound.
    pub enum BindError {
        /// The capability names no semaphore that can be taken from and destroyed.
        InvalidSemaphore = 1,
        /// Somebody else has the interrupt.
        InUse = 2,
        /// The machine has no free vector.
        NoVector = 3,
    }
}
