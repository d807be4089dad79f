//! Everything unsafe: raw hypercalls, entries of contexts, memory by address, instructions that the compiler does not know.
//!
//! The program checks a kernel, so it makes hypercalls that a sane program would not. What keeps that sound: contexts
//! run on slots of their own ([`context`]), and whatever is mapped, changed or destroyed lies outside the image.
#![allow(unsafe_code, reason = "this is the one place for it")]

pub mod context;
pub mod extended;
pub mod guest_code;
pub mod hypercall;
pub mod memory;
pub mod port;
pub mod probe;
pub mod utcb;
