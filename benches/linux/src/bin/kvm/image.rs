//! Loading a bzImage (Linux: Documentation/x86/boot.rst).

use crate::memory::GuestMemory;

/// Where the protected-mode part goes.
const LOAD: u64 = 1 << 20;
/// Its 64-bit entry point.
const ENTRY_OFFSET: u64 = 0x200;
/// Number of sectors of the real-mode part, beside the first.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: std::ops::Range<usize> = 0x202..0x206;
const SECTOR: usize = 512;

/// Loads `image`; returns its entry point.
pub fn load(memory: &mut GuestMemory, image: &[u8]) -> Result<u64, &'static str> {
    if image.get(MAGIC) != Some(b"HdrS".as_slice()) {
        return Err("the guest is no bzImage");
    }
    let setup = image.get(SETUP_SECTORS).map_or(0, |sectors| usize::from(*sectors) + 1);
    let payload = image.get(setup * SECTOR..).ok_or("the guest is truncated")?;
    if memory.write(LOAD, payload) { Ok(LOAD + ENTRY_OFFSET) } else { Err("the guest is too large") }
}
