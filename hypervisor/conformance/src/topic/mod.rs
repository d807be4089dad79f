//! The topics.

mod caps;
mod ec;
mod hypercall;
mod ipc;
mod pd;
mod sc;
mod sm;
mod space;

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
];
