//! The contracts of Kilonova, shared by both sides of each.
//!
//! Ring 0 decodes what ring 3 encodes with the very types of this crate, so an encoding is written once
//! and round-trip tested on the host. The prose specification is `docs/abi.md`.
//!
//! | module | contract |
//! |---|---|
//! | [`hypercall`] | numbers, registers and argument views of every hypercall |
//! | [`status`] | results of hypercalls |
//! | [`cap`] | selectors, object types, permissions |
//! | [`message`] | message tag, register words, typed capability items |
//! | [`utcb`] | user thread control block |
//! | [`state`] | architectural state of threads and vCPUs, selected by [`state::Mtd`] |
//! | [`hip`] | hypervisor information page handed to the root task |
//! | [`journal`] | what the hypervisor tells the root task later |
//! | [`event`] | numbering of exceptions and VM exits relative to an event base |
//! | [`session`] | session protocols between components |
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, missing_docs, reason = "tests state their expectations tersely"))]

pub mod cap;
pub mod event;
pub mod hip;
pub mod hypercall;
pub mod journal;
pub mod message;
pub mod session;
pub mod state;
pub mod status;
pub mod utcb;

/// Version of this ABI. Changes incompatibly with every change of a layout or number in this crate.
pub const VERSION: u32 = 2;

/// Size of the smallest page, log2.
pub const PAGE_BITS: u32 = 12;
/// Size of the smallest page in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_BITS;
/// Size in bytes of the large page that one page-directory entry maps (long mode and PAE).
pub const LARGE_PAGE_SIZE: u64 = 512 * PAGE_SIZE;
/// First address above user space: half of the canonical 48-bit range. The last page below is never mapped,
/// so that a `syscall` in the last bytes of user space cannot return to a non-canonical address.
pub const USER_TOP: u64 = 0x0000_7fff_ffff_f000;
