//! What the measurements are summarised to. The measuring itself is in the program, which runs on the hypervisor only.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, missing_docs, reason = "tests state their expectations tersely"))]

pub mod stats;
