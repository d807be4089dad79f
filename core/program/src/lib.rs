//! What the ELF image of a component asks of its address space.
//!
//! The image is an allegation: everything that a [`Plan`] says has been checked, so whoever carries it out cannot be made
//! to map outside the user's addresses, to map a page twice, or to make memory both writable and executable.
//! Read-only segments are shared with the file, writable ones are copied.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "tests state their expectations tersely"))]

extern crate alloc;

use abi::PAGE_SIZE;
use abi::cap::MemRights;
use abi::session::initial;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use elf::abi::{EI_NIDENT, EM_X86_64, ET_EXEC, PF_W, PF_X, PT_INTERP, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};

/// Addresses that the image of a component may use.
pub const ADDRESSES: Range<u64> = initial::IMAGE_BASE..initial::ATTACH_BASE;
/// Bytes at the start of a file that hold everything a plan is made from.
pub const HEAD_SIZE: usize = PAGE_SIZE as usize;
/// Most loadable segments. Linkers make four or five.
const MAX_SEGMENTS: usize = 16;

/// Sizes of the file header and of a program header (System V gABI, chapters 4 and 5).
const ELF64_HEADER: usize = 64;
const ELF64_PROGRAM_HEADER: usize = 56;

/// Why an image cannot be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgramError {
    /// Not an ELF file, or cut off.
    NoElf,
    /// Not a statically linked, non-relocatable executable for this architecture.
    WrongKind,
    /// A segment reaches beyond the file, or has more bytes in the file than in memory.
    Truncated,
    /// A segment lies outside the addresses that a component may use, or wraps around.
    OutOfBounds,
    /// Two segments share a page.
    Overlap,
    /// A segment is writable and executable.
    WritableCode,
    /// The entry point is not in an executable segment.
    BadEntry,
    /// More segments than any linker makes, or none.
    BadSegmentCount,
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoElf => "not an ELF file",
            Self::WrongKind => "not a static x86-64 executable",
            Self::Truncated => "segment outside the file",
            Self::OutOfBounds => "segment outside user space",
            Self::Overlap => "segments overlap",
            Self::WritableCode => "segment both writable and executable",
            Self::BadEntry => "entry point outside the code",
            Self::BadSegmentCount => "no segments, or too many",
        })
    }
}

impl core::error::Error for ProgramError {}

/// Where the content of a segment comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// The pages of the file from this page-aligned offset on, mapped read-only.
    Shared {
        /// Offset of the first page in the file.
        offset: u64,
    },
    /// Fresh zeroed memory, into which bytes of the file are copied.
    Private {
        /// What to copy.
        file: Range<u64>,
        /// Where it goes, relative to the segment's first page.
        at: u64,
    },
}

/// Pages of the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// First address, page-aligned.
    pub address: u64,
    /// Bytes, whole pages.
    pub size: u64,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub execute: bool,
    /// What it contains.
    pub content: Content,
}

impl Segment {
    /// What the program may do with it.
    #[must_use]
    pub fn rights(&self) -> MemRights {
        let mut rights = MemRights::READ;
        rights.set(MemRights::WRITE, self.write);
        rights.set(MemRights::EXEC, self.execute);
        rights
    }

    fn end(&self) -> u64 {
        self.address + self.size
    }
}

/// How to load a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Address of the first instruction.
    pub entry: u64,
    /// Segments with ascending addresses.
    pub segments: Vec<Segment>,
}

impl Plan {
    /// Reads the first [`HEAD_SIZE`] bytes of an ELF file of `file_size` bytes that is to run within the addresses
    /// `bounds`.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn parse(head: &[u8], file_size: u64, bounds: Range<u64>) -> Result<Self, ProgramError> {
        let header = file_header(head).ok_or(ProgramError::NoElf)?;
        if header.class != Class::ELF64 || header.e_machine != EM_X86_64 || header.e_type != ET_EXEC {
            return Err(ProgramError::WrongKind);
        }
        let headers = program_headers(&header, head).ok_or(ProgramError::BadSegmentCount)?;
        if headers.iter().any(|header| header.p_type == PT_INTERP) {
            return Err(ProgramError::WrongKind);
        }
        let loadable = headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz != 0);
        let mut segments = Vec::new();
        for header in loadable {
            if segments.len() == MAX_SEGMENTS {
                return Err(ProgramError::BadSegmentCount);
            }
            segments.push(segment(&header, file_size, &bounds)?);
        }
        segments.sort_by_key(|segment| segment.address);
        if segments.is_empty() {
            return Err(ProgramError::BadSegmentCount);
        }
        if segments.windows(2).any(|pair| matches!(pair, [a, b] if a.end() > b.address)) {
            return Err(ProgramError::Overlap);
        }
        let entry = header.e_entry;
        let is_code = |segment: &Segment| segment.execute && (segment.address..segment.end()).contains(&entry);
        if !segments.iter().any(is_code) {
            return Err(ProgramError::BadEntry);
        }
        Ok(Self { entry, segments })
    }
}

