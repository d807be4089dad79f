//! What the checks are made of: selectors, physical memory, domains, threads, portal handlers.

pub mod context;
pub mod domain;
pub mod events;
pub mod exits;
pub mod image;
pub mod memory;
pub mod object;
pub mod tables;
pub mod time;
pub mod vcpu;
