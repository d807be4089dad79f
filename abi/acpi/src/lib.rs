//! The few ACPI tables that Kilonova reads (ACPI 6.5): where they are, and what [`madt`] and [`fadt`] say.
//!
//! Tables come from the firmware, so sums and lengths are checked, and nothing is assumed about what pointers point to. Physical
//! memory is read by a function of the caller's: address and length to bytes, if they are there.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests state their expectations tersely"))]

#[cfg(test)]
extern crate std;

pub mod fadt;
pub mod madt;
pub mod root;
mod word;

pub use root::{find_root, tables};

/// Length of the header that all tables begin with (5.2.6).
const HEADER: usize = 36;

fn sum_is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}
