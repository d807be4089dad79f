//! Decoded instructions kept by address. Drivers poll the same few places, and to walk the guest's tables, fetch and decode
//! costs several times what the access itself does.
//!
//! A decoded instruction depends on its bytes, its RIP (for relative operands) and the code size; where its bytes are, on the
//! tables on the way there and on the registers that say how to walk them. A hit compares all of that with what is there now, so
//! that neither a change of the tables nor self-modifying code goes unseen.

use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileMemory};

use super::decode::Decoded;
use super::error::InstructionBytes;
use super::fetch::{Code, CodePage, linear_rip};
use crate::paging::{FetchRegime, PAGE_SIZE, Path, Place};
use crate::state::{CpuMode, VcpuState};

/// Entries, direct-mapped by the low bits of RIP.
const ENTRIES: usize = 64;

/// Registers on which the instruction at CS:RIP depends.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    rip: u64,
    linear: u64,
    mode: CpuMode,
    regime: FetchRegime,
}

impl Key {
    #[inline]
    fn of(state: &VcpuState) -> Self {
        let mode = state.mode();
        let regime = FetchRegime::of(state, state.cpl() == 3);
        Key { rip: state.rip, linear: linear_rip(state), mode, regime }
    }
}

/// An integer that covers the bytes that an instruction has in one page.
type Window = u128;

/// The part of an instruction that lies in one page.
struct Part<'m, M: GuestMemoryBackend> {
    path: Path<'m, M>,
    /// In the same page.
    window: Place<'m, M>,
    /// The bits of the window that belong to the instruction.
    mask: Window,
    /// What they are; the others are clear.
    bits: Window,
}

impl<'m, M: GuestMemoryBackend> Part<'m, M> {
    /// The part of `code` that `page` has; `None` where RAM ends inside the page.
    fn new(memory: &'m M, code: &[u8], page: CodePage<'m, M>) -> Option<Self> {
        const BYTES: usize = size_of::<Window>();
        let offset = page.address.0 % PAGE_SIZE;
        let start = offset.min(PAGE_SIZE - BYTES as u64);
        let window = memory.get_slice(GuestAddress(page.address.0 - offset + start), BYTES).ok()?;
        let (mut bits, mut mask) = ([0; BYTES], [0; BYTES]);
        let places = bits.iter_mut().zip(&mut mask).skip((offset - start) as usize);
        for ((bits, mask), byte) in places.zip(code.iter().skip(page.first)) {
            (*bits, *mask) = (*byte, u8::MAX);
        }
        Some(Part { path: page.path, window, mask: Window::from_le_bytes(mask), bits: Window::from_le_bytes(bits) })
    }

    /// Whether the same bytes are found in the same way.
    #[inline]
    fn is_unchanged(&self) -> bool {
        self.path.is_unchanged()
            && self.window.get_ref(0).is_ok_and(|window| Window::from_le(window.load()) & self.mask == self.bits)
    }
}

struct Entry<'m, M: GuestMemoryBackend> {
    key: Key,
    bytes: InstructionBytes,
    /// Where the bytes are; nobody knows if the CPU fetched them.
    first: Option<Part<'m, M>>,
    /// The part on the next page, if the instruction crosses a boundary.
    second: Option<Part<'m, M>>,
    decoded: Decoded,
}

impl<M: GuestMemoryBackend> Entry<'_, M> {
    /// Whether the same bytes are where they were.
    #[inline]
    fn is_unchanged(&self) -> bool {
        self.first.as_ref().is_some_and(Part::is_unchanged) && self.second.as_ref().is_none_or(Part::is_unchanged)
    }
}

pub(super) struct DecodeCache<'m, M: GuestMemoryBackend> {
    entries: Box<[Option<Entry<'m, M>>]>,
}

impl<M: GuestMemoryBackend> Default for DecodeCache<'_, M> {
    fn default() -> Self {
        DecodeCache { entries: (0..ENTRIES).map(|_| None).collect() }
    }
}

impl<'m, M: GuestMemoryBackend> DecodeCache<'m, M> {
    /// The instruction at CS:RIP, if it is known and nothing has changed; `given` is what the CPU has fetched there, if it has.
    #[inline]
    pub(super) fn find(&self, state: &VcpuState, given: &[u8]) -> Option<&Decoded> {
        let entry = self.entries.get(state.rip as usize % ENTRIES)?.as_ref()?;
        let is_same = || {
            if given.is_empty() { entry.is_unchanged() } else { given.starts_with(entry.bytes.as_slice()) }
        };
        (entry.key == Key::of(state) && is_same()).then_some(&entry.decoded)
    }

    /// Remembers the instruction at CS:RIP, which was fetched as `code`.
    pub(super) fn remember(&mut self, state: &VcpuState, memory: &'m M, code: Code<'m, M>, decoded: Decoded) {
        let Some(slot) = self.entries.get_mut(state.rip as usize % ENTRIES) else { return };
        let Some(bytes) = code.bytes.as_slice().get(..decoded.length.into()) else { return };
        let mut pages = code.pages.into_iter().flatten().peekable();
        let is_fetched = pages.peek().is_some_and(|page| page.first == 0);
        let mut parts = pages.map(|page| Part::new(memory, bytes, page));
        let places = match (is_fetched, parts.next().flatten(), parts.next()) {
            (false, ..) => Some((None, None)),
            (true, first @ Some(_), None) => Some((first, None)),
            (true, first @ Some(_), Some(second @ Some(_))) => Some((first, second)),
            _ => None,
        };
        let (key, bytes) = (Key::of(state), InstructionBytes::first_of(bytes));
        *slot = places.map(|(first, second)| Entry { key, bytes, first, second, decoded });
    }
}
