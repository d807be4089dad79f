//! The root task's ELF image: just enough to load it. Other programs are loaded by their parents.

/// A segment to load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Virtual address.
    pub address: u64,
    /// Bytes in memory.
    pub size: u64,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub exec: bool,
}

/// Byte offsets in the file header and in program headers (ELF-64 object file format, 1.5).
mod off {
    pub const MACHINE: usize = 18;
    pub const ENTRY: usize = 24;
    pub const HEADERS: usize = 32;
    pub const HEADER_SIZE: usize = 54;
    pub const HEADER_COUNT: usize = 56;
    pub const P_FLAGS: usize = 4;
    pub const P_OFFSET: usize = 8;
    pub const P_ADDRESS: usize = 16;
    pub const P_FILE_SIZE: usize = 32;
    pub const P_SIZE: usize = 40;
}

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;
const PF_W: u32 = 2;

fn u16_at(image: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(image.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(image: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(image.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(image: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(image.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Entry point, if this is an ELF image for x86-64.
pub fn entry(image: &[u8]) -> Option<u64> {
    if !image.starts_with(MAGIC) || u16_at(image, off::MACHINE)? != MACHINE_X86_64 {
        return None;
    }
    u64_at(image, off::ENTRY).filter(|&entry| entry < abi::USER_TOP)
}

/// Number of program headers.
pub fn header_count(image: &[u8]) -> usize {
    u16_at(image, off::HEADER_COUNT).map_or(0, usize::from)
}

/// Program header `index`, if it is a segment to load: inside the file, inside user space, page aligned.
pub fn segment(image: &[u8], index: usize) -> Option<Segment> {
    let size = usize::from(u16_at(image, off::HEADER_SIZE)?);
    let first = usize::try_from(u64_at(image, off::HEADERS)?).ok()?;
    let at = first.checked_add(index.checked_mul(size)?)?;
    if u32_at(image, at)? != PT_LOAD {
        return None;
    }
    let flags = u32_at(image, at + off::P_FLAGS)?;
    let segment = Segment {
        offset: u64_at(image, at + off::P_OFFSET)?,
        file_size: u64_at(image, at + off::P_FILE_SIZE)?,
        address: u64_at(image, at + off::P_ADDRESS)?,
        size: u64_at(image, at + off::P_SIZE)?,
        write: flags & PF_W != 0,
        exec: flags & PF_X != 0,
    };
    let sound = segment.file_size <= segment.size
        && segment.offset.checked_add(segment.file_size)? <= image.len() as u64
        && segment.address.checked_add(segment.size)? < abi::USER_TOP
        && segment.size > 0;
    sound.then_some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 64..300), index in 0usize..3) {
            bytes[..6].copy_from_slice(MAGIC);
            let _ = entry(&bytes);
            if let Some(s) = segment(&bytes, index) {
                prop_assert!(s.offset + s.file_size <= bytes.len() as u64);
            }
        }
    }
}
