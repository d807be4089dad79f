//! The root task's ELF image: just enough to load it. Other programs are loaded by their parents.

use elf::ElfBytes;
use elf::abi::{EM_X86_64, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;

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

/// The image, if it is one for x86-64.
fn parse(image: &[u8]) -> Option<ElfBytes<'_, LittleEndian>> {
    let file = ElfBytes::minimal_parse(image).ok()?;
    (file.ehdr.class == Class::ELF64 && file.ehdr.e_machine == EM_X86_64).then_some(file)
}

/// Entry point, if this is an ELF image for x86-64.
pub fn entry(image: &[u8]) -> Option<u64> {
    parse(image).map(|file| file.ehdr.e_entry).filter(|&entry| entry < abi::USER_TOP)
}

/// Segments to load: inside the file, inside user space.
pub fn segments(image: &[u8]) -> impl Iterator<Item = Segment> {
    let headers = parse(image).and_then(|file| file.segments()).into_iter().flat_map(|headers| headers.iter());
    headers.filter(|header| header.p_type == PT_LOAD).filter_map(|header| checked(&header, image.len() as u64))
}

fn checked(header: &ProgramHeader, len: u64) -> Option<Segment> {
    let segment = Segment {
        offset: header.p_offset,
        file_size: header.p_filesz,
        address: header.p_vaddr,
        size: header.p_memsz,
        write: header.p_flags & PF_W != 0,
        exec: header.p_flags & PF_X != 0,
    };
    let sound = segment.file_size <= segment.size
        && segment.offset.checked_add(segment.file_size)? <= len
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
        fn any_bytes_are_survived(
            mut bytes in proptest::collection::vec(any::<u8>(), 64..300), headers in 0u8..120, count in 0u8..5,
        ) {
            // An ELF64 file for x86-64, its program headers (of 56 bytes each) anywhere, no sections.
            bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
            for (at, value) in [(18, EM_X86_64), (54, 56), (56, count.into()), (58, 0), (60, 0)] {
                bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
            }
            for (at, value) in [(32, headers), (40, 0)] {
                bytes[at..at + 8].copy_from_slice(&u64::from(value).to_le_bytes());
            }
            let _ = entry(&bytes);
            let first = usize::from(headers);
            if let Some(kind) = bytes.get_mut(first..first + 4).filter(|_| count > 0) {
                kind.copy_from_slice(&PT_LOAD.to_le_bytes());
            }
            for segment in segments(&bytes) {
                prop_assert!(segment.offset + segment.file_size <= bytes.len() as u64);
            }
        }
    }
}
