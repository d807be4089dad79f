//! Instruction fetch through the guest's page tables.

use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::address::stop_of;
use super::error::{InstructionBytes, MAX_INSTRUCTION, Stop, Unemulated};
use crate::paging::{Access, AccessKind, PAGE_SIZE, WalkMemo};
use crate::state::{CpuMode, SegmentRegister, VcpuState};

/// Linear address of the instruction.
fn linear_rip(state: &VcpuState) -> u64 {
    match state.mode() {
        CpuMode::Long64 => state.rip,
        _ => {
            let base = state.segment(SegmentRegister::Cs).base;
            base.wrapping_add(state.rip) & u64::from(u32::MAX)
        }
    }
}

/// Fetch from the current instruction on.
pub(super) struct Fetcher<'a, M> {
    pub(super) state: &'a VcpuState,
    pub(super) memory: &'a M,
    pub(super) walks: &'a mut WalkMemo,
    /// What the CPU fetched itself, from CS:RIP on; empty if it did not.
    pub(super) given: &'a [u8],
}

impl<M: GuestMemoryBackend> Fetcher<'_, M> {
    /// The bytes at CS:RIP that the CPU fetched; else those up to the end of their page, or 15 of them.
    pub(super) fn fetch(&mut self) -> Result<InstructionBytes, Stop> {
        let mut code = InstructionBytes::default();
        if self.given.is_empty() {
            self.fetch_next_page(&mut code)?;
        } else {
            code.take(self.given);
        }
        Ok(code)
    }

    /// Extends a fetch by the bytes behind it up to the end of their page: where it ended at a page boundary, those of the next page.
    pub(super) fn fetch_next_page(&mut self, code: &mut InstructionBytes) -> Result<(), Stop> {
        let start = linear_rip(self.state).wrapping_add(code.length as u64);
        let linear = if self.state.mode() == CpuMode::Long64 { start } else { start & u64::from(u32::MAX) };
        let access = Access { kind: AccessKind::Fetch, user: self.state.cpl() == 3 };
        let walked = self.walks.translate(self.memory, self.state, linear, access);
        let physical = walked.map_err(stop_of)?;
        let in_page = (PAGE_SIZE - linear % PAGE_SIZE) as usize;
        let wanted = (MAX_INSTRUCTION - code.length).min(in_page);
        let Some(target) = code.bytes.get_mut(code.length..code.length + wanted) else {
            return Ok(());
        };
        read_ram(self.memory, physical, target)?;
        code.length += wanted;
        Ok(())
    }
}

fn read_ram<M: GuestMemoryBackend>(memory: &M, address: GuestAddress, target: &mut [u8]) -> Result<(), Stop> {
    let outside = Stop::Unemulated(Unemulated::FetchOutsideRam(address.0));
    // A page lies in one region: no need for `Bytes`, which iterates over several.
    let code = memory.get_slice(address, target.len()).map_err(|_| outside)?;
    code.copy_to(target);
    Ok(())
}

/// Whatever can be read at CS:RIP, for an error report.
pub(super) fn readable_bytes<M: GuestMemoryBackend>(state: &VcpuState, memory: &M) -> InstructionBytes {
    let walks = &mut WalkMemo::default();
    let mut fetcher = Fetcher { state, memory, walks, given: &[] };
    let mut code = fetcher.fetch().unwrap_or_default();
    if (1..MAX_INSTRUCTION).contains(&code.length) {
        // A second page that cannot be read leaves the report with the first page's bytes.
        let _ = fetcher.fetch_next_page(&mut code);
    }
    code
}
