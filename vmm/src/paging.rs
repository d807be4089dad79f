//! Walk of the guest's page tables: linear to guest-physical address, with the permissions,
//! accessed/dirty bits and page-fault error codes of the hardware walker (APM2 chapter 5, SDM3
//! chapter 4).

mod format;
mod path;

use abi::PAGE_BITS;
pub use abi::PAGE_SIZE;
use abi::state::PDPTES;
use bitflags::bitflags;
use vm_memory::{Address, GuestAddress, GuestMemoryBackend};

use crate::state::{Cr0, Cr4, Efer, Rflags, VcpuState};
use format::{ADDRESS_MASK, Format, always_reserved, large_levels};
pub use path::{FetchRegime, Path, Place};
use path::{LONG_ENTRY, SHORT_ENTRY, Visited};

bitflags! {
    /// Page-fault error code (APM2 8.4.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PageFaultCode: u32 {
        /// The page was present: a permission was missing.
        const PRESENT = 1 << 0;
        /// The access was a write.
        const WRITE = 1 << 1;
        /// The access was made in user mode.
        const USER = 1 << 2;
        /// A reserved bit was set in a table entry.
        const RESERVED = 1 << 3;
        /// The access was an instruction fetch.
        const FETCH = 1 << 4;
    }

    /// Page-table entry bits common to all formats (APM2 5.3.3, 5.4).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Entry: u64 {
        const PRESENT = 1 << 0;
        const WRITABLE = 1 << 1;
        const USER = 1 << 2;
        const ACCESSED = 1 << 5;
        const DIRTY = 1 << 6;
        const LARGE = 1 << 7;
        const NO_EXECUTE = 1 << 63;
        const _ = !0;
    }
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// Data read.
    Read,
    /// Data write, or read and write.
    Write,
    /// Instruction fetch.
    Fetch,
}

/// An access whose permission is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// What it does.
    pub kind: AccessKind,
    /// Whether it is made at CPL 3.
    pub user: bool,
}

/// Result of a successful walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest-physical address of the byte asked for.
    pub address: GuestAddress,
    /// Size in bytes of the page that maps it.
    pub page_size: u64,
}

/// Why a walk did not end in a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslationError {
    /// The guest gets a page fault.
    #[error("page fault at {address:#x}, error code {:#x}", code.bits())]
    PageFault {
        /// Value for CR2.
        address: u64,
        /// Error code to push.
        code: PageFaultCode,
    },
    /// Another vCPU changed an entry during the walk: executing the instruction again is right.
    #[error("page table changed during the walk")]
    Raced,
}

/// Permissions gathered along the walk.
#[derive(Clone, Copy)]
struct Rights {
    writable: bool,
    user: bool,
    executable: bool,
}

/// Whether the bits of an address that has no more than `bits` of them are copies of the highest (APM2 5.3.1).
pub fn is_canonical(linear: u64, bits: u32) -> bool {
    let unused = u64::BITS - bits;
    (((linear << unused) as i64) >> unused) as u64 == linear
}

/// Translates `linear` for `access` under the control registers of `state`.
///
/// On success the accessed bit of every entry and, for writes, the dirty bit of the leaf are set.
///
/// # Errors
/// See [`TranslationError`].
pub fn translate<M: GuestMemoryBackend>(
    memory: &M,
    state: &VcpuState,
    linear: u64,
    access: Access,
) -> Result<Translation, TranslationError> {
    walk(memory, state, linear, access).map(|(translation, _)| translation)
}

/// The same with the entries on which it depends.
///
/// # Errors
/// See [`TranslationError`].
pub fn walk<'m, M: GuestMemoryBackend>(
    memory: &'m M,
    state: &VcpuState,
    linear: u64,
    access: Access,
) -> Result<(Translation, Path<'m, M>), TranslationError> {
    let format = Format::of(state);
    if format == Format::Flat {
        let translation = Translation { address: GuestAddress(linear), page_size: PAGE_SIZE };
        return Ok((translation, Path::default()));
    }
    let reserved = always_reserved(format, state);
    let large_levels = large_levels(format, state);
    Walk { memory, state, format, linear, access, reserved, large_levels }.run()
}