fn file_header(head: &[u8]) -> Option<FileHeader<LittleEndian>> {
    let ident = parse_ident(head.get(..EI_NIDENT)?).ok()?;
    let tail = head.get(EI_NIDENT..ELF64_HEADER)?;
    FileHeader::parse_tail(ident, tail).ok()
}

fn program_headers<'a>(header: &FileHeader<LittleEndian>, head: &'a [u8]) -> Option<SegmentTable<'a, LittleEndian>> {
    let size = usize::from(header.e_phnum).checked_mul(usize::from(header.e_phentsize))?;
    let start = usize::try_from(header.e_phoff).ok()?;
    let is_elf64 = usize::from(header.e_phentsize) == ELF64_PROGRAM_HEADER;
    let bytes = head.get(start..start.checked_add(size)?).filter(|_| is_elf64)?;
    Some(SegmentTable::new(header.endianness, header.class, bytes))
}

fn segment(header: &ProgramHeader, file_size: u64, bounds: &Range<u64>) -> Result<Segment, ProgramError> {
    let (write, execute) = (header.p_flags & PF_W != 0, header.p_flags & PF_X != 0);
    if write && execute {
        return Err(ProgramError::WritableCode);
    }
    let start = header.p_offset;
    let end = start.checked_add(header.p_filesz).filter(|&end| end <= file_size);
    let file = start..end.ok_or(ProgramError::Truncated)?;
    if header.p_filesz > header.p_memsz {
        return Err(ProgramError::Truncated);
    }
    let at = header.p_vaddr % PAGE_SIZE;
    let address = header.p_vaddr - at;
    let end = header.p_vaddr.checked_add(header.p_memsz).and_then(|end| end.checked_next_multiple_of(PAGE_SIZE));
    let end = end.filter(|&end| bounds.start <= address && end <= bounds.end);
    let size = end.ok_or(ProgramError::OutOfBounds)? - address;
    let is_congruent = header.p_offset % PAGE_SIZE == at && header.p_filesz == header.p_memsz;
    let content = if !write && is_congruent {
        Content::Shared { offset: header.p_offset - at }
    } else {
        Content::Private { file, at }
    };
    Ok(Segment { address, size, write, execute, content })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Range<u64> = PAGE_SIZE..1 << 46;
    const R: u32 = 4;

    /// Offsets of fields in the file header and of the first program header (gABI, ELF-64).
    const TYPE: usize = 16;
    const HEADER: usize = 64;
    const PHENT: usize = 56;

    fn parse(image: &[u8]) -> Result<Plan, ProgramError> {
        Plan::parse(&image[..image.len().min(HEAD_SIZE)], image.len() as u64, BOUNDS)
    }

    struct Load {
        flags: u32,
        offset: u64,
        address: u64,
        file: u64,
        memory: u64,
    }

    fn image(entry: u64, loads: &[Load]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        out.extend(2u16.to_le_bytes());
        out.extend(62u16.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend(entry.to_le_bytes());
        out.extend((HEADER as u64).to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.extend(0u32.to_le_bytes());
        out.extend([HEADER as u16, PHENT as u16, loads.len() as u16, 64, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
        for load in loads {
            out.extend(1u32.to_le_bytes());
            out.extend(load.flags.to_le_bytes());
            for word in [load.offset, load.address, load.address, load.file, load.memory, PAGE_SIZE] {
                out.extend(word.to_le_bytes());
            }
        }
        out.resize(0x4000, 0);
        out
    }

    fn code() -> Load {
        Load { flags: R | PF_X, offset: 0x1080, address: 0x40_0080, file: 0x1000, memory: 0x1000 }
    }

    #[test]
    fn code_is_shared_and_data_is_copied() {
        let data = Load { flags: R | PF_W, offset: 0x2100, address: 0x40_3100, file: 0x10, memory: 0x2000 };
        let plan = parse(&image(0x40_0080, &[data, code()])).unwrap();
        assert_eq!(plan.entry, 0x40_0080);
        let [code, data] = &plan.segments[..] else { panic!() };
        assert_eq!((code.address, code.size, code.execute), (0x40_0000, 0x2000, true));
        assert_eq!(code.content, Content::Shared { offset: 0x1000 });
        assert_eq!((data.address, data.size, data.write), (0x40_3000, 0x3000, true));
        assert_eq!(data.content, Content::Private { file: 0x2100..0x2110, at: 0x100 });
    }

    #[test]
    fn read_only_data_at_another_place_in_its_page_is_copied() {
        let constants = Load { flags: R, offset: 0x40, address: 0x50_0000, file: 0x10, memory: 0x10 };
        let plan = parse(&image(0x40_0080, &[code(), constants])).unwrap();
        assert_eq!(plan.segments[1].content, Content::Private { file: 0x40..0x50, at: 0 });
        assert!(!plan.segments[1].write);
    }

    #[test]
    fn malformed_images_are_refused() {
        let one = |load: Load| parse(&image(0x40_0080, &[load]));
        assert_eq!(one(Load { flags: R | PF_W | PF_X, ..code() }), Err(ProgramError::WritableCode));
        assert_eq!(one(Load { offset: 0x3080, ..code() }), Err(ProgramError::Truncated));
        assert_eq!(one(Load { offset: u64::MAX, ..code() }), Err(ProgramError::Truncated));
        assert_eq!(one(Load { memory: 0x800, ..code() }), Err(ProgramError::Truncated));
        assert_eq!(one(Load { address: 0x80, ..code() }), Err(ProgramError::OutOfBounds));
        assert_eq!(one(Load { address: u64::MAX - 0x10, ..code() }), Err(ProgramError::OutOfBounds));
        assert_eq!(one(Load { memory: u64::MAX, ..code() }), Err(ProgramError::OutOfBounds));
        assert_eq!(one(Load { flags: R, ..code() }), Err(ProgramError::BadEntry));
        assert_eq!(parse(&image(0, &[])), Err(ProgramError::BadSegmentCount));
        assert_eq!(parse(&image(0x40_0080, &[code(), code()])), Err(ProgramError::Overlap));
        assert_eq!(parse(b"#!/bin/sh"), Err(ProgramError::NoElf));
        let mut shared_object = image(0x40_0080, &[code()]);
        shared_object[TYPE] = 3;
        assert_eq!(parse(&shared_object), Err(ProgramError::WrongKind));
    }

    proptest! {
        #[test]
        fn whatever_the_image_says_the_plan_is_sound(
            loads in prop::collection::vec((0u32..8, 0u64..0x5000, 0u64..0x8000, 0u64..0x3000, 0u64..0x3000), 0..5),
            entry in 0u64..0x8000,
            noise in prop::collection::vec((0usize..0x200, any::<u8>()), 0..4),
        ) {
            let loads: Vec<Load> = loads.into_iter()
                .map(|(flags, offset, address, file, memory)| Load { flags, offset, address, file, memory }).collect();
            let mut image = image(entry, &loads);
            for (at, byte) in noise {
                image[at] = byte;
            }
            if let Ok(plan) = parse(&image) {
                let mut end = BOUNDS.start;
                for segment in &plan.segments {
                    prop_assert!(segment.address >= end && segment.size > 0 && segment.end() <= BOUNDS.end);
                    prop_assert!(!(segment.write && segment.execute));
                    match &segment.content {
                        Content::Shared { offset } => {
                            prop_assert!(!segment.write && offset % PAGE_SIZE == 0);
                            prop_assert!(*offset < image.len() as u64);
                        }
                        Content::Private { file, at } => {
                            prop_assert!(file.start <= file.end && file.end <= image.len() as u64);
                            prop_assert!(at + (file.end - file.start) <= segment.size);
                        }
                    }
                    end = segment.end();
                }
            }
        }
    }
}
