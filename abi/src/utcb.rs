//! User thread control block: one page per host execution context, allocated and owned by the hypervisor,
//! mapped writable at an address of its creator's choice.

use crate::message::{CapItem, MAX_CAPS, MAX_WORDS};
use crate::state::ArchState;
use core::mem::{offset_of, size_of};

/// Layout of a UTCB. A VM exit or exception delivers an [`ArchState`] at the start of the page instead of
/// message words.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Utcb {
    /// Message words.
    pub words: [u64; MAX_WORDS],
    /// Capability items.
    pub caps: [CapItem; MAX_CAPS],
    /// First selector of the window in which received capabilities are placed.
    pub window_base: u64,
    /// Selectors in the window; an item without room arrives as nothing.
    pub window_count: u64,
    /// Not interpreted by the hypervisor; for the thread's own use.
    pub user: [u64; 38],
}

/// Byte offsets inside the page, for code that has no reference to it.
pub mod offset {
    use super::{Utcb, offset_of};
    /// Of the first message word.
    pub const WORDS: usize = offset_of!(Utcb, words);
    /// Of the first capability item.
    pub const CAPS: usize = offset_of!(Utcb, caps);
    /// Of the receive window's base.
    pub const WINDOW_BASE: usize = offset_of!(Utcb, window_base);
    /// Of the receive window's size.
    pub const WINDOW_COUNT: usize = offset_of!(Utcb, window_count);
    /// Of the words for the thread's own use.
    pub const USER: usize = offset_of!(Utcb, user);
}

const _: () = assert!(size_of::<Utcb>() == 4096);
const _: () = assert!(size_of::<ArchState>() <= MAX_WORDS * 8);
const _: () = assert!(offset::CAPS == 0xe00);
const _: () = assert!(offset::WINDOW_BASE == 0xec0);
const _: () = assert!(offset::USER == 0xed0);
