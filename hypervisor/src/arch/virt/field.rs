//! The parts of a vCPU's state that are plain words, and the selections with which they travel.

use abi::state::{Mtd, seg, word};

/// A word of a vCPU's state that the control block holds as such.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are the registers'; segments are two words each, as in the ABI")]
#[repr(usize)]
pub enum Field {
    Rip,
    Rflags,
    Es,
    EsBase,
    Cs,
    CsBase,
    Ss,
    SsBase,
    Ds,
    DsBase,
    Fs,
    FsBase,
    Gs,
    GsBase,
    Ldtr,
    LdtrBase,
    Tr,
    TrBase,
    Gdtr,
    GdtrBase,
    Idtr,
    IdtrBase,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Dr6,
    Dr7,
    Efer,
    Star,
    Lstar,
    Cstar,
    Sfmask,
    KernelGsBase,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    Pat,
    TscOffset,
}

/// Number of fields.
pub const FIELDS: usize = Field::TscOffset as usize + 1;

const fn seg_word(index: usize) -> usize {
    word::SEG + index * 2
}

/// UTCB word and field of the state that each selection bit stands for. What is not here needs more than a copy and is
/// handled in [`super::save`] and [`super::load`].
pub(super) const TABLE: [&[(usize, Field)]; 32] = {
    let mut table: [&[(usize, Field)]; 32] = [&[]; 32];
    table[Mtd::RIP.bits().trailing_zeros() as usize] = &[(word::RIP, Field::Rip)];
    table[Mtd::RFLAGS.bits().trailing_zeros() as usize] = &[(word::RFLAGS, Field::Rflags)];
    table[Mtd::CS_SS.bits().trailing_zeros() as usize] = &[
        (seg_word(seg::CS), Field::Cs),
        (seg_word(seg::CS) + 1, Field::CsBase),
        (seg_word(seg::SS), Field::Ss),
        (seg_word(seg::SS) + 1, Field::SsBase),
    ];
    table[Mtd::DS_ES.bits().trailing_zeros() as usize] = &[
        (seg_word(seg::DS), Field::Ds),
        (seg_word(seg::DS) + 1, Field::DsBase),
        (seg_word(seg::ES), Field::Es),
        (seg_word(seg::ES) + 1, Field::EsBase),
    ];
    table[Mtd::FS_GS.bits().trailing_zeros() as usize] = &[
        (seg_word(seg::FS), Field::Fs),
        (seg_word(seg::FS) + 1, Field::FsBase),
        (seg_word(seg::GS), Field::Gs),
        (seg_word(seg::GS) + 1, Field::GsBase),
    ];
    table[Mtd::TR.bits().trailing_zeros() as usize] =
        &[(seg_word(seg::TR), Field::Tr), (seg_word(seg::TR) + 1, Field::TrBase)];
    table[Mtd::LDTR.bits().trailing_zeros() as usize] =
        &[(seg_word(seg::LDTR), Field::Ldtr), (seg_word(seg::LDTR) + 1, Field::LdtrBase)];
    table[Mtd::GDTR.bits().trailing_zeros() as usize] =
        &[(seg_word(seg::GDTR), Field::Gdtr), (seg_word(seg::GDTR) + 1, Field::GdtrBase)];
    table[Mtd::IDTR.bits().trailing_zeros() as usize] =
        &[(seg_word(seg::IDTR), Field::Idtr), (seg_word(seg::IDTR) + 1, Field::IdtrBase)];
    table[Mtd::CR.bits().trailing_zeros() as usize] =
        &[(word::CR0, Field::Cr0), (word::CR2, Field::Cr2), (word::CR3, Field::Cr3), (word::CR4, Field::Cr4)];
    table[Mtd::DR.bits().trailing_zeros() as usize] = &[(word::DR6, Field::Dr6), (word::DR7, Field::Dr7)];
    table[Mtd::EFER.bits().trailing_zeros() as usize] = &[(word::EFER, Field::Efer)];
    table[Mtd::SYSCALL.bits().trailing_zeros() as usize] = &[
        (word::STAR, Field::Star),
        (word::LSTAR, Field::Lstar),
        (word::CSTAR, Field::Cstar),
        (word::SFMASK, Field::Sfmask),
        (word::KERNEL_GS_BASE, Field::KernelGsBase),
    ];
    table[Mtd::SYSENTER.bits().trailing_zeros() as usize] = &[
        (word::SYSENTER_CS, Field::SysenterCs),
        (word::SYSENTER_ESP, Field::SysenterEsp),
        (word::SYSENTER_EIP, Field::SysenterEip),
    ];
    table[Mtd::PAT.bits().trailing_zeros() as usize] = &[(word::PAT, Field::Pat)];
    table[Mtd::TSC.bits().trailing_zeros() as usize] = &[(word::TSC_OFFSET, Field::TscOffset)];
    table
};

/// Selection bits that [`TABLE`] covers.
pub(super) const PLAIN: u32 = {
    let (mut bits, mut i) = (0, 0);
    while i < TABLE.len() {
        if !TABLE[i].is_empty() {
            bits |= 1 << i;
        }
        i += 1;
    }
    bits
};

/// The bits of the largest selection that is frequent: what an emulator of instructions reads.
pub(super) const EMULATE_PLAIN: u32 = Mtd::EMULATE.bits() & PLAIN;

const EMULATE_COUNT: usize = {
    let (mut count, mut i) = (0, 0);
    while i < TABLE.len() {
        if EMULATE_PLAIN >> i & 1 == 1 {
            count += TABLE[i].len();
        }
        i += 1;
    }
    count
};

/// The words of [`EMULATE_PLAIN`], so that copying them is straight-line code.
pub(super) const EMULATE_WORDS: [(usize, Field); EMULATE_COUNT] = {
    let mut words = [(0, Field::Rip); EMULATE_COUNT];
    let (mut count, mut i) = (0, 0);
    while i < TABLE.len() {
        let mut j = 0;
        while EMULATE_PLAIN >> i & 1 == 1 && j < TABLE[i].len() {
            words[count] = TABLE[i][j];
            count += 1;
            j += 1;
        }
        i += 1;
    }
    words
};

/// All fields that are in the table.
pub fn all() -> impl Iterator<Item = Field> {
    TABLE.into_iter().flatten().map(|&(_, field)| field)
}
