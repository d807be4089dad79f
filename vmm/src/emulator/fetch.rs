//! Instruction fetch through the guest's page tables.

use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::address::stop_of;
use super::error::{Exception, InstructionBytes, MAX_INSTRUCTION, Stop};
use crate::paging::{Access, AccessKind, PAGE_SIZE, Path, walk};
use crate::state::{CpuMode, SegmentRegister, VcpuState};

/// Linear address of the instruction.
#[inline]
pub(super) fn linear_rip(state: &VcpuState) -> u64 {
    match state.mode() {
        CpuMode::Long64 => state.rip,
        _ => {
            let base = state.segment(SegmentRegister::Cs).base;
            base.wrapping_add(state.rip) & u64::from(u32::MAX)
        }
    }
}

/// A page from which instruction bytes came.
pub(super) struct CodePage<'m, M: GuestMemoryBackend> {
    /// The way there.
    pub(super) path: Path<'m, M>,
    /// Guest-physical address of the first byte.
    pub(super) address: GuestAddress,
    /// Which byte of the instruction that is.
    pub(super) first: usize,
}

/// Fetched bytes, and where those came from that the CPU did not fetch itself.
pub(super) struct Code<'m, M: GuestMemoryBackend> {
    pub(super) bytes: InstructionBytes,
    pub(super) pages: [Option<CodePage<'m, M>>; 2],
}

/// Fetch from the current instruction on.
pub(super) struct Fetcher<'m, 'a, M> {
    pub(super) state: &'a VcpuState,
    pub(super) memory: &'m M,
    /// What the CPU fetched itself, from CS:RIP on; empty if it did not.
    pub(super) given: &'a [u8],
}

impl<'m, M: GuestMemoryBackend> Fetcher<'m, '_, M> {
    /// The bytes at CS:RIP that the CPU fetched; else those up to the end of their page, or 15 of them.
    pub(super) fn fetch(&self) -> Result<Code<'m, M>, Stop> {
        let mut code = Code { bytes: InstructionBytes::first_of(self.given), pages: [None, None] };
        if self.given.is_empty() {
            self.fetch_next_page(&mut code)?;
        }
        Ok(code)
    }

    /// Extends a fetch by the bytes behind it up to the end of their page: where it ended at a page boundary, those of the next page.
    pub(super) fn fetch_next_page(&self, code: &mut Code<'m, M>) -> Result<(), Stop> {
        let bytes = &mut code.bytes;
        let first = bytes.length;
        let start = linear_rip(self.state).wrapping_add(first as u64);
        let linear = if self.state.mode() == CpuMode::Long64 { start } else { start & u64::from(u32::MAX) };
        let access = Access { kind: AccessKind::Fetch, user: self.state.cpl() == 3 };
        let (translation, path) = walk(self.memory, self.state, linear, access).map_err(stop_of)?;
        let in_page = (PAGE_SIZE - linear % PAGE_SIZE) as usize;
        let wanted = (MAX_INSTRUCTION - first).min(in_page);
        let Some(target) = bytes.bytes.get_mut(first..first + wanted) else {
            return Ok(());
        };
        read_ram(self.memory, translation.address, target)?;
        bytes.length += wanted;
        if let Some(page) = code.pages.iter_mut().find(|page| page.is_none()) {
            *page = Some(CodePage { path, address: translation.address, first });
        }
        Ok(())
    }
}

/// There is no code but in RAM: what is not there reads as all ones, and no instruction begins with FFh FFh.
fn read_ram<M: GuestMemoryBackend>(memory: &M, address: GuestAddress, target: &mut [u8]) -> Result<(), Exception> {
    // A page lies in one region: no need for `Bytes`, which iterates over several.
    let code = memory.get_slice(address, target.len()).map_err(|_| Exception::INVALID_OPCODE)?;
    code.copy_to(target);
    Ok(())
}

/// Whatever can be read at CS:RIP, for an error report.
pub(super) fn readable_bytes<M: GuestMemoryBackend>(state: &VcpuState, memory: &M) -> InstructionBytes {
    let fetcher = Fetcher { state, memory, given: &[] };
    let Ok(mut code) = fetcher.fetch() else { return InstructionBytes::default() };
    if code.bytes.length < MAX_INSTRUCTION {
        // A second page that cannot be read leaves the report with the first page's bytes.
        let _ = fetcher.fetch_next_page(&mut code);
    }
    code.bytes
}
