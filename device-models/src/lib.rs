#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    // Tests state what must hold; a panic is how they fail.
    allow(clippy::unwrap_used, clippy::panic, missing_docs)
)]
//! Pure models of PC hardware.
//!
//! A model is a state machine: an access, an input or a deadline goes in, effects come out through
//! the [`bus`] traits. It knows no host, no other model, no thread and no clock but the [`time::Tsc`]
//! it is given, so it runs unchanged in a test, and a hostile guest reaches nothing but the model's
//! own state. Every entry point terminates in bounded time whatever the guest wrote and however far
//! time jumped.
//!
//! # Adding a model
//!
//! 1. One file, named after the chip, beginning with the manual it follows.
//! 2. `new` takes the attributes of the configuration node (`io_base`, `irq`, ...) and, if the model
//!    keeps time, a [`time::Clock`].
//! 3. Ports: implement [`bus::port::PortClaims`], and offer `read(port) -> u8` and
//!    `write(port, value, fx)`; a model that decodes wider accesses takes a
//!    [`bus::port::PortAccess`]. MMIO models take a [`bus::mmio::MmioAccess`].
//! 4. Effects: take `fx: &mut impl IrqBus` (or `&mut (impl IrqBus + SerialBus)`), the buses needed
//!    and no more. Finish the state change first, then call the bus.
//! 5. Time: `deadline() -> Option<Tsc>` says when the model wants to be woken, and
//!    `expire(now, fx)` does what is due. Compute state from `now`; never count wake-ups.
//! 6. Registers are constants with the manual's names; reserved bits read as the manual says.
//! 7. Tests beside the code: each behaviour a driver relies on, and a `proptest` that throws random
//!    accesses at the model. The wiring adds one variant to its enum of devices and one `claim`.

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod acpi_pm;
pub mod bus;
pub mod hostsink;
pub mod i8042;
pub mod ioapic;
pub mod lapic;
pub mod msi;
pub mod nullio;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod pmtimer;
pub mod ps2;
pub mod reset;
pub mod rtc;
pub mod scp;
pub mod time;
pub mod uart16550;

#[cfg(test)]
mod recorder;
