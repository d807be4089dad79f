//! What the hypervisor says about the machine: free RAM, device memory, boot modules.

use crate::ranges::{Range, Ranges};
use abi::PAGE_SIZE;
use abi::hip::{self, RangeKind};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// End of the physical addresses that can be named: the architecture's limit (SDM vol. 3, 4.1.4).
const PHYSICAL_END: u64 = 1 << 52;

/// A boot module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module {
    /// Where it is.
    pub memory: Range,
    /// Physical address of its NUL-terminated command line.
    pub command_line: u64,
}

/// The machine's memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// RAM that nobody uses, in whole pages.
    pub ram: Ranges,
    /// What is not RAM, in whole pages.
    pub io_mem: Ranges,
    /// The modules.
    pub modules: Vec<Module>,
}

/// The pages that lie wholly inside, or all that are touched.
fn pages(range: &hip::Range, wholly: bool) -> Option<Range> {
    let end = range.base.checked_add(range.size)?.min(PHYSICAL_END);
    let round = |address: u64, up: bool| {
        if up { address.checked_next_multiple_of(PAGE_SIZE) } else { Some(address - address % PAGE_SIZE) }
    };
    let base = round(range.base, wholly)?;
    Range::new(base, round(end, !wholly)?.checked_sub(base)?)
}

impl Memory {
    /// Sorts the ranges of the hypervisor information page. They come in the order of the loader, where modules may be
    /// before or behind the memory that they are in: whatever is not free wins. Page 0 is never used.
    #[must_use]
    pub fn new(ranges: &[hip::Range]) -> Self {
        let mut memory = Self::default();
        let everything = Range::new(PAGE_SIZE, PHYSICAL_END - PAGE_SIZE);
        if let Some(everything) = everything {
            memory.io_mem.remove(everything);
            let freed = memory.io_mem.free(everything);
            debug_assert!(freed.is_ok(), "nothing was free");
        }
        let is_free = |range: &&hip::Range| range.kind == RangeKind::Free as u32;
        for range in ranges.iter().filter(is_free).chain(ranges.iter().filter(|range| !is_free(range))) {
            memory.add(range, everything);
        }
        memory
    }

    fn add(&mut self, range: &hip::Range, everything: Option<Range>) {
        let touched = pages(range, false);
        if let Some(touched) = touched {
            self.ram.remove(touched);
        }
        let is = |kind: RangeKind| range.kind == kind as u32;
        let kinds = [RangeKind::Free, RangeKind::Module, RangeKind::Loader, RangeKind::Hypervisor];
        let is_ram = kinds.into_iter().any(is);
        if let Some(touched) = touched.filter(|_| is_ram) {
            self.io_mem.remove(touched);
        }
        if is(RangeKind::Free)
            && let Some(usable) = pages(range, true).zip(everything).and_then(|(pages, all)| pages.intersection(all))
        {
            let freed = self.ram.free(usable);
            debug_assert!(freed.is_ok(), "what is in the way was removed");
        }
        if is(RangeKind::Module)
            && let Some(memory) = Range::new(range.base, range.size)
        {
            self.modules.push(Module { memory, command_line: range.aux });
        }
    }
}

/// The name of a module: last path component of the first word of its command line.
#[must_use]
pub fn module_name(command_line: &[u8]) -> Option<String> {
    let end = command_line.iter().position(|&byte| byte == 0).unwrap_or(command_line.len());
    let text = str::from_utf8(command_line.get(..end)?).ok()?;
    let path = text.split_ascii_whitespace().next()?;
    let name = path.rsplit('/').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(kind: RangeKind, base: u64, size: u64) -> hip::Range {
        hip::Range { base, size, kind: kind as u32, reserved: 0, aux: 0 }
    }

    #[test]
    fn free_memory_is_what_nothing_else_claims_in_any_order() {
        let mut ranges = [
            range(RangeKind::Free, 0, 0x9fc00),
            range(RangeKind::Reserved, 0x9fc00, 0x400),
            range(RangeKind::Free, 0x10_0000, 0x70_0000),
            range(RangeKind::Hypervisor, 0x20_0000, 0x10_0000),
            range(RangeKind::Module, 0x40_0000, 0x1234),
        ];
        let expected = [(0x1000, 0x9f000), (0x10_0000, 0x20_0000), (0x30_0000, 0x40_0000), (0x40_2000, 0x80_0000)];
        let ram = |ranges: &[hip::Range]| -> Vec<_> {
            Memory::new(ranges).ram.iter().map(|range| (range.base(), range.end())).collect()
        };
        assert_eq!(ram(&ranges), expected);
        ranges.reverse();
        assert_eq!(ram(&ranges), expected);
        let memory = Memory::new(&ranges);
        assert_eq!(memory.modules.len(), 1);
        let mut io = memory.io_mem;
        for ram in [0x1000, 0x10_0000, 0x20_0000, 0x40_1000] {
            assert!(io.take(Range::new(ram, 0x1000).unwrap()).is_err(), "{ram:#x} is RAM");
        }
        io.take(Range::new(0xfee0_0000, 0x1000).unwrap()).unwrap();
    }

    #[test]
    fn absurd_ranges_are_harmless() {
        let memory = Memory::new(&[
            range(RangeKind::Free, u64::MAX - 5, 100),
            range(RangeKind::Free, 1 << 60, 1 << 60),
            range(RangeKind::Free, 0x1800, 0x100),
            range(RangeKind::Module, 5, 0),
        ]);
        assert_eq!(memory.ram.total(), 0);
        assert!(memory.modules.is_empty());
    }

    #[test]
    fn names_of_modules() {
        assert_eq!(module_name(b"/boot/bin/init --flag\0junk").as_deref(), Some("init"));
        assert_eq!(module_name(b"config").as_deref(), Some("config"));
        assert_eq!(module_name(b"  a/b  c/d").as_deref(), Some("b"));
        for bad in [&b""[..], b"\0", b"/boot/", b"\xff"] {
            assert_eq!(module_name(bad), None);
        }
    }
}
