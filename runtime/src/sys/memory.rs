//! Memory shared with other components. It can change at any time, so it is copied, never borrowed.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// A range leaves the memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfRange;

/// Attached memory. It must not be detached while this exists: see [`Attached`](crate::dataspace::Attached).
#[derive(Debug)]
pub struct SharedMemory {
    base: *const AtomicU8,
    size: usize,
}

// SAFETY: all accesses are atomic.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// The memory that `attach` of the own address space has put at `address`.
    pub(crate) const fn attached(address: u64, size: u64) -> Self {
        Self { base: address as *const AtomicU8, size: size as usize }
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Address of the first byte in the own address space.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.base as u64
    }

    fn range(&self, offset: usize, length: usize) -> Result<*const AtomicU8, OutOfRange> {
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(OutOfRange);
        }
        // SAFETY: the offset is inside the attached range.
        Ok(unsafe { self.base.add(offset) })
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// The range leaves the memory; nothing was copied.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfRange> {
        let from = self.range(offset, to.len())?;
        for (index, byte) in to.iter_mut().enumerate() {
            // SAFETY: inside the range, whose memory is attached. Atomic: others may write.
            *byte = unsafe { (*from.add(index)).load(Ordering::Relaxed) };
        }
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// The range leaves the memory; nothing was copied.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfRange> {
        let to = self.range(offset, from.len())?;
        for (index, byte) in from.iter().enumerate() {
            // SAFETY: as for reads; it was attached writeable if the server let us.
            unsafe { (*to.add(index)).store(*byte, Ordering::Relaxed) };
        }
        Ok(())
    }

    /// The 32-bit word at an offset, for synchronisation with the other side.
    ///
    /// # Errors
    /// It leaves the memory or is not aligned.
    pub fn word32(&self, offset: usize) -> Result<&AtomicU32, OutOfRange> {
        let word = self.range(offset, size_of::<u32>())?.cast::<AtomicU32>();
        if !word.is_aligned() {
            return Err(OutOfRange);
        }
        // SAFETY: inside the attached range and aligned.
        Ok(unsafe { &*word })
    }

    /// The 64-bit word at an offset, for synchronisation with the other side.
    ///
    /// # Errors
    /// It leaves the memory or is not aligned.
    pub fn word64(&self, offset: usize) -> Result<&AtomicU64, OutOfRange> {
        let word = self.range(offset, size_of::<u64>())?.cast::<AtomicU64>();
        if !word.is_aligned() {
            return Err(OutOfRange);
        }
        // SAFETY: inside the attached range and aligned.
        Ok(unsafe { &*word })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_checked() {
        let backing = [const { AtomicU64::new(0) }; 2];
        let memory = SharedMemory::attached(backing.as_ptr() as u64, 16);
        assert_eq!(memory.write(14, &[1, 2]), Ok(()));
        assert_eq!(memory.write(15, &[1, 2]), Err(OutOfRange));
        assert_eq!(memory.read(usize::MAX, &mut [0; 2]), Err(OutOfRange));
        let mut bytes = [0; 3];
        assert_eq!(memory.read(13, &mut bytes), Ok(()));
        assert_eq!(bytes, [0, 1, 2]);
        assert!(memory.word32(12).is_ok());
        assert!(memory.word32(13).is_err() && memory.word64(12).is_err() && memory.word64(16).is_err());
    }
}
