//! Capabilities: the slots of the tables of an object space.

use super::{AnyObject, Header, NO_ID, Object, SLOT, id_to_keep, typed};
use crate::mem::{PAGE, Page, direct, page::WORDS};
use abi::cap::Perms;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, Release};

/// A slot of a capability table: two words.
///
/// Word 0: object address, its low 8 bits replaced by the permissions. Word 1: identity; the type is the object's. A writer
/// sets the identity to one that not even a dead object has, writes word 0, then the identity; so a reader that sees the new
/// identity with the old word 0, or the reverse, finds that they do not match: no object's identity is ever that of another.
/// `arch::fastpath` knows this layout.
#[derive(Clone, Copy)]
pub struct CapSlot(u64);

const PERMS_MASK: u64 = SLOT - 1;
const _: () = assert!(Perms::ALL.bits() as u64 <= PERMS_MASK);
/// Bytes of a slot of a capability table, log2.
pub const CAP_SLOT_BITS: u32 = 4;

/// A table of empty slots, for all selectors that have no other. Never written.
#[repr(C, align(4096))]
struct EmptyTable([AtomicU64; WORDS]);

static EMPTY_TABLE: EmptyTable = EmptyTable([const { AtomicU64::new(0) }; WORDS]);

/// The table of empty slots.
pub fn empty_table() -> Page {
    Page::at_virt((&raw const EMPTY_TABLE).addr() as u64)
}

/// Content of a slot whose object lives.
#[derive(Clone, Copy)]
pub struct RawCap {
    word: u64,
    id: u64,
}

/// Header of the object that word 0 of a slot names.
#[inline(always)]
fn header_of(word: u64) -> &'static Header {
    // SAFETY: capability tables are written by `store` only, with the address of an object; callers have seen that the slot is
    // not empty. Slots of objects are always that (module `mem`, fact 2), and every object begins with a header.
    unsafe { &*((word & !PERMS_MASK) as *const Header) }
}

impl RawCap {
    /// Permissions.
    #[inline(always)]
    pub fn perms(self) -> Perms {
        Perms::from_bits_truncate(self.word as u8)
    }

    /// The object.
    pub fn object(self) -> Option<AnyObject> {
        typed(self.word & !PERMS_MASK, self.kind())
    }

    /// Type of the object, numerically.
    pub fn kind(self) -> u64 {
        header_of(self.word).kind.get()
    }

    /// Identity of the object.
    pub fn id(self) -> u64 {
        self.id
    }

    /// The same with at most the permissions `perms`.
    #[inline(always)]
    pub fn restrict(self, perms: Perms) -> Self {
        let word = self.word & (!PERMS_MASK | u64::from(perms.bits()));
        Self { word, ..self }
    }
}

impl CapSlot {
    /// Slots of a page.
    pub const PER_PAGE: usize = WORDS / 2;

    /// Slot `index` of a capability table.
    #[inline(always)]
    pub fn new(table: Page, index: usize) -> Self {
        debug_assert!(index < Self::PER_PAGE);
        Self(table.virt() + ((index as u64) << CAP_SLOT_BITS))
    }

    /// The slot `n` further in the same table.
    #[inline(always)]
    pub fn offset(self, n: u64) -> Self {
        debug_assert!(self.0 % PAGE + (n << CAP_SLOT_BITS) < PAGE);
        Self(self.0 + (n << CAP_SLOT_BITS))
    }

    #[inline(always)]
    fn word(self) -> &'static AtomicU64 {
        direct::word_at(self.0)
    }

    #[inline(always)]
    fn identity(self) -> &'static AtomicU64 {
        direct::word_at(self.0 + 8)
    }

    /// The object, if the slot names a live object of this type with at least these permissions.
    #[inline(always)]
    pub fn lookup<T: Object>(self, need: Perms) -> Option<&'static T> {
        let word = self.word().load(Relaxed);
        let need = u64::from(need.bits());
        if word & need != need || word == 0 {
            return None;
        }
        let header = header_of(word);
        // The type is read after the identity: an object gets both before it lives, and no slot gets another object while
        // this CPU is in the kernel.
        if header.id.observe() != self.identity().load(Relaxed) || header.kind.get() != T::TYPE as u64 {
            return None;
        }
        // SAFETY: the slot holds a live object of this type.
        Some(unsafe { &*(header as *const Header).cast() })
    }

    /// The capability, if its object lives.
    #[inline(always)]
    pub fn load(self) -> Option<RawCap> {
        let raw = RawCap { word: self.word().load(Relaxed), id: self.identity().load(Relaxed) };
        (raw.word != 0 && header_of(raw.word).id.observe() == raw.id).then_some(raw)
    }

    /// Overwrites the slot.
    #[inline(always)]
    pub fn store(self, raw: RawCap) {
        self.identity().store(NO_ID, Relaxed);
        // Ordering: the two Release stores keep the order described at the type for a reader's plain loads (x86: TSO).
        self.word().store(raw.word, Release);
        self.identity().store(raw.id, Release);
    }

    /// Overwrites the slot with a capability to an object. One that died in the meantime is never found there.
    #[inline(always)]
    pub fn store_object<T: Object>(self, object: &'static T, perms: Perms) {
        let id = id_to_keep(object);
        self.store(RawCap { word: object.addr() | u64::from(perms.bits()), id });
    }

    /// Empties the slot.
    #[inline(always)]
    pub fn clear(self) {
        self.identity().store(NO_ID, Relaxed);
        self.word().store(0, Release);
    }
}
