//! The MSI-X capability and its table (PCI Local Bus 3.0, 6.8.2).

use super::config::{CapabilityOffset, ConfigSpace, LayoutError};
use crate::bus::mmio::{Gpa, MmioAccess, MmioSize};
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU16;

const ID: u8 = 0x11;
const CONTROL_ENABLE: u32 = 1 << 31;
const CONTROL_FUNCTION_MASK: u32 = 1 << 30;
/// The table size field's width; it holds the number of vectors less one.
const MOST_VECTORS: u16 = 2048;

const ENTRY_DWORDS: usize = 4;
const ENTRY_BYTES: u64 = 16;
const ADDRESS_LOW: usize = 0;
const ADDRESS_HIGH: usize = 1;
const DATA: usize = 2;
const CONTROL: usize = 3;
const VECTOR_MASKED: u32 = 1 << 0;

/// Where the table and the pending bits are, and the table's contents.
#[derive(Debug)]
pub struct Msix {
    capability: CapabilityOffset,
    table: Vec<[u32; ENTRY_DWORDS]>,
    pending: Vec<u64>,
}

impl Msix {
    /// Adds the capability for `vectors` vectors (at most 2048). The table starts at `table` and
    /// the pending bits at `pba`, bytes from the start of base address register `bar`; multiples of 8.
    ///
    /// # Errors
    /// [`LayoutError::Full`] when it does not fit.
    pub fn add(
        space: &mut ConfigSpace,
        vectors: NonZeroU16,
        bar: u8,
        table: u32,
        pba: u32,
    ) -> Result<Self, LayoutError> {
        let vectors = vectors.get().min(MOST_VECTORS);
        let bar = u32::from(bar) & 0b111;
        let body = [
            (u32::from(vectors - 1) << 16, CONTROL_ENABLE | CONTROL_FUNCTION_MASK),
            (table & !0b111 | bar, 0),
            (pba & !0b111 | bar, 0),
        ];
        let mut entry = [0; ENTRY_DWORDS];
        entry[CONTROL] = VECTOR_MASKED;
        Ok(Self {
            capability: space.add_capability(ID, &body)?,
            table: vec![entry; usize::from(vectors)],
            pending: vec![0; usize::from(vectors).div_ceil(u64::BITS as usize)],
        })
    }

    /// Whether the guest uses MSI-X, so that the function must not drive INTx.
    #[must_use]
    pub fn enabled(&self, space: &ConfigSpace) -> bool {
        space.capability(self.capability, 0) & CONTROL_ENABLE != 0
    }

    fn function_masked(&self, space: &ConfigSpace) -> bool {
        space.capability(self.capability, 0) & CONTROL_FUNCTION_MASK != 0
    }

    /// The function raises `vector`: the message to write now. A masked vector becomes pending.
    pub fn raise(&mut self, space: &ConfigSpace, vector: u16) -> Option<(Gpa, u32)> {
        if !self.enabled(space) || !space.bus_master() {
            return None;
        }
        let entry = *self.table.get(usize::from(vector))?;
        if self.function_masked(space) || entry[CONTROL] & VECTOR_MASKED != 0 {
            let (word, bit) = Self::pending_bit(vector);
            if let Some(word) = self.pending.get_mut(word) {
                *word |= bit;
            }
            return None;
        }
        Some(Self::message(&entry))
    }

    const fn pending_bit(vector: u16) -> (usize, u64) {
        (vector as usize / 64, 1 << (vector % 64))
    }

    fn message(entry: &[u32; ENTRY_DWORDS]) -> (Gpa, u32) {
        let address = u64::from(entry[ADDRESS_HIGH]) << 32 | u64::from(entry[ADDRESS_LOW]);
        (Gpa(address), entry[DATA])
    }

