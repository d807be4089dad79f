//! The root task's ELF image: just enough to load it. Other programs are loaded by their parents.

use elf::ElfBytes;
use elf::abi::{EM_X86_64, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;

/// The image, if it is one for x86-64.
fn parse(image: &[u8]) -> Option<ElfBytes<'_, LittleEndian>> {
    let file = ElfBytes::minimal_parse(image).ok()?;
    (file.ehdr.class == Class::ELF64 && file.ehdr.e_machine == EM_X86_64).then_some(file)
}

/// Entry point, if this is an ELF image for x86-64.
pub fn entry(image: &[u8]) -> Option<u64> {
    parse(image).map(|file| file.ehdr.e_entry).filter(|&entry| entry < abi::USER_TOP)
}

/// Headers of the segments to load: inside the file, inside user space.
pub fn segments(image: &[u8]) -> impl Iterator<Item = ProgramHeader> {
    let headers = parse(image).and_then(|file| file.segments()).into_iter().flat_map(|headers| headers.iter());
    headers.filter(|header| header.p_type == PT_LOAD && is_sound(header, image.len() as u64).unwrap_or(false))
}

/// `None` if it overflows.
fn is_sound(header: &ProgramHeader, len: u64) -> Option<bool> {
    let in_file = header.p_filesz <= header.p_memsz && header.p_offset.checked_add(header.p_filesz)? <= len;
    Some(in_file && header.p_memsz > 0 && header.p_vaddr.checked_add(header.p_memsz)? < abi::USER_TOP)
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
                prop_assert!(segment.p_offset + segment.p_filesz <= bytes.len() as u64);
            }
        }
    }
}
