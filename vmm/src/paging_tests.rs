use vm_memory::{Bytes, GuestMemoryMmap};

use super::*;

const READ: Access = Access { kind: AccessKind::Read, user: false };
const WRITE: Access = Access { kind: AccessKind::Write, user: false };
const FETCH: Access = Access { kind: AccessKind::Fetch, user: false };
const USER_READ: Access = Access { kind: AccessKind::Read, user: true };
const USER_WRITE: Access = Access { kind: AccessKind::Write, user: true };
const USER_FETCH: Access = Access { kind: AccessKind::Fetch, user: true };

/// Present, writable, user.
const P: u64 = 1;
const PW: u64 = 3;
const PU: u64 = 5;
const PWU: u64 = 7;
const A: u64 = 0x20;
const AD: u64 = 0x60;
const LARGE: u64 = 0x80;
const NX: u64 = 1 << 63;

type Memory = GuestMemoryMmap<()>;

fn memory() -> Memory {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap()
}

fn put(memory: &Memory, address: u64, value: u64) {
    memory.write_obj(value, GuestAddress(address)).unwrap();
}

fn get(memory: &Memory, address: u64) -> u64 {
    memory.read_obj(GuestAddress(address)).unwrap()
}

fn long_mode() -> VcpuState {
    VcpuState {
        cr0: Cr0::PE | Cr0::PG | Cr0::WP,
        cr3: 0x1000,
        cr4: Cr4::PAE,
        efer: Efer::LME | Efer::LMA | Efer::NXE,
        physical_address_bits: 40,
        ..VcpuState::default()
    }
}

/// Four levels at 0x1000, 0x2000, 0x3000, 0x4000; linear 0x0000_0080_4020_3000 ends in `leaf`.
const LINEAR: u64 = (1 << 39) | (1 << 30) | (1 << 21) | (3 << 12);

fn four_levels(flags: u64, leaf: u64) -> Memory {
    let memory = memory();
    put(&memory, 0x1000 + 8, 0x2000 | flags);
    put(&memory, 0x2000 + 8, 0x3000 | flags);
    put(&memory, 0x3000 + 8, 0x4000 | flags);
    put(&memory, 0x4000 + 24, leaf);
    memory
}

fn address(result: Result<Translation, TranslationError>) -> u64 {
    result.unwrap().address.0
}

fn code(result: Result<Translation, TranslationError>) -> u32 {
    match result.unwrap_err() {
        TranslationError::PageFault { code, .. } => code.bits(),
        other => panic!("{other}"),
    }
}

#[test]
fn without_paging_linear_is_physical() {
    let state = VcpuState::default();
    assert_eq!(address(translate(&memory(), &state, 0xfee0_0123, WRITE)), 0xfee0_0123);
}

#[test]
fn four_levels_translate_and_set_accessed_and_dirty() {
    let memory = four_levels(PWU, 0xab_cdef_9000 & !0xfff | PWU);
    let state = long_mode();
    let read = translate(&memory, &state, LINEAR + 0x123, READ);
    assert_eq!(address(read), 0xab_cdef_9123);
    for entry in [0x1008, 0x2008, 0x3008] {
        assert_eq!(get(&memory, entry) & AD, A);
    }
    assert_eq!(get(&memory, 0x4018) & AD, A, "a read does not dirty the page");
    translate(&memory, &state, LINEAR, WRITE).unwrap();
    assert_eq!(get(&memory, 0x4018) & AD, AD);
    assert_eq!(get(&memory, 0x3008) & AD, A, "only the leaf is dirtied");
}

#[test]
fn a_faulting_walk_marks_nothing() {
    let memory = four_levels(PWU, 0x9000 | PU);
    assert_eq!(code(translate(&memory, &long_mode(), LINEAR, USER_WRITE)), 0x7);
    for entry in [0x1008, 0x2008, 0x3008, 0x4018] {
        assert_eq!(get(&memory, entry) & AD, 0);
    }
}

