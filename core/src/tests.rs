//! Services against a model of the kernel: what they do, what they cost, and that a failure anywhere leaves nothing behind.

mod conservation;
mod devices;
mod memory;
mod model;
mod sessions;