/// The page-directory pointers that the CPU would load with this CR3 (SDM3 4.4.1): all zero but with PAE paging. `None` if they are not
/// possible.
pub fn page_directory_pointers<M: GuestMemoryBackend>(
    memory: &M,
    state: &VcpuState,
    cr3: u64,
) -> Option<[u64; PDPTES]> {
    let mut pointers = [0; PDPTES];
    if Format::of(state) != Format::Pae {
        return Some(pointers);
    }
    for (linear, pointer) in (0..).step_by(1 << 30).zip(&mut pointers) {
        let access = Access { kind: AccessKind::Read, user: false };
        let walk = Walk {
            memory,
            state,
            format: Format::Pae,
            linear,
            access,
            reserved: always_reserved(Format::Pae, state),
            large_levels: 0,
        };
        *pointer = walk.read_entry(Format::Pae.root(cr3), Format::Pae.levels()).ok()?.value();
        let reserved = walk.reserved | walk.reserved_bits(Format::Pae.levels(), false);
        if *pointer & Entry::PRESENT.bits() != 0 && *pointer & reserved != 0 {
            return None;
        }
    }
    Some(pointers)
}

struct Walk<'m, 'a, M> {
    memory: &'m M,
    state: &'a VcpuState,
    format: Format,
    linear: u64,
    access: Access,
    /// Bits that are reserved at every level.
    reserved: u64,
    /// Bit n is set if entries of level n may map a large page.
    large_levels: u32,
}

