//! The topics.

mod caps;
mod ec;
mod exception;
mod extended;
mod hypercall;
mod ipc;
mod memory;
mod pd;
mod ports;
mod recall;
mod sc;
mod sm;
mod space;
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
    ("caps", caps::run),
    ("memory", memory::run),
    ("ports", ports::run),
    ("exception", exception::run),
    ("extended", extended::run),
    ("recall", recall::run),
    ("vcpu", vcpu::run),
];
