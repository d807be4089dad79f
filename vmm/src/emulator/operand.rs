//! Reading and writing of located operands and register parts.

use vm_memory::{Address, Bytes, GuestMemoryBackend};

use super::address::{Location, Piece};
use super::decode::Operand;
use super::execute::Executor;
use super::{Bus, Width};
use crate::state::{Gpr, VcpuState};

/// AH, CH, DH and BH are bits 15..8.
const HIGH_BYTE_SHIFT: u32 = 8;

/// Part of a register, zero-extended.
pub(super) fn read_register(state: &VcpuState, register: Gpr, high: bool, width: Width) -> u64 {
    let shift = if high { HIGH_BYTE_SHIFT } else { 0 };
    (state.gpr(register) >> shift) & width.mask()
}

/// Writes part of a register: 32-bit writes clear the upper half, narrower ones keep the rest.
pub(super) fn write_register(state: &mut VcpuState, register: Gpr, high: bool, width: Width, value: u64) {
    let value = value & width.mask();
    let merged = match width {
        Width::Qword | Width::Dword => value,
        Width::Word | Width::Byte => {
            let shift = if high { HIGH_BYTE_SHIFT } else { 0 };
            (state.gpr(register) & !(width.mask() << shift)) | (value << shift)
        }
    };
    state.set_gpr(register, merged);
}

/// The largest naturally aligned access at `address` of at most `remaining` bytes.
fn chunk(address: u64, remaining: usize) -> Width {
    let fits = |width: Width| usize::from(width.bytes()) <= remaining && address.is_multiple_of(width.bytes().into());
    [Width::Qword, Width::Dword, Width::Word].into_iter().find(|width| fits(*width)).unwrap_or(Width::Byte)
}

impl<M: GuestMemoryBackend, B: Bus> Executor<'_, M, B> {
    /// Value of a register, selector or immediate operand; memory and none read as zero.
    pub(super) fn operand_value(&self, operand: Operand, width: Width) -> u64 {
        match operand {
            Operand::Register { register, high } => read_register(self.state, register, high, width),
            Operand::Immediate(value) => value & width.mask(),
            Operand::Selector(register) => self.state.segment(register).selector.into(),
            Operand::None | Operand::Memory | Operand::Vector(_) => 0,
        }
    }

    /// Writes a register operand.
    pub(super) fn set_operand(&mut self, operand: Operand, width: Width, value: u64) {
        if let Operand::Register { register, high } = operand {
            write_register(self.state, register, high, width, value);
        }
    }

    /// Reads a located operand of at most 8 bytes.
    #[inline]
    pub(super) fn load(&mut self, location: &Location) -> u64 {
        match *location {
            Location::Device { address, width } => self.bus.read(address, width) & width.mask(),
            Location::Pieces { first, second } => self.load_pieces(first, second) as u64,
        }
    }

    /// Writes a located operand of at most 8 bytes.
    #[inline]
    pub(super) fn store(&mut self, location: &Location, value: u64) {
        match *location {
            Location::Device { address, width } => self.bus.write(address, width, value & width.mask()),
            Location::Pieces { first, second } => self.store_pieces(first, second, value.into()),
        }
    }

    /// Reads a located operand of at most 16 bytes.
    pub(super) fn load_wide(&mut self, location: &Location) -> u128 {
        match *location {
            Location::Device { .. } => self.load(location).into(),
            Location::Pieces { first, second } => self.load_pieces(first, second),
        }
    }

    /// Writes a located operand of at most 16 bytes.
    pub(super) fn store_wide(&mut self, location: &Location, value: u128) {
        match *location {
            Location::Device { .. } => self.store(location, value as u64),
            Location::Pieces { first, second } => self.store_pieces(first, second, value),
        }
    }

    fn load_pieces(&mut self, first: Piece, second: Option<Piece>) -> u128 {
        let mut bytes = [0; size_of::<u128>()];
        let (low, high) = bytes.split_at_mut(first.length.into());
        self.load_piece(first, low);
        if let Some(piece) = second {
            let length = usize::from(piece.length).min(high.len());
            self.load_piece(piece, &mut high[..length]);
        }
        u128::from_le_bytes(bytes)
    }

    fn store_pieces(&mut self, first: Piece, second: Option<Piece>, value: u128) {
        let bytes = value.to_le_bytes();
        let (low, high) = bytes.split_at(first.length.into());
        self.store_piece(first, low);
        if let Some(piece) = second {
            let length = usize::from(piece.length).min(high.len());
            self.store_piece(piece, &high[..length]);
        }
    }

    fn load_piece(&mut self, piece: Piece, target: &mut [u8]) {
        if !self.is_ram(piece) || self.memory.read_slice(target, piece.address).is_err() {
            self.for_each_chunk(piece, |bus, address, range, width| {
                let value = bus.read(address, width).to_le_bytes();
                if let (Some(target), Some(value)) = (target.get_mut(range), value.get(..width.bytes().into())) {
                    target.copy_from_slice(value);
                }
            });
        }
    }

    fn store_piece(&mut self, piece: Piece, source: &[u8]) {
        if !self.is_ram(piece) || self.memory.write_slice(source, piece.address).is_err() {
            self.for_each_chunk(piece, |bus, address, range, width| {
                let mut value = [0; size_of::<u64>()];
                if let (Some(source), Some(value)) = (source.get(range), value.get_mut(..width.bytes().into())) {
                    value.copy_from_slice(source);
                }
                bus.write(address, width, u64::from_le_bytes(value));
            });
        }
    }

    fn is_ram(&self, piece: Piece) -> bool {
        GuestMemoryBackend::check_range(self.memory, piece.address, piece.length.into())
    }

    /// One access where a piece has an integer's size, aligned ones otherwise.
    fn for_each_chunk(
        &mut self,
        piece: Piece,
        mut access: impl FnMut(&mut B, vm_memory::GuestAddress, std::ops::Range<usize>, Width),
    ) {
        let whole = Width::from_bytes(piece.length.into());
        let length = usize::from(piece.length);
        let mut done = 0;
        while done < length {
            let address = piece.address.unchecked_add(done as u64);
            let width = whole.unwrap_or_else(|| chunk(address.0, length - done));
            let next = done + usize::from(width.bytes());
            access(self.bus, address, done..next, width);
            done = next;
        }
    }
}
