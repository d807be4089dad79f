//! Everything that is x86-64: boot, entry and exit, control registers, interrupt controllers, timers, virtualisation.

pub mod acpi_pm;
pub mod apic;
#[cfg(target_os = "none")]
pub mod boot;
pub mod cpuid;
pub mod descriptor;
pub mod entry;
pub mod fastpath;
pub mod features;
pub mod fpu;
pub mod ioapic;
pub mod kernel_map;
mod layout;
pub mod log;
pub mod machine_check;
pub mod mmio;
pub mod percpu;
pub mod physmem;
pub mod svm;
pub mod switch;
pub mod tags;
pub mod timer;
pub mod transient;
pub mod tsc;
pub mod virt;
pub mod vmx;
mod x86;

pub use x86::Msr;
