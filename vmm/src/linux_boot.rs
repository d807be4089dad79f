//! Start of a Linux bzImage by the 64-bit or the 32-bit boot protocol (kernel documentation, "The
//! Linux/x86 Boot Protocol"): kernel, initial RAM disk, command line and boot parameters in guest
//! memory, and the register state at the kernel's entry point.

mod e820;
mod entry;
mod header;

use linux_loader::configurator::{BootConfigurator, BootParams, linux::LinuxBootConfigurator};
use linux_loader::loader::{KernelLoader, bootparam, bzimage::BzImage};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::memory::{DEVICE_HOLE, HIGH_MEMORY, MemoryLayout, MemoryRange};
use crate::paging::PAGE_SIZE;
use crate::state::VcpuState;
pub use e820::{E820Kind, Reserved};
use header::KernelHeader;

/// Where the boot data lies in conventional memory. Linux reserves or copies all of it before it
/// gives the memory to anyone.
mod place {
    pub(super) const GDT: u64 = 0x1000;
    pub(super) const BOOT_PARAMS: u64 = 0x2000;
    pub(super) const PML4: u64 = 0x3000;
    pub(super) const PDPT: u64 = 0x4000;
    /// One page directory for each of 4 GiB.
    pub(super) const PAGE_DIRECTORIES: u64 = 0x5000;
    pub(super) const STACK_TOP: u64 = 0xf000;
    pub(super) const CMDLINE: u64 = 0x1_0000;
    pub(super) const CMDLINE_END: u64 = 0x2_0000;
}

/// Where ACPI tables may lie: the top of conventional memory, where a PC has its extended BIOS data
/// area. To be passed as [`Reserved`] when used.
pub const ACPI_REGION: MemoryRange = MemoryRange { start: 0x9_0000, end: crate::memory::LOW_MEMORY_END };

/// Why a kernel cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// No boot sector signature or no `HdrS`.
    #[error("kernel is not a bzImage")]
    NotBzImage,
    /// Too old.
    #[error("kernel has boot protocol {major}.{minor:02}, needs 2.10")]
    OldProtocol {
        /// Protocol version of the kernel.
        major: u8,
        /// Protocol version of the kernel.
        minor: u8,
    },
    /// The file ends early.
    #[error("kernel is truncated: {have} bytes of {need}")]
    Truncated {
        /// Bytes in the file.
        have: u64,
        /// Bytes that the header announces.
        need: u64,
    },
    /// RAM is too small for the unpacked kernel.
    #[error("kernel needs RAM at {0}, which the machine does not have")]
    NoRoomForKernel(MemoryRange),
    /// No RAM where the boot data goes.
    #[error("machine has no RAM at {0} for boot data")]
    NoConventionalMemory(MemoryRange),
    /// The RAM disk fits nowhere.
    #[error("initrd of {size} bytes does not fit into {available} bytes of free RAM")]
    InitrdTooLarge {
        /// Size of the RAM disk.
        size: u64,
        /// Largest free range it could use.
        available: u64,
    },
    /// A file ends while it is copied.
    #[error("initrd is shorter than it was")]
    FileTooShort,
    /// Longer than kernel or place allow.
    #[error("command line of {length} bytes exceeds the kernel's limit of {limit}")]
    CmdlineTooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A byte that would end it.
    #[error("command line contains a NUL byte")]
    CmdlineHasNul,
    /// More ranges than the boot parameters can describe.
    #[error("memory map has more than {0} entries")]
    MemoryMapTooLong(usize),
    /// The loader crate refused.
    #[error("kernel cannot be loaded: {0}")]
    Loader(String),
    /// Guest memory does not match the layout.
    #[error("guest memory at {0:#x} cannot be written")]
    Memory(u64),
}

/// A file that is copied into guest memory as it is, whatever it contains.
pub trait File {
    /// Bytes.
    fn size(&self) -> u64;
    /// Copies the bytes from `offset` on.
    ///
    /// # Errors
    /// It is not that long.
    fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), FileTooShort>;
}

/// A file is shorter than it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTooShort;

/// What to boot.
#[derive(Clone, Copy)]
pub struct LinuxImage<'a> {
    /// The bzImage.
    pub kernel: &'a [u8],
    /// The initial RAM disk.
    pub initrd: Option<&'a dyn File>,
    /// The command line, without terminating NUL.
    pub cmdline: &'a str,
}

/// Loads `image` and returns the state in which the boot CPU starts.
///
/// `reserved` are ranges that the memory map announces as not usable; those inside RAM are cut out
/// of it. `rsdp` is the address of the ACPI root pointer, if there is one.
///
/// # Errors
/// See [`BootError`]. Guest memory may be partly written then.
pub fn load<M: GuestMemoryBackend>(
    memory: &M,
    layout: &MemoryLayout,
    reserved: &[Reserved],
    rsdp: Option<u64>,
    image: &LinuxImage,
) -> Result<VcpuState, BootError> {
    let kernel = KernelHeader::parse(image.kernel)?;
    check_places(layout, &kernel)?;
    let mut params = bootparam::boot_params { hdr: kernel.header, ..Default::default() };
    params.acpi_rsdp_addr = rsdp.unwrap_or(0);
    e820::fill(&mut params, layout, reserved)?;
    load_kernel(memory, &kernel, image.kernel)?;
    load_initrd(memory, layout, &kernel, image.initrd, &mut params)?;
    load_cmdline(memory, &kernel, image.cmdline, &mut params)?;
    /// "Undefined" boot loader: the ids are assigned.
    const LOADER_UNDEFINED: u8 = 0xff;
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    let params = BootParams::new(&params, GuestAddress(place::BOOT_PARAMS));
    LinuxBootConfigurator::write_bootparams(&params, memory).map_err(|_| BootError::Memory(place::BOOT_PARAMS))?;
    entry::prepare(memory, kernel.load_address, kernel.entry)
}