#[test]
fn large_pages() {
    let state = long_mode();
    let memory = memory();
    put(&memory, 0x1008, 0x2000 | PW);
    put(&memory, 0x2008, 0x4000_0000 | PW | LARGE);
    let huge = translate(&memory, &state, LINEAR, READ).unwrap();
    assert_eq!((huge.address.0, huge.page_size), (0x4020_3000, 1 << 30));
    put(&memory, 0x2008, 0x3000 | PW);
    put(&memory, 0x3008, 0x4060_0000 | PW | LARGE);
    let large = translate(&memory, &state, LINEAR, READ).unwrap();
    assert_eq!((large.address.0, large.page_size), (0x4060_3000, 2 << 20));
}

#[test]
fn five_levels_use_one_more_index() {
    let memory = four_levels(PW, 0x9000 | PW);
    put(&memory, 0x5000 + 16, 0x1000 | PW);
    let mut state = long_mode();
    state.cr4 |= Cr4::LA57;
    state.cr3 = 0x5000;
    assert_eq!(address(translate(&memory, &state, LINEAR | (2 << 48), READ)), 0x9000);
    assert_eq!(code(translate(&memory, &state, LINEAR, READ)), 0);
}

#[test]
fn pae_has_a_short_top_level() {
    let memory = memory();
    // 32-byte aligned, so not page aligned.
    put(&memory, 0x1020 + 3 * 8, 0x2000 | P);
    put(&memory, 0x2000, 0x3000 | PW);
    put(&memory, 0x3000 + 5 * 8, 0x9000 | PW);
    let mut state = long_mode();
    state.efer = Efer::NXE;
    state.cr3 = 0x1020;
    assert_eq!(address(translate(&memory, &state, 0xc000_5004, WRITE)), 0x9004);
    assert_eq!(get(&memory, 0x1038), 0x2000 | P, "the top entry has no accessed bit");
    put(&memory, 0x1038, 0x2000 | P | 1 << 5);
    assert_eq!(address(translate(&memory, &state, 0xc000_5004, READ)), 0x9004, "one that QEMU has set is no error");
    put(&memory, 0x1038, 0x2000 | PW);
    assert_eq!(code(translate(&memory, &state, 0xc000_5004, READ)), 0x9, "R/W is reserved there");
}

#[test]
fn two_levels_with_and_without_large_pages() {
    let memory = memory();
    let directory = |index: u64, value: u32| {
        memory.write_obj(value, GuestAddress(0x1000 + index * 4)).unwrap();
    };
    directory(1, 0x2000 | PW as u32);
    memory.write_obj(0x9000u32 | PW as u32, GuestAddress(0x2000 + 4)).unwrap();
    let mut state = long_mode();
    (state.efer, state.cr4) = (Efer::empty(), Cr4::empty());
    assert_eq!(address(translate(&memory, &state, 0x40_1010, WRITE)), 0x9010);
    let leaf: u32 = memory.read_obj(GuestAddress(0x2004)).unwrap();
    assert_eq!(u64::from(leaf) & AD, AD);
    // 4 MiB page with address bit 32 from PSE-36.
    directory(2, 0x00c0_0000 | (1 << 13) | (PW | LARGE) as u32);
    state.cr4 = Cr4::PSE;
    assert_eq!(address(translate(&memory, &state, 0x80_1234, READ)), 0x1_00c0_1234);
    directory(2, 0x00c0_0000 | (1 << 21) | (PW | LARGE) as u32);
    assert_eq!(code(translate(&memory, &state, 0x80_1234, READ)), 0x9);
}

