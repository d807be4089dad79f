//! Accesses that the CPU makes on its own behalf, whatever the privilege level: descriptors and task state (SDM3 4.6).

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::address::stop_of;
use super::error::{Stop, Unemulated};
use crate::paging::{Access, AccessKind, PAGE_SIZE, translate};
use crate::state::VcpuState;

/// A guest as the CPU itself accesses its memory.
pub(super) struct System<'a, M> {
    pub(super) memory: &'a M,
    pub(super) state: &'a VcpuState,
}

/// Bytes in RAM, of which the guest's tables permit the access they were located for. At most a page, so at most in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    first: (GuestAddress, usize),
    second: Option<(GuestAddress, usize)>,
}

impl<M: GuestMemoryBackend> System<'_, M> {
    /// `length` bytes, at most a page, at a linear address of 32 bits.
    ///
    /// # Errors
    /// A page fault, or that it is not RAM.
    pub(super) fn locate(&self, linear: u64, length: usize, kind: AccessKind) -> Result<Span, Stop> {
        self.locate_with(linear, length, Access { kind, user: false })
    }

    /// The same for an access with the privileges of the code that runs.
    pub(super) fn locate_as_task(&self, linear: u64, length: usize, kind: AccessKind) -> Result<Span, Stop> {
        self.locate_with(linear, length, Access { kind, user: self.state.cpl() == 3 })
    }

    fn locate_with(&self, linear: u64, length: usize, access: Access) -> Result<Span, Stop> {
        let linear = linear & u64::from(u32::MAX);
        let in_page = (PAGE_SIZE - linear % PAGE_SIZE) as usize;
        let first = length.min(in_page);
        let second = linear.wrapping_add(first as u64) & u64::from(u32::MAX);
        let piece = |linear, length| -> Result<_, Stop> {
            let address = translate(self.memory, self.state, linear, access).map_err(stop_of)?.address;
            let is_ram = GuestMemoryBackend::check_range(self.memory, address, length);
            if is_ram { Ok((address, length)) } else { Err(Unemulated::SystemSegment.into()) }
        };
        let second = if first < length { Some(piece(second, length - first)?) } else { None };
        Ok(Span { first: piece(linear, first)?, second })
    }
}

impl Span {
    /// Fills `target`, which is as long, or longer.
    pub(super) fn read<M: GuestMemoryBackend>(&self, memory: &M, target: &mut [u8]) {
        let mut rest = target;
        for (address, length) in self.pieces() {
            let (here, behind) = rest.split_at_mut(length.min(rest.len()));
            // It was RAM when it was located, and RAM does not go.
            let _ = memory.read_slice(here, address);
            rest = behind;
        }
    }

    /// Writes the beginning of `source`, which is as long, or longer.
    pub(super) fn write<M: GuestMemoryBackend>(&self, memory: &M, source: &[u8]) {
        let mut rest = source;
        for (address, length) in self.pieces() {
            let (here, behind) = rest.split_at(length.min(rest.len()));
            let _ = memory.write_slice(here, address);
            rest = behind;
        }
    }

    /// Changes the first byte.
    pub(super) fn change_byte<M: GuestMemoryBackend>(&self, memory: &M, change: impl FnOnce(u8) -> u8) {
        let mut byte = [0];
        self.read(memory, &mut byte);
        Span { first: (self.first.0, 1), second: None }.write(memory, &[change(byte[0])]);
    }

    fn pieces(&self) -> impl Iterator<Item = (GuestAddress, usize)> {
        [Some(self.first), self.second].into_iter().flatten()
    }
}