impl<'m, M: GuestMemoryBackend> Walk<'m, '_, M> {
    fn run(&self) -> Result<(Translation, Path<'m, M>), TranslationError> {
        let mut path = Path::default();
        let mut level = self.format.levels();
        let mut table = self.format.root(self.state.cr3);
        // Permissions are the intersection over the path, no-execute is the union.
        let (mut all, mut any) = (Entry::all(), Entry::empty());
        loop {
            let here = self.read_entry(table, level)?;
            let value = here.value();
            let entry = Entry::from_bits_retain(value);
            if !entry.contains(Entry::PRESENT) {
                return Err(self.fault(PageFaultCode::empty()));
            }
            let large = entry.contains(Entry::LARGE) && self.large_levels >> level & 1 == 1;
            let specific = if level > 1 { self.reserved_bits(level, large) } else { 0 };
            if value & (self.reserved | specific) != 0 {
                return Err(self.fault(PageFaultCode::PRESENT | PageFaultCode::RESERVED));
            }
            if !self.is_pdpte(level) {
                all &= entry;
                any |= entry;
            }
            path.put((self.format.levels() - level) as usize, here);
            if level == 1 || large {
                let rights = Rights {
                    writable: all.contains(Entry::WRITABLE),
                    user: all.contains(Entry::USER),
                    executable: !any.contains(Entry::NO_EXECUTE),
                };
                self.finish(rights, &mut path)?;
                return Ok((self.leaf_translation(value, level), path));
            }
            table = self.table_address(value);
            level -= 1;
        }
    }

    /// Checks permissions and marks the entries as used.
    fn finish(&self, rights: Rights, path: &mut Path<'m, M>) -> Result<(), TranslationError> {
        if !self.permitted(rights) {
            return Err(self.fault(PageFaultCode::PRESENT));
        }
        // The top entries of PAE have no accessed bits.
        path.mark(usize::from(self.format == Format::Pae), self.access.kind == AccessKind::Write)
    }

    /// Lowest linear-address bit that selects an entry at `level`.
    fn shift(&self, level: u32) -> u32 {
        PAGE_BITS + (level - 1) * self.format.index_bits()
    }

    fn read_entry(&self, table: u64, level: u32) -> Result<Visited<'m, M>, TranslationError> {
        let index = (self.linear >> self.shift(level)) & ((1 << self.format.index_bits()) - 1);
        let size = if self.format == Format::TwoLevel { SHORT_ENTRY } else { LONG_ENTRY };
        let address = table + index * size as u64;
        // What is not there reads as all ones: present, with reserved bits set. (Tables with 4-byte entries have none in their
        // leaves. What all ones would map there is above all RAM as well, so that nobody gets further without the fault.)
        let nothing = || self.fault(PageFaultCode::PRESENT | PageFaultCode::RESERVED);
        Visited::read(self.memory, address, size).ok_or_else(nothing)
    }

    fn is_pdpte(&self, level: u32) -> bool {
        self.format == Format::Pae && level == 3
    }

    fn table_address(&self, value: u64) -> u64 {
        if self.format == Format::TwoLevel { value & 0xffff_f000 } else { value & ADDRESS_MASK }
    }

    /// Bits that must be clear in an entry above level 1, beyond those of every level.
    fn reserved_bits(&self, level: u32, large: bool) -> u64 {
        /// Bit 21 of a 4 MiB entry.
        const PSE_RESERVED: u64 = 1 << 21;
        /// Bits 1, 2, 6..8 and 63 of a PAE page-directory-pointer entry. Bit 5, too, is reserved (APM2 5.2.3, SDM3 4.4.1), but QEMU
        /// sets it, as if it was that of an access.
        const PDPTE_RESERVED: u64 = 0x1c6 | 1 << 63;
        if self.is_pdpte(level) {
            PDPTE_RESERVED
        } else if level >= 4 {
            Entry::LARGE.bits()
        } else if !large {
            0
        } else if self.format == Format::TwoLevel {
            PSE_RESERVED
        } else {
            // Between the PAT bit (12) and the address field.
            ((1 << self.shift(level)) - 1) & !((1 << (PAGE_BITS + 1)) - 1)
        }
    }

    fn permitted(&self, rights: Rights) -> bool {
        let cr4 = self.state.cr4;
        let supervisor = !self.access.user;
        if self.access.user && !rights.user {
            return false;
        }
        match self.access.kind {
            AccessKind::Fetch => {
                let smep = supervisor && rights.user && cr4.contains(Cr4::SMEP);
                (rights.executable || !self.state.efer.contains(Efer::NXE)) && !smep
            }
            kind => {
                let overridden = self.state.rflags.contains(Rflags::AC);
                let smap = supervisor && rights.user && cr4.contains(Cr4::SMAP) && !overridden;
                let ignores_read_only = supervisor && !self.state.cr0.contains(Cr0::WP);
                !smap && (kind == AccessKind::Read || rights.writable || ignores_read_only)
            }
        }
    }

    fn fault(&self, mut code: PageFaultCode) -> TranslationError {
        code.set(PageFaultCode::WRITE, self.access.kind == AccessKind::Write);
        code.set(PageFaultCode::USER, self.access.user);
        let fetch_reported = self.state.efer.contains(Efer::NXE) || self.state.cr4.contains(Cr4::SMEP);
        code.set(PageFaultCode::FETCH, self.access.kind == AccessKind::Fetch && fetch_reported);
        TranslationError::PageFault { address: self.linear, code }
    }

    fn leaf_translation(&self, value: u64, level: u32) -> Translation {
        let page_size = 1u64 << self.shift(level);
        let offset = self.linear & (page_size - 1);
        let frame = if self.format == Format::TwoLevel {
            /// Bits 13..20 of a 4 MiB entry are address bits 32..39 (APM2 5.2.3).
            const PSE36_FIELD: u64 = 0xff << 13;
            let high = if level == 2 { (value & PSE36_FIELD) << (32 - 13) } else { 0 };
            high | (value & 0xffff_ffff & !(page_size - 1))
        } else {
            value & ADDRESS_MASK & !(page_size - 1)
        };
        Translation { address: GuestAddress(frame).unchecked_add(offset), page_size }
    }
}

#[cfg(test)]
#[path = "paging_tests.rs"]
mod tests;