#[test]
fn permissions() {
    struct Case(&'static str, u64, u64, Cr4, Rflags, Cr0, Access, Option<u32>);
    let (wp, none) = (Cr0::WP, Rflags::empty());
    let off = Cr4::empty();
    let cases = [
        Case("read", P, P, off, none, wp, READ, None),
        Case("write to read-only", PW, P, off, none, wp, WRITE, Some(0x3)),
        Case("write without WP", PW, P, off, none, Cr0::empty(), WRITE, None),
        Case("read-only directory", P, PW, off, none, wp, WRITE, Some(0x3)),
        Case("user in supervisor page", PWU, PW, off, none, wp, USER_READ, Some(0x5)),
        Case("user in supervisor directory", PW, PWU, off, none, wp, USER_READ, Some(0x5)),
        Case("user write without WP", PWU, PU, off, none, Cr0::empty(), USER_WRITE, Some(0x7)),
        Case("user write", PWU, PWU, off, none, wp, USER_WRITE, None),
        Case("user fetch of NX", PWU, PWU | NX, off, none, wp, USER_FETCH, Some(0x15)),
        Case("NX directory", PWU | NX, PWU, off, none, wp, FETCH, Some(0x11)),
        Case("read of NX", PWU, PWU | NX, off, none, wp, READ, None),
        Case("SMEP", PWU, PWU, Cr4::SMEP, none, wp, FETCH, Some(0x11)),
        Case("SMEP lets users run", PWU, PWU, Cr4::SMEP, none, wp, USER_FETCH, None),
        Case("SMAP", PWU, PWU, Cr4::SMAP, none, wp, READ, Some(0x1)),
        Case("SMAP with AC", PWU, PWU, Cr4::SMAP, Rflags::AC, wp, WRITE, None),
        Case("not present", PWU, PWU & !P, off, none, wp, USER_WRITE, Some(0x6)),
    ];
    for Case(what, flags, leaf, cr4, rflags, cr0, access, fault) in cases {
        let mut state = long_mode();
        state.cr4 |= cr4;
        state.rflags = rflags;
        state.cr0 = Cr0::PE | Cr0::PG | cr0;
        let result = translate(&four_levels(flags, 0x9000 | leaf), &state, LINEAR, access);
        assert_eq!(result.map_err(|error| code(Err(error))).err(), fault, "{what}");
    }
}

#[test]
fn reserved_bits_fault() {
    let mut state = long_mode();
    let beyond_address = four_levels(PW, 0x9000 | PW | 1 << 40);
    assert_eq!(code(translate(&beyond_address, &state, LINEAR, READ)), 0x9);
    let top_level_large = four_levels(PW | LARGE, 0x9000 | PW);
    assert_eq!(code(translate(&top_level_large, &state, LINEAR, READ)), 0x9);
    let no_execute = four_levels(PW, 0x9000 | PW | NX);
    state.efer.remove(Efer::NXE);
    assert_eq!(code(translate(&no_execute, &state, LINEAR, READ)), 0x9);
}

#[test]
fn tables_outside_ram_are_reported() {
    let mut state = long_mode();
    state.cr3 = 0xfee0_0000;
    assert_eq!(code(translate(&memory(), &state, 0, READ)), 0x9);
    assert_eq!(code(translate(&memory(), &state, 0, USER_WRITE)), 0xf);
}

proptest::proptest! {
    #[test]
    fn any_tables_and_registers_are_walked_without_panic(
        entries in proptest::collection::vec(proptest::num::u64::ANY, 512),
        linear: u64, cr0: u64, cr3 in 0u64..0x11_0000, cr4: u64, efer: u64, bits: u8,
    ) {
        let memory = memory();
        for page in 0..4u64 {
            for (index, entry) in entries.iter().enumerate() {
                put(&memory, page * PAGE_SIZE + index as u64 * 8, entry & 0xffff | 1);
            }
        }
        let mut state = long_mode();
        state.cr0 = Cr0::from_bits_retain(cr0);
        state.cr3 = cr3;
        state.cr4 = Cr4::from_bits_retain(cr4);
        state.efer = Efer::from_bits_retain(efer);
        state.physical_address_bits = bits;
        for access in [READ, WRITE, FETCH, USER_READ] {
            let _ = translate(&memory, &state, linear, access);
        }
    }
}

/// Two levels, PAE, four and five levels: the state, and the entries that map [`MAPPED`] with a small page, the leaf last.
const MAPPED: u64 = 0x40_1010;

fn format(number: u8) -> (VcpuState, Vec<(u64, u64)>) {
    let mut state = long_mode();
    let (directory, leaf) = ((0x3010, 0x4000 | PWU), (0x4008, 0x9000 | PWU));
    let entries = match number {
        0 => {
            (state.cr4, state.efer) = (Cr4::PSE, Efer::empty());
            vec![(0x1004, 0x4000 | PWU), (0x4004, 0x9000 | PWU)]
        }
        1 => {
            state.efer = Efer::NXE;
            vec![(0x1000, 0x3000 | P), directory, leaf]
        }
        2 => vec![(0x1000, 0x2000 | PWU), (0x2000, 0x3000 | PWU), directory, leaf],
        _ => {
            state.cr4 |= Cr4::LA57;
            vec![(0x1000, 0x5000 | PWU), (0x5000, 0x2000 | PWU), (0x2000, 0x3000 | PWU), directory, leaf]
        }
    };
    (state, entries)
}

/// The same in memory, with a large page instead if `large`; and the addresses of the entries.
fn mapped(number: u8, large: bool) -> (VcpuState, Memory, Vec<u64>) {
    let ((state, mut entries), memory) = (format(number), memory());
    if large {
        entries.pop();
        entries.last_mut().unwrap().1 = 0x40_0000 | PWU | LARGE;
    }
    entries.iter().for_each(|(address, value)| put(&memory, *address, *value));
    (state, memory, entries.into_iter().map(|(address, _)| address).collect())
}

proptest::proptest! {
    /// Whatever changes in memory or the registers: a path that is unchanged, under the same regime, is that of the walk done again.
    #[test]
    fn what_is_unchanged_is_walked_to_the_same_place(
        number in 0u8..4, large: bool, user: bool,
        entry in 0usize..8, flip in proptest::option::of(0u32..64), register in 0u8..8, bit in 0u32..64,
    ) {
        let (mut state, memory, entries) = mapped(number, large);
        let access = Access { kind: AccessKind::Fetch, user };
        let (before, path) = walk(&memory, &state, MAPPED, access).unwrap();
        let regime = FetchRegime::of(&state, user);
        proptest::prop_assert!(path.is_unchanged());
        if let (Some(flip), Some(address)) = (flip, entries.get(entry)) {
            let flip = if number == 0 { flip % 32 } else { flip };
            put(&memory, *address, get(&memory, *address) ^ 1 << flip);
            proptest::prop_assert!(!path.is_unchanged(), "any bit of any entry");
        }
        match register {
            0 => state.cr0 ^= Cr0::from_bits_retain(1 << bit),
            1 => state.cr3 ^= 1 << bit,
            2 => state.cr4 ^= Cr4::from_bits_retain(1 << bit),
            3 => state.efer ^= Efer::from_bits_retain(1 << bit),
            4 => state.physical_address_bits ^= 1 << (bit % 8),
            5 => state.rflags ^= Rflags::from_bits_retain(1 << bit),
            _ => {}
        }
        proptest::prop_assert_eq!(register > 4, FetchRegime::of(&state, user) == regime);
        proptest::prop_assert!(FetchRegime::of(&state, !user) != regime);
        let held = path.is_unchanged() && FetchRegime::of(&state, user) == regime;
        let again = translate(&memory, &state, MAPPED, access);
        proptest::prop_assert!(!held || again == Ok(before));
    }
}

#[test]
fn a_remembered_walk_sees_the_accessed_bits_that_the_guest_cleared() {
    let memory = four_levels(PWU, 0x9000 | PWU);
    let (_, path) = walk(&memory, &long_mode(), LINEAR, FETCH).unwrap();
    assert_eq!(get(&memory, 0x4018) & AD, A);
    assert!(path.is_unchanged());
    put(&memory, 0x4018, 0x9000 | PWU);
    assert!(!path.is_unchanged());
}

#[test]
fn canonical_addresses_repeat_their_highest_bit() {
    assert!(is_canonical(0x7fff_ffff_ffff, 48) && is_canonical(0xffff_8000_0000_0000, 48));
    assert!(!is_canonical(0x8000_0000_0000, 48) && !is_canonical(0xffff_7fff_ffff_ffff, 48));
    assert!(is_canonical(0x00ff_ffff_ffff_ffff, 57) && !is_canonical(0x0100_0000_0000_0000, 57));
}