fn check_places(layout: &MemoryLayout, kernel: &KernelHeader) -> Result<(), BootError> {
    let boot_data = MemoryRange { start: place::GDT, end: place::CMDLINE_END };
    if !layout.contains(&boot_data) {
        return Err(BootError::NoConventionalMemory(boot_data));
    }
    let unpacked = kernel.memory();
    // What is below 4 GiB can be reached from the 32-bit entry point, and is mapped for the 64-bit one.
    if !layout.contains(&unpacked) || unpacked.end > DEVICE_HOLE {
        return Err(BootError::NoRoomForKernel(unpacked));
    }
    Ok(())
}

fn load_kernel<M: GuestMemoryBackend>(memory: &M, kernel: &KernelHeader, image: &[u8]) -> Result<(), BootError> {
    let result = BzImage::load(
        memory,
        Some(GuestAddress(kernel.load_address)),
        &mut std::io::Cursor::new(image),
        Some(GuestAddress(HIGH_MEMORY)),
    );
    result.map(drop).map_err(|error| BootError::Loader(error.to_string()))
}

/// Places the RAM disk as high as the kernel allows, as boot loaders do, in the first gap that is
/// large enough: behind the kernel, or else before it.
fn load_initrd<M: GuestMemoryBackend>(
    memory: &M,
    layout: &MemoryLayout,
    kernel: &KernelHeader,
    initrd: Option<&dyn File>,
    params: &mut bootparam::boot_params,
) -> Result<(), BootError> {
    let Some(initrd) = initrd else { return Ok(()) };
    let size = initrd.size();
    let gaps = initrd_gaps(layout, kernel);
    let Some(gap) = gaps.iter().find(|gap| gap.size() >= size) else {
        let available = gaps.iter().map(MemoryRange::size).max().unwrap_or(0);
        return Err(BootError::InitrdTooLarge { size, available });
    };
    // Gaps start at page boundaries, so that rounding down stays inside.
    let start = (gap.end - size) & !(PAGE_SIZE - 1);
    copy(initrd, memory, start)?;
    // Below `initrd_addr_max`, a 32-bit address.
    params.hdr.ramdisk_image = start as u32;
    params.hdr.ramdisk_size = size as u32;
    Ok(())
}

/// Copies a file into guest memory, piece by piece.
fn copy<M: GuestMemoryBackend>(file: &dyn File, memory: &M, start: u64) -> Result<(), BootError> {
    const PIECE: usize = 64 << 10;
    let mut piece = vec![0; PIECE];
    let size = file.size();
    let mut offset = 0;
    while offset < size {
        let count = usize::try_from(size - offset).unwrap_or(PIECE).min(PIECE);
        let piece = piece.get_mut(..count).unwrap_or_default();
        file.read(offset, piece).map_err(|FileTooShort| BootError::FileTooShort)?;
        let address = start + offset;
        memory.write_slice(piece, GuestAddress(address)).map_err(|_| BootError::Memory(address))?;
        offset += count as u64;
    }
    Ok(())
}

/// Free page-aligned ranges from the highest down.
fn initrd_gaps(layout: &MemoryLayout, kernel: &KernelHeader) -> Vec<MemoryRange> {
    let limit = (kernel.initrd_end_max + 1) & !(PAGE_SIZE - 1);
    let unpacked = kernel.memory();
    let mut gaps = Vec::new();
    for ram in layout.ranges().iter().filter(|ram| ram.start >= HIGH_MEMORY) {
        let after =
            MemoryRange { start: ram.start.max(unpacked.end.next_multiple_of(PAGE_SIZE)), end: ram.end.min(limit) };
        let before = MemoryRange { start: ram.start, end: ram.end.min(limit).min(kernel.load_address) };
        gaps.extend([before, after].into_iter().filter(|gap| gap.start < gap.end));
    }
    gaps.reverse();
    gaps
}

fn load_cmdline<M: GuestMemoryBackend>(
    memory: &M,
    kernel: &KernelHeader,
    cmdline: &str,
    params: &mut bootparam::boot_params,
) -> Result<(), BootError> {
    const ROOM: usize = (place::CMDLINE_END - place::CMDLINE) as usize - 1;
    let limit = kernel.cmdline_max.min(ROOM);
    if cmdline.len() > limit {
        return Err(BootError::CmdlineTooLong { length: cmdline.len(), limit });
    }
    if cmdline.contains('\0') {
        return Err(BootError::CmdlineHasNul);
    }
    let mut bytes = cmdline.as_bytes().to_vec();
    bytes.push(0);
    memory.write_slice(&bytes, GuestAddress(place::CMDLINE)).map_err(|_| BootError::Memory(place::CMDLINE))?;
    params.hdr.cmd_line_ptr = place::CMDLINE as u32;
    Ok(())
}

#[cfg(test)]
mod tests;
