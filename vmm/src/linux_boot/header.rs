//! The setup header of a bzImage: an allegation of a file, checked here.

use linux_loader::loader::bootparam::setup_header;
use vm_memory::ByteValued;

use super::BootError;
use super::entry::Entry;
use crate::memory::MemoryRange;

/// File offset of the setup header.
const HEADER_OFFSET: usize = 0x1f1;
/// File offset up to which the header reaches, less the byte at [`HEADER_LENGTH_BYTE`].
const HEADER_END_BASE: usize = 0x202;
/// File offset of the jump distance over the header, which gives its end.
const HEADER_LENGTH_BYTE: usize = 0x201;
const SECTOR: u64 = 512;
/// `syssize` counts paragraphs.
const PARAGRAPH: u64 = 16;
/// Value of `setup_sects` when the field is 0.
const DEFAULT_SETUP_SECTORS: u64 = 4;
const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
/// First protocol with `pref_address` and `init_size`.
const MIN_VERSION: u16 = 0x020a;
/// First protocol with `xloadflags`.
const XLOADFLAGS_VERSION: u16 = 0x020c;
/// `xloadflags`: there is a 64-bit entry point.
const XLF_KERNEL_64: u16 = 1 << 0;

/// A checked setup header.
pub(super) struct KernelHeader {
    pub(super) header: setup_header,
    /// Where the protected-mode part goes.
    pub(super) load_address: u64,
    /// How it is entered.
    pub(super) entry: Entry,
    /// Highest address that the RAM disk's last byte may have.
    pub(super) initrd_end_max: u64,
    /// Longest command line.
    pub(super) cmdline_max: usize,
}

impl KernelHeader {
    pub(super) fn parse(image: &[u8]) -> Result<Self, BootError> {
        let header = read_header(image)?;
        if { header.boot_flag } != BOOT_FLAG || { header.header } != HEADER_MAGIC {
            return Err(BootError::NotBzImage);
        }
        let [minor, major] = { header.version }.to_le_bytes();
        if header.version < MIN_VERSION {
            return Err(BootError::OldProtocol { major, minor });
        }
        check_length(&header, image)?;
        // The preferred address is where the kernel runs unless it is relocated; loading it there
        // saves the decompressor a move.
        Ok(KernelHeader {
            header,
            load_address: header.pref_address,
            entry: entry_of(&header),
            initrd_end_max: header.initrd_addr_max.into(),
            cmdline_max: header.cmdline_size as usize,
        })
    }

    /// The memory that the kernel uses before it reads the memory map: its file and what it
    /// unpacks.
    pub(super) fn memory(&self) -> MemoryRange {
        let size = u64::from(self.header.init_size).max(u64::from(self.header.syssize) * PARAGRAPH);
        let end = self.load_address.saturating_add(size);
        MemoryRange { start: self.load_address, end }
    }
}

/// Every kernel has a 32-bit entry point; those for 64 bits say that they have another.
fn entry_of(header: &setup_header) -> Entry {
    if header.version >= XLOADFLAGS_VERSION && header.xloadflags & XLF_KERNEL_64 != 0 {
        Entry::Long
    } else {
        Entry::Protected
    }
}

/// Copies the header as far as the file says it reaches; newer fields stay zero.
fn read_header(image: &[u8]) -> Result<setup_header, BootError> {
    let reach = *image.get(HEADER_LENGTH_BYTE).ok_or(BootError::NotBzImage)?;
    let end = HEADER_END_BASE + usize::from(reach);
    let mut header = setup_header::default();
    let target = header.as_mut_slice();
    let length = (end - HEADER_OFFSET).min(target.len());
    let source = image.get(HEADER_OFFSET..HEADER_OFFSET + length).ok_or(BootError::NotBzImage)?;
    target[..length].copy_from_slice(source);
    Ok(header)
}

fn check_length(header: &setup_header, image: &[u8]) -> Result<(), BootError> {
    let sectors = match header.setup_sects {
        0 => DEFAULT_SETUP_SECTORS,
        sectors => sectors.into(),
    };
    let need = (sectors + 1) * SECTOR + u64::from(header.syssize) * PARAGRAPH;
    let have = image.len() as u64;
    if have < need { Err(BootError::Truncated { have, need }) } else { Ok(()) }
}
