//! Policy of a parent: which children there are, with what, and who serves whom.
//!
//! | module | |
//! |---|---|
//! | [`config`] | the configuration |
//! | [`route`], [`label`], [`filter`] | where a session request goes, and what of it is changed on the way |
//! | [`session`], [`client`], [`server`], `goal` | the life of a session |
//! | [`start`], [`sandbox`] | the life of a child |
//! | [`backend`] | what all that acts upon, as a trait |
//! | [`component`] | that, in a component |
//!
//! A sandbox never calls a child. It answers calls of children at once and tells them by signals when something pending
//! has finished, so no child can make it wait.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "tests state their expectations tersely"))]

extern crate alloc;

pub mod backend;
pub mod client;
pub mod component;
pub mod config;
pub mod filter;
mod goal;
pub mod label;
pub mod restart;
pub mod route;
pub mod sandbox;
pub mod server;
pub mod session;
pub mod start;

#[cfg(test)]
mod tests;
