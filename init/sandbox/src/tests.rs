//! Sandboxes over a model of accounts and of a parent: who gets what, in which order, and that nothing gets lost.

mod conservation;
mod lives;
mod model;
mod sessions;
