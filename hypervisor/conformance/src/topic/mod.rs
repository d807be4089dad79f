//! The topics.

mod hypercall;
mod pd;

/// All topics, by name, in the order in which they run.
pub const ALL: &[(&str, fn())] = &[
    ("hypercall", hypercall::run),
    ("pd", pd::run),
];