    /// A pending vector that is no longer masked, taken off the pending bits. Call until `None`
    /// after a write to the table or to the capability.
    pub fn take_unmasked(&mut self, space: &ConfigSpace) -> Option<(Gpa, u32)> {
        if !self.enabled(space) || self.function_masked(space) || !space.bus_master() {
            return None;
        }
        for (index, word) in self.pending.iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left & left.wrapping_neg();
                left &= !bit;
                let vector = index * u64::BITS as usize + bit.trailing_zeros() as usize;
                if let Some(entry) = self.table.get(vector)
                    && entry[CONTROL] & VECTOR_MASKED == 0
                {
                    *word &= !bit;
                    return Some(Self::message(entry));
                }
            }
        }
        None
    }

    /// Reads the table; `access.offset` counts from its start.
    #[must_use]
    pub fn read_table(&self, access: MmioAccess) -> u64 {
        match access.size {
            MmioSize::Dword => u64::from(self.dword(access.offset)),
            MmioSize::Qword => {
                let high = self.dword(access.offset.saturating_add(4));
                u64::from(high) << 32 | u64::from(self.dword(access.offset))
            }
            // The specification allows dwords and qwords only.
            MmioSize::Byte | MmioSize::Word => 0,
        }
    }

    /// Writes the table.
    pub fn write_table(&mut self, access: MmioAccess, value: u64) {
        match access.size {
            MmioSize::Dword => self.set_dword(access.offset, value as u32),
            MmioSize::Qword => {
                self.set_dword(access.offset, value as u32);
                self.set_dword(access.offset.saturating_add(4), (value >> 32) as u32);
            }
            MmioSize::Byte | MmioSize::Word => {}
        }
    }

    /// Reads the pending bits, which are read-only; `access.offset` counts from their start.
    #[must_use]
    pub fn read_pending(&self, access: MmioAccess) -> u64 {
        let word = usize::try_from(access.offset / 8).ok().and_then(|index| self.pending.get(index));
        let shift = access.offset % 8 * u64::from(u8::BITS);
        word.map_or(0, |word| word >> shift) & access.size.mask()
    }

    fn position(offset: u64) -> Option<(usize, usize)> {
        let entry = usize::try_from(offset / ENTRY_BYTES).ok()?;
        offset.is_multiple_of(4).then_some((entry, (offset % ENTRY_BYTES / 4) as usize))
    }

    fn dword(&self, offset: u64) -> u32 {
        Self::position(offset).and_then(|(entry, dword)| self.table.get(entry)?.get(dword).copied()).unwrap_or(0)
    }

    fn set_dword(&mut self, offset: u64, value: u32) {
        let slot =
            Self::position(offset).and_then(|(entry, dword)| Some((dword, self.table.get_mut(entry)?.get_mut(dword)?)));
        match slot {
            Some((CONTROL, slot)) => *slot = value & VECTOR_MASKED,
            Some((ADDRESS_LOW, slot)) => *slot = value & !0b11,
            Some((_, slot)) => *slot = value,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::pci::{Bdf, ConfigAccess};
    use crate::bus::port::PortSize;
    use crate::pci::config::Identity;
    use crate::pci::msi::MsiCapability;

    fn space() -> ConfigSpace {
        ConfigSpace::new(&Identity { vendor: 1, device: 2, revision: 0, class: 0, subsystem_vendor: 0, subsystem: 0 })
    }

    fn put(space: &mut ConfigSpace, offset: u16, value: u32) {
        let access = ConfigAccess { bdf: Bdf::new(0, 1, 0), offset, size: PortSize::Dword };
        space.write(access, value);
    }

    fn dword(offset: u64) -> MmioAccess {
        MmioAccess { offset, size: MmioSize::Dword }
    }

    #[test]
    fn msix_masks_and_keeps_pending() {
        let mut space = space();
        let mut msix = Msix::add(&mut space, NonZeroU16::new(3).unwrap(), 1, 0, 0x800).unwrap();
        assert_eq!(msix.raise(&space, 0), None);
        put(&mut space, 4, 0x6);
        put(&mut space, 0x40, 0x8000_0000);
        for (offset, value) in [(0x10, 0xfee0_0000), (0x18, 0x41)] {
            msix.write_table(dword(offset), value);
        }
        assert_eq!(msix.raise(&space, 1), None, "masked after reset");
        assert_eq!(msix.read_pending(dword(0)), 0b10);
        assert_eq!(msix.take_unmasked(&space), None);
        msix.write_table(dword(0x1c), 0);
        let message = Some((Gpa(0xfee0_0000), 0x41));
        assert_eq!(msix.take_unmasked(&space), message);
        assert_eq!(msix.take_unmasked(&space), None);
        assert_eq!(msix.raise(&space, 1), message);
        assert_eq!(msix.raise(&space, 3), None, "no such vector");
        put(&mut space, 0x40, 0xc000_0000);
        assert_eq!(msix.raise(&space, 1), None, "function mask");
        let qword = MmioAccess { offset: 0x10, size: MmioSize::Qword };
        assert_eq!(msix.read_table(qword), 0xfee0_0000);
        msix.write_table(dword(!3), 1);
    }

    #[test]
    fn msi_needs_enable_and_bus_master() {
        let mut space = space();
        let msi = MsiCapability::add(&mut space).unwrap();
        put(&mut space, 0x44, 0xfee0_1000);
        put(&mut space, 0x4c, 0x31);
        put(&mut space, 0x40, 0x1_0000);
        assert_eq!(msi.message(&space), None);
        put(&mut space, 4, 4);
        assert_eq!(msi.message(&space), Some((Gpa(0xfee0_1000), 0x31)));
    }
}
