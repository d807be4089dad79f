//! Multiboot 1 (specification 0.6.96) and 2 (2.0) information.

use super::info::BootInfo;
use abi::hip::RangeKind;

/// EAX at entry from a Multiboot 1 loader.
pub const MAGIC_1: u32 = 0x2bad_b002;
/// EAX at entry from a Multiboot 2 loader.
pub const MAGIC_2: u32 = 0x36d7_6289;

/// Access to physical memory at boot.
pub trait Memory {
    /// `len` bytes at `at`.
    fn bytes(&self, at: u64, len: u64) -> Option<&[u8]>;

    /// Little-endian 32-bit word.
    fn u32(&self, at: u64) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(at, 4)?.try_into().ok()?))
    }

    /// Little-endian 64-bit word.
    fn u64(&self, at: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(at, 8)?.try_into().ok()?))
    }

    /// Length of a NUL-terminated string of at most 4096 bytes.
    fn string(&self, at: u64) -> u64 {
        (0..4096).find(|i| self.bytes(at + i, 1).is_none_or(|b| b[0] == 0)).unwrap_or(4096)
    }
}

/// Parses what a loader left; `None` if the magic is unknown or a structure lies outside of memory.
pub fn parse(memory: &impl Memory, magic: u32, info: u64) -> Option<BootInfo> {
    match magic {
        MAGIC_1 => parse_1(memory, info),
        MAGIC_2 => parse_2(memory, info),
        _ => None,
    }
}

/// Multiboot 1 information (section 3.3): flag bits and field offsets.
mod mb1 {
    pub const FLAG_COMMAND_LINE: u32 = 1 << 2;
    pub const FLAG_MODULES: u32 = 1 << 3;
    pub const FLAG_MEMORY_MAP: u32 = 1 << 6;
    pub const COMMAND_LINE: u64 = 16;
    pub const MODULE_COUNT: u64 = 20;
    pub const MODULES: u64 = 24;
    pub const MAP_LENGTH: u64 = 44;
    pub const MAP: u64 = 48;
    pub const MODULE_BYTES: u64 = 16;
}

fn parse_1(memory: &impl Memory, info: u64) -> Option<BootInfo> {
    let mut out = BootInfo::default();
    let flags = memory.u32(info)?;
    if flags & mb1::FLAG_COMMAND_LINE != 0 {
        let at = u64::from(memory.u32(info + mb1::COMMAND_LINE)?);
        out.command_line = (at, memory.string(at));
    }
    if flags & mb1::FLAG_MEMORY_MAP != 0 {
        let mut at = u64::from(memory.u32(info + mb1::MAP)?);
        let end = at + u64::from(memory.u32(info + mb1::MAP_LENGTH)?);
        while at < end {
            out.add(memory.u64(at + 4)?, memory.u64(at + 12)?, memory.u32(at + 20)?, 0);
            at += u64::from(memory.u32(at)?) + 4;
        }
    }
    if flags & mb1::FLAG_MODULES != 0 {
        let count = u64::from(memory.u32(info + mb1::MODULE_COUNT)?);
        let first = u64::from(memory.u32(info + mb1::MODULES)?);
        for i in 0..count {
            let at = first + i * mb1::MODULE_BYTES;
            let (start, end) = (u64::from(memory.u32(at)?), u64::from(memory.u32(at + 4)?));
            let name = u64::from(memory.u32(at + 8)?);
            out.add(start, end.checked_sub(start)?, RangeKind::Module as u32, name);
            out.add(name, memory.string(name) + 1, RangeKind::Loader as u32, 0);
        }
    }
    Some(out)
}

/// Multiboot 2 tags (section 3.6).
mod tag {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const MODULE: u32 = 3;
    pub const MEMORY_MAP: u32 = 6;
    pub const FRAMEBUFFER: u32 = 8;
    pub const ACPI_OLD: u32 = 14;
    pub const ACPI_NEW: u32 = 15;
}

fn parse_2(memory: &impl Memory, info: u64) -> Option<BootInfo> {
    let mut out = BootInfo::default();
    let size = u64::from(memory.u32(info)?);
    let end = info + size;
    out.add(info, size, RangeKind::Loader as u32, 0);
    let mut at = info + 8;
    while at < end {
        let (kind, size) = (memory.u32(at)?, u64::from(memory.u32(at + 4)?));
        match kind {
            tag::END => break,
            tag::COMMAND_LINE => out.command_line = (at + 8, memory.string(at + 8)),
            tag::MODULE => {
                let (start, end) = (u64::from(memory.u32(at + 8)?), u64::from(memory.u32(at + 12)?));
                out.add(start, end.checked_sub(start)?, RangeKind::Module as u32, at + 16);
            }
            tag::MEMORY_MAP => {
                let entry = u64::from(memory.u32(at + 8)?).max(24);
                for i in 0..size.saturating_sub(16) / entry {
                    let e = at + 16 + i * entry;
                    out.add(memory.u64(e)?, memory.u64(e + 8)?, memory.u32(e + 16)?, 0);
                }
            }
            tag::FRAMEBUFFER => {
                let (pitch, width) = (memory.u32(at + 16)?, memory.u32(at + 20)?);
                let (height, bpp) = (memory.u32(at + 24)?, memory.bytes(at + 28, 1)?[0]);
                let geometry = u64::from(pitch & 0xffff)
                    | u64::from(width & 0xffff) << 16
                    | u64::from(height & 0xffff) << 32
                    | u64::from(bpp) << 48;
                out.framebuffer = [memory.u64(at + 8)?, geometry];
            }
            tag::ACPI_OLD if out.rsdp == 0 => out.rsdp = at + 8,
            tag::ACPI_NEW => out.rsdp = at + 8,
            _ => {}
        }
        at += size.max(8).next_multiple_of(8);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Ram(Vec<u8>);
    impl Memory for Ram {
        fn bytes(&self, at: u64, len: u64) -> Option<&[u8]> {
            self.0.get(at as usize..at.checked_add(len)? as usize)
        }
    }

    fn words(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn multiboot_2_tags() {
        let mut ram = words(&[0, 0]);
        ram.extend(words(&[tag::MEMORY_MAP, 40, 24, 0, 0x10_0000, 0, 0x4000, 0, 1, 0]));
        ram.extend(words(&[tag::MODULE, 16 + 8, 0x8000, 0x9000]));
        ram.extend(b"core\0\0\0\0");
        ram.extend(words(&[tag::COMMAND_LINE, 8 + 8]));
        ram.extend(b"log=com2");
        ram.extend(words(&[tag::END, 8]));
        let len = ram.len() as u32;
        ram[..4].copy_from_slice(&len.to_le_bytes());
        let info = parse(&Ram(ram), MAGIC_2, 0).unwrap();
        let ranges = &info.ranges;
        // The names of the modules, and where all of this is, are not free.
        assert_eq!((ranges[0].base, ranges[0].size, ranges[0].kind), (0, u64::from(len), RangeKind::Loader as u32));
        assert_eq!((ranges[1].base, ranges[1].size, ranges[1].kind), (0x10_0000, 0x4000, 1));
        assert_eq!((ranges[2].base, ranges[2].size, ranges[2].kind), (0x8000, 0x1000, RangeKind::Module as u32));
        assert_eq!(info.command_line.1, 8);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..256), second: bool) {
            let magic = if second { MAGIC_2 } else { MAGIC_1 };
            let _ = parse(&Ram(bytes), magic, 0);
        }
    }
}
