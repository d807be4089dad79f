//! Accesses that the CPU makes on its own behalf, whatever the privilege level: descriptors and task state (SDM3 4.6).

use vm_memory::{Bytes, GuestMemoryBackend};

use super::address::{Piece, pieces};
use super::error::{Stop, Unemulated};
use crate::paging::{Access, AccessKind};
use crate::state::VcpuState;

/// A guest as the CPU itself accesses its memory.
pub(super) struct System<'a, M> {
    pub(super) memory: &'a M,
    pub(super) state: &'a VcpuState,
}

/// Bytes in RAM, of which the guest's tables permit the access they were located for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    first: Piece,
    second: Option<Piece>,
}

impl<M: GuestMemoryBackend> System<'_, M> {
    /// `length` bytes at a linear address of 32 bits.
    ///
    /// # Errors
    /// A page fault, or that it is not RAM.
    pub(super) fn locate(&self, linear: u64, length: u8, kind: AccessKind) -> Result<Span, Stop> {
        self.locate_with(linear, length, Access { kind, user: false })
    }

    /// The same for an access with the privileges of the code that runs.
    pub(super) fn locate_as_task(&self, linear: u64, length: u8, kind: AccessKind) -> Result<Span, Stop> {
        self.locate_with(linear, length, Access { kind, user: self.state.cpl() == 3 })
    }

    fn locate_with(&self, linear: u64, length: u8, access: Access) -> Result<Span, Stop> {
        let (first, second) = pieces(self.memory, self.state, linear & u64::from(u32::MAX), length, access)?;
        let is_ram = |piece: Piece| GuestMemoryBackend::check_range(self.memory, piece.address, piece.length.into());
        if [Some(first), second].into_iter().flatten().all(is_ram) {
            Ok(Span { first, second })
        } else {
            Err(Unemulated::SystemSegment.into())
        }
    }
}

impl Span {
    /// Fills `target`, which is as long, or longer.
    pub(super) fn read<M: GuestMemoryBackend>(&self, memory: &M, target: &mut [u8]) {
        let mut rest = target;
        for Piece { address, length } in self.pieces() {
            let (here, behind) = rest.split_at_mut(usize::from(length).min(rest.len()));
            // It was RAM when it was located, and RAM does not go.
            let _ = memory.read_slice(here, address);
            rest = behind;
        }
    }

    /// Writes the beginning of `source`, which is as long, or longer.
    pub(super) fn write<M: GuestMemoryBackend>(&self, memory: &M, source: &[u8]) {
        let mut rest = source;
        for Piece { address, length } in self.pieces() {
            let (here, behind) = rest.split_at(usize::from(length).min(rest.len()));
            let _ = memory.write_slice(here, address);
            rest = behind;
        }
    }

    /// Changes the first byte.
    pub(super) fn change_byte<M: GuestMemoryBackend>(&self, memory: &M, change: impl FnOnce(u8) -> u8) {
        let mut byte = [0];
        self.read(memory, &mut byte);
        Span { first: Piece { length: 1, ..self.first }, second: None }.write(memory, &[change(byte[0])]);
    }

    fn pieces(&self) -> impl Iterator<Item = Piece> {
        [Some(self.first), self.second].into_iter().flatten()
    }
}
