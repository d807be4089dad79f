//! The virtual machine control block, word by word (APM vol. 2, appendix B).
//!
//! A processor with VMCB clean bits may keep most of it from one entry to the next, and reads a group of words again only if
//! the group's bit in the clean field is 0 (15.15). That bit is cleared here by whoever writes a word of the group, which is known
//! by where the word is: there is no other way to write one. A control block never leaves its page or its CPU, for which all would
//! have to be read again; a new one has no bit set.

use crate::arch::virt::{FIELDS, Field};
use crate::mem::Page;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words that are no [`Field`].
pub mod at {
    pub const CR_DR: usize = 0;
    pub const EXCEPTIONS_3: usize = 1;
    pub const VECTOR_4: usize = 0x010 / 8;
    pub const IOPM: usize = 0x040 / 8;
    pub const MSRPM: usize = 0x048 / 8;
    pub const ASID_TLB: usize = 0x058 / 8;
    pub const VIRTUAL_INTERRUPT: usize = 0x060 / 8;
    pub const SHADOW: usize = 0x068 / 8;
    pub const EXITCODE: usize = 0x070 / 8;
    pub const EXITINFO1: usize = 0x078 / 8;
    pub const EXITINFO2: usize = 0x080 / 8;
    pub const EXITINTINFO: usize = 0x088 / 8;
    pub const NP_ENABLE: usize = 0x090 / 8;
    pub const EVENTINJ: usize = 0x0a8 / 8;
    pub const N_CR3: usize = 0x0b0 / 8;
    pub(super) const CLEAN: usize = 0x0c0 / 8;
    pub const NRIP: usize = 0x0c8 / 8;
    pub const INST_BYTES: usize = 0x0d0 / 8;
    pub const SS: usize = 0x420 / 8;
    pub const CPL: usize = 0x4c8 / 8;
    pub const RIP: usize = 0x578 / 8;
    pub const RSP: usize = 0x5d8 / 8;
    pub const RAX: usize = 0x5f8 / 8;
}

/// Byte of each [`Field`], in its order.
const OFFSETS: [usize; FIELDS] = [
    0x578, 0x570, // RIP, RFLAGS
    0x400, 0x408, 0x410, 0x418, 0x420, 0x428, 0x430, 0x438, 0x440, 0x448, 0x450, 0x458, // ES CS SS DS FS GS
    0x470, 0x478, 0x490, 0x498, 0x460, 0x468, 0x480, 0x488, // LDTR TR GDTR IDTR
    0x558, 0x640, 0x550, 0x548, // CR0 CR2 CR3 CR4
    0x568, 0x560, // DR6 DR7
    0x4d0, // EFER
    0x600, 0x608, 0x610, 0x618, 0x620, // STAR LSTAR CSTAR SFMASK KERNEL_GS_BASE
    0x628, 0x630, 0x638, // SYSENTER
    0x668, // PAT
    0x050, // TSC_OFFSET
];

/// Word of a field.
#[inline(always)]
const fn word_of(field: Field) -> usize {
    OFFSETS[field as usize] / 8
}

/// Bits of the clean field (APM vol. 2, 15.15.3), of the groups that are in use.
pub mod group {
    /// Read at each entry.
    pub const NONE: u64 = 0;
    pub const INTERCEPTS: u64 = 1 << 0;
    pub const PERMISSION_MAPS: u64 = 1 << 1;
    pub const ASID: u64 = 1 << 2;
    pub const VIRTUAL_INTERRUPT: u64 = 1 << 3;
    pub const NESTED_PAGING: u64 = 1 << 4;
    pub const CONTROL_REGISTERS: u64 = 1 << 5;
    pub const DEBUG_REGISTERS: u64 = 1 << 6;
    pub const DESCRIPTOR_TABLES: u64 = 1 << 7;
    pub const SEGMENTS: u64 = 1 << 8;
    pub const CR2: u64 = 1 << 9;
    pub const ALL: u64 = 0x3ff;
}

/// The group of a word. One that is not known is of all groups.
const fn group_of(word: usize) -> u64 {
    match word * 8 {
        0x040 | 0x048 => group::PERMISSION_MAPS,
        0x000..=0x050 => group::INTERCEPTS,
        0x058 => group::ASID,
        0x060 => group::VIRTUAL_INTERRUPT,
        // Interrupt shadow, what exits tell, the injected event, the clean field itself.
        0x068..=0x088 | 0x0a8 | 0x0c0 => group::NONE,
        0x090 | 0x0b0 | 0x668 => group::NESTED_PAGING,
        0x400..=0x438 | 0x4c8 => group::SEGMENTS,
        // FS and GS, LDTR, TR, STAR to SYSENTER_EIP: loaded by VMLOAD.
        0x440..=0x458 | 0x470 | 0x478 | 0x490 | 0x498 | 0x600..=0x638 => group::NONE,
        0x460 | 0x468 | 0x480 | 0x488 => group::DESCRIPTOR_TABLES,
        0x4d0 | 0x548..=0x558 => group::CONTROL_REGISTERS,
        0x560 | 0x568 => group::DEBUG_REGISTERS,
        // RFLAGS, RIP, RSP, RAX.
        0x570 | 0x578 | 0x5d8 | 0x5f8 => group::NONE,
        0x640 => group::CR2,
        _ => group::ALL,
    }
}

/// The groups that the processors may keep: none unless they have clean bits.
pub static KEPT: AtomicU64 = AtomicU64::new(group::NONE);

/// The page of a control block.
#[derive(Clone, Copy)]
pub struct Block(Page);

