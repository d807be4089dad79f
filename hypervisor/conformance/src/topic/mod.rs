//! The topics.

mod abort;
mod account;
mod caps;
mod delivery;
mod ec;
mod exception;
mod extended;
mod fuzz;
mod guest_memory;
mod hypercall;
mod intercepts;
mod interrupt;
mod ipc;
mod memory;
mod pd;
mod ports;
mod recall;
mod running;
mod sc;
mod sm;
mod space;
mod together;
mod vcpu;

/// All topics, by name, in the order in which they run.
pub const ALL: &[(&str, fn())] = &[
    ("hypercall", hypercall::run),
    ("pd", pd::run),
    ("space", space::run),
    ("ec", ec::run),
    ("sc", sc::run),
    ("sm", sm::run),
    ("ipc", ipc::run),
    ("abort", abort::run),
    ("caps", caps::run),
    ("memory", memory::run),
    ("ports", ports::run),
    ("exception", exception::run),
    ("extended", extended::run),
    ("recall", recall::run),
    ("interrupt", interrupt::run),
    ("account", account::run),
    ("guest_memory", guest_memory::run),
    ("vcpu", vcpu::run),
    ("delivery", delivery::run),
    ("running", running::run),
    ("intercepts", intercepts::run),
    ("together", together::run),
    ("fuzz", fuzz::run),
];
