//! Policy of a parent.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "tests state their expectations tersely"
    )
)]

extern crate alloc;

pub mod config;
pub mod label;
pub mod quantity;
pub mod route;