impl Block {
    /// The one at a virtual address; a new one in a zeroed page.
    #[inline(always)]
    pub fn at_virt(addr: u64) -> Self {
        Self(Page::at_virt(addr))
    }

    /// A word.
    #[inline(always)]
    pub fn read(self, word: usize) -> u64 {
        self.0.read(word)
    }

    /// Sets a word, which the processor then reads again with all of its group.
    #[inline(always)]
    pub fn write(self, word: usize, value: u64) {
        let group = group_of(word);
        self.0.write(word, value);
        if group != group::NONE {
            self.0.write(at::CLEAN, self.0.read(at::CLEAN) & !group);
        }
    }

    /// A field.
    #[inline(always)]
    pub fn field(self, field: Field) -> u64 {
        self.0.read(word_of(field))
    }

    /// Sets a field.
    #[inline(always)]
    pub fn set_field(self, field: Field, value: u64) {
        self.write(word_of(field), value);
    }

    /// The guest has run: from here on the processor may keep what is not written.
    #[inline(always)]
    pub fn ran(self) {
        self.0.write(at::CLEAN, KEPT.load(Relaxed));
    }

    /// The processor refused the state, and is to keep nothing of it.
    pub fn refused(self) {
        self.0.write(at::CLEAN, group::NONE);
    }
}

#[cfg(test)]
pub(super) mod model {
    use super::*;
    use crate::mem::page::WORDS;

    /// A processor that keeps all it may, of every control block that it has ever run.
    #[derive(Default)]
    pub struct Processor(Vec<(Page, [u64; WORDS])>);

    impl Processor {
        /// Enters a guest. Returns the words that it runs with although memory has others.
        pub fn enter(&mut self, block: Block) -> Vec<usize> {
            let kept = self.0.iter_mut().find(|(page, _)| *page == block.0).map(|(_, words)| words);
            let clean = if kept.is_some() { block.read(at::CLEAN) } else { group::NONE };
            let used: [u64; WORDS] = match kept {
                Some(kept) => std::array::from_fn(|word| {
                    let group = group_of(word);
                    if group != group::NONE && group & clean == group { kept[word] } else { block.read(word) }
                }),
                None => std::array::from_fn(|word| block.read(word)),
            };
            let stale = (0..WORDS).filter(|&word| used[word] != block.read(word)).collect();
            self.0.retain(|(page, _)| *page != block.0);
            self.0.push((block.0, used));
            stale
        }

        /// Leaves it. The guest has changed a field, which the processor both keeps and stores.
        pub fn leave(&mut self, block: Block, field: Field, value: u64) {
            let word = word_of(field);
            block.0.write(word, value);
            for (_, words) in self.0.iter_mut().filter(|(page, _)| *page == block.0) {
                words[word] = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// The groups, by the names of the manual's fields (APM vol. 2, table 15-9).
    #[test]
    fn words_are_in_the_groups_of_the_manual() {
        use Field as F;
        let of = |field: Field| group_of(word_of(field));
        assert_eq!([F::Cr0, F::Cr3, F::Cr4, F::Efer].map(of), [1 << 5; 4]);
        assert_eq!([F::Dr6, F::Dr7].map(of), [1 << 6; 2]);
        assert_eq!([F::Gdtr, F::GdtrBase, F::Idtr, F::IdtrBase].map(of), [1 << 7; 4]);
        let segments = [F::Es, F::EsBase, F::Cs, F::CsBase, F::Ss, F::SsBase, F::Ds, F::DsBase];
        assert_eq!(segments.map(of), [1 << 8; 8]);
        assert_eq!([F::Cr2, F::Pat, F::TscOffset].map(of), [1 << 9, 1 << 4, 1 << 0]);
        let loaded =
            [F::Rip, F::Rflags, F::Fs, F::GsBase, F::Ldtr, F::TrBase, F::Star, F::KernelGsBase, F::SysenterEip];
        assert_eq!(loaded.map(of), [0; 9]);
        let intercepts = [at::CR_DR, at::EXCEPTIONS_3, at::VECTOR_4];
        assert_eq!(intercepts.map(group_of), [1 << 0; 3]);
        assert_eq!([at::IOPM, at::MSRPM].map(group_of), [1 << 1; 2]);
        assert_eq!([at::ASID_TLB, at::VIRTUAL_INTERRUPT].map(group_of), [1 << 2, 1 << 3]);
        assert_eq!([at::NP_ENABLE, at::N_CR3].map(group_of), [1 << 4; 2]);
        assert_eq!([at::CPL, at::SS].map(group_of), [1 << 8; 2]);
        assert_eq!([at::EVENTINJ, at::SHADOW, at::RIP, at::RSP, at::RAX].map(group_of), [0; 5]);
    }

    #[test]
    fn only_a_run_makes_groups_clean() {
        KEPT.store(group::ALL, Relaxed);
        let block = Block::at_virt(testing::pd(8).alloc(0).unwrap().virt());
        let clean = || block.read(at::CLEAN);
        assert_eq!(clean(), 0, "new");
        block.ran();
        assert_eq!(clean(), group::ALL);
        block.set_field(Field::Rip, 1);
        block.write(at::EVENTINJ, 1);
        assert_eq!(clean(), group::ALL);
        block.set_field(Field::Cr3, 1);
        block.write(at::ASID_TLB, 1);
        assert_eq!(clean(), group::ALL & !(1 << 5 | 1 << 2));
        block.ran();
        block.refused();
        assert_eq!(clean(), 0);
    }
}
