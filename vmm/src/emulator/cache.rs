//! Decoded instructions kept by address. Drivers poll the same few places, and decoding costs
//! several times what the access itself does.
//!
//! A decoded instruction depends on its bytes, its RIP (for relative operands) and the code size,
//! on nothing else. A hit compares all three with what was fetched through the current tables, so
//! neither CR3 nor self-modifying code can make an entry stale.

use vm_memory::GuestMemoryBackend;

use super::decode::{Decoded, decode_raw, lower};
use super::error::{InstructionBytes, Stop, Unemulated};
use super::fetch::Fetcher;
use crate::state::{CpuMode, VcpuState};

/// Entries, direct-mapped by the low bits of RIP.
const ENTRIES: usize = 64;

struct Entry {
    rip: u64,
    mode: CpuMode,
    bytes: InstructionBytes,
    decoded: Decoded,
}

impl Entry {
    /// Whether the fetched `code` starts with this entry's instruction.
    fn matches(&self, state: &VcpuState, code: &InstructionBytes) -> bool {
        self.rip == state.rip && self.mode.bits() == state.mode().bits() && code.starts_with(&self.bytes)
    }

    /// The instruction may continue on a page that was not fetched yet.
    fn is_cut(&self, state: &VcpuState, code: &InstructionBytes) -> bool {
        self.rip == state.rip && code.length < self.bytes.length
    }
}

pub(super) struct DecodeCache {
    entries: Box<[Option<Entry>; ENTRIES]>,
}

impl Default for DecodeCache {
    fn default() -> Self {
        DecodeCache { entries: Box::new([const { None }; ENTRIES]) }
    }
}

impl DecodeCache {
    /// The decoded instruction at CS:RIP.
    pub(super) fn decode_at<M: GuestMemoryBackend>(&mut self, mut fetcher: Fetcher<'_, M>) -> Result<Decoded, Stop> {
        let state = fetcher.state;
        let mut code = fetcher.fetch()?;
        let slot = &mut self.entries[state.rip as usize % ENTRIES];
        if let Some(entry) = slot {
            if entry.is_cut(state, &code) {
                fetcher.fetch_next_page(&mut code)?;
            }
            if entry.matches(state, &code) {
                return Ok(entry.decoded);
            }
        }
        let instruction = decode_raw(&mut code, &mut fetcher)?;
        let decoded = lower(&instruction).ok_or(Unemulated::Instruction)?;
        code.length = decoded.length.into();
        *slot = Some(Entry { rip: state.rip, mode: state.mode(), bytes: code, decoded });
        Ok(decoded)
    }
}
