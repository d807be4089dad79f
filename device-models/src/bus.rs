//! The typed buses that models hang on.
//!
//! Two directions: [`port`] and [`mmio`] route a guest's accesses to models; the traits of the
//! other modules carry what a model does to the rest of the machine. A model asks in its signatures
//! for the buses it needs and nothing else; the wiring implements them all.
//!
//! A bus method is called while the calling model is borrowed. It may call into any *other* model.
//! Where the machine has a loop (local APIC EOI -> I/O APIC -> local APIC) the wiring notes the
//! effect and applies it after the access.

pub mod a20;
pub mod apic;
pub mod irq;
pub mod log;
pub mod mmio;
pub mod pci;
pub mod port;
pub mod power;
pub mod ps2;
pub mod serial;
pub mod speaker;
