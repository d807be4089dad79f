//! Registers of devices in memory.

use core::marker::PhantomData;

use super::memory::{OutOfRange, SharedMemory};

/// Types of registers.
pub trait Word: Copy {}
impl Word for u8 {}
impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

/// One register of a device. Checked once, when made.
#[derive(Debug)]
pub struct Register<'a, T> {
    address: *mut T,
    memory: PhantomData<&'a SharedMemory>,
}

impl<T: Word> Register<'_, T> {
    /// Reads it.
    #[must_use]
    pub fn read(&self) -> T {
        // SAFETY: `register` checked range and alignment, and the memory outlives this.
        unsafe { self.address.read_volatile() }
    }

    /// Writes it.
    pub fn write(&self, value: T) {
        // SAFETY: as for reads.
        unsafe { self.address.write_volatile(value) }
    }
}

/// The register at an offset of attached device memory.
///
/// # Errors
/// It leaves the memory or is not aligned.
pub fn register<T: Word>(memory: &SharedMemory, offset: usize) -> Result<Register<'_, T>, OutOfRange> {
    let end = offset.checked_add(size_of::<T>()).ok_or(OutOfRange)?;
    if end > memory.size() || !offset.is_multiple_of(size_of::<T>()) {
        return Err(OutOfRange);
    }
    let address = (memory.address() as usize + offset) as *mut T;
    Ok(Register { address, memory: PhantomData })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    #[test]
    fn registers_are_inside_and_aligned() {
        let backing = [const { AtomicU64::new(0) }; 2];
        let memory = SharedMemory::attached(backing.as_ptr() as u64, 16);
        let register_at_4 = register::<u32>(&memory, 4).unwrap();
        register_at_4.write(0x0403_0201);
        assert_eq!(register::<u8>(&memory, 6).unwrap().read(), 3);
        assert!(register::<u32>(&memory, 6).is_err());
        assert!(register::<u64>(&memory, 16).is_err());
        assert!(register::<u16>(&memory, usize::MAX - 1).is_err());
    }
}
