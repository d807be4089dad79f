//! Walks remembered, so that code that exits again and again is not walked to from scratch.
//!
//! A remembered walk is no TLB: each use reads every entry of its path again and compares it with
//! what the walk saw. Equal entries under equal control registers give the equal result, so that
//! no flush by the guest has to be noticed, and a change of the tables never goes unseen.

use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::{Access, Format, PAGE_SIZE, Path, TranslationError, Visited, Walk, flat, load, translate};
use crate::state::{Cr0, Cr4, Efer, Rflags, VcpuState};

/// Pages remembered, direct-mapped by page number.
const ENTRIES: usize = 8;

/// Everything a walk depends on beside the tables.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    page: u64,
    cr3: u64,
    cr0: Cr0,
    cr4: Cr4,
    efer: Efer,
    alignment_check: bool,
    physical_address_bits: u8,
    access: Access,
}

impl Key {
    fn new(state: &VcpuState, linear: u64, access: Access) -> Self {
        Key {
            page: linear / PAGE_SIZE,
            cr3: state.cr3,
            cr0: state.cr0,
            cr4: state.cr4,
            efer: state.efer,
            alignment_check: state.rflags.contains(Rflags::AC),
            physical_address_bits: state.physical_address_bits,
            access,
        }
    }
}

#[derive(Clone, Copy)]
struct Remembered {
    key: Key,
    path: Path,
    /// Guest-physical address of the page.
    frame: u64,
}

/// Remembered walks of one vCPU.
#[derive(Default)]
pub struct WalkMemo {
    entries: [Option<Remembered>; ENTRIES],
}

impl WalkMemo {
    /// As [`super::translate`], for the address only.
    ///
    /// # Errors
    /// See [`TranslationError`].
    pub fn translate<M: GuestMemoryBackend>(
        &mut self,
        memory: &M,
        state: &VcpuState,
        linear: u64,
        access: Access,
    ) -> Result<GuestAddress, TranslationError> {
        // The top entries of PAE are not part of a path, those of two levels are 4 bytes.
        if !matches!(Format::of(state), Format::FourLevel | Format::FiveLevel) {
            return translate(memory, state, linear, access).map(|translation| translation.address);
        }
        let key = Key::new(state, linear, access);
        let slot = &mut self.entries[key.page as usize % ENTRIES];
        let offset = linear % PAGE_SIZE;
        if let Some(remembered) = slot
            && remembered.key == key
            && remembered.path.entries().iter().all(|entry| unchanged(memory, entry))
        {
            return Ok(GuestAddress(remembered.frame | offset));
        }
        let Some(walk) = Walk::new(memory, state, linear, access) else {
            return Ok(flat(linear).address);
        };
        let (translation, path) = walk.run()?;
        let frame = translation.address.0 - offset;
        *slot = Some(Remembered { key, path, frame });
        Ok(translation.address)
    }
}

fn unchanged<M: GuestMemoryBackend>(memory: &M, entry: &Visited) -> bool {
    load::<u64>(memory, entry.address) == Some(entry.value)
}
