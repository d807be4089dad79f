//! Task switches: two tasks, A and B, in a flat machine without paging.

use proptest::prelude::*;

use super::*;
use crate::emulator::task::{Cause, Switched, TaskSwitch};

const GDT: u64 = 0x2000;
const TASK_A: u64 = 0x3000;
const TASK_B: u64 = 0x4000;
const NEXT: u64 = 0x1_0007;
/// Selectors, in the order of the table below.
const CODE_SELECTOR: u16 = 0x08;
const DATA_SELECTOR: u16 = 0x10;
const A_SELECTOR: u16 = 0x18;
const B_SELECTOR: u16 = 0x20;
const SHORT_SELECTOR: u16 = 0x28;
const LDT_SELECTOR: u16 = 0x30;
const USER_CODE: u16 = 0x3b;
const USER_DATA: u16 = 0x43;
const ABSENT_DATA: u16 = 0x48;
const READ_ONLY: u16 = 0x50;
const NESTED: u64 = 1 << 14;

/// Base, limit, type byte, flags nibble.
fn descriptor(base: u64, limit: u64, kind: u64, flags: u64) -> u64 {
    limit & 0xffff | (base & 0xff_ffff) << 16 | kind << 40 | (limit >> 16) << 48 | flags << 52 | base >> 24 << 56
}

fn put(memory: &Memory, at: u64, value: u32) {
    memory.write_obj(value, GuestAddress(at)).unwrap();
}

fn word(memory: &Memory, at: u64) -> u32 {
    memory.read_obj(GuestAddress(at)).unwrap()
}

fn type_of(memory: &Memory, selector: u16) -> u8 {
    memory.read_obj(GuestAddress(GDT + u64::from(selector & !7) + 5)).unwrap()
}

fn set_type(memory: &Memory, selector: u16, kind: u8) {
    memory.write_obj(kind, GuestAddress(GDT + u64::from(selector & !7) + 5)).unwrap();
}

/// In task A, which is busy, with B as a task to go to.
fn tasks() -> (Memory, VcpuState) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
    let table = [
        0,
        descriptor(0, 0xf_ffff, 0x9a, 0xc),
        descriptor(0, 0xf_ffff, 0x92, 0xc),
        descriptor(TASK_A, 0x67, 0x8b, 0),
        descriptor(TASK_B, 0x67, 0x89, 0),
        descriptor(TASK_B, 0x2b, 0x81, 0),
        descriptor(0x6000, 0xff, 0x82, 0),
        descriptor(0, 0xf_ffff, 0xfa, 0xc),
        descriptor(0, 0xf_ffff, 0xf2, 0xc),
        descriptor(0, 0xf_ffff, 0x12, 0xc),
        descriptor(0, 0xf_ffff, 0x90, 0xc),
    ];
    for (index, entry) in (0u64..).zip(table) {
        memory.write_obj(entry, GuestAddress(GDT + index * 8)).unwrap();
    }
    let mut state =
        VcpuState { rip: 0x1_0000, rflags: Rflags::FIXED_1 | Rflags::CF, cr0: Cr0::PE, ..VcpuState::default() };
    state.gdtr = crate::state::DescriptorTable { base: GDT, limit: (table.len() * 8 - 1) as u16 };
    let busy = SegmentAttributes::from_bits_retain(0x8b);
    state.tr = Segment { selector: A_SELECTOR, attributes: busy, limit: 0x67, base: TASK_A };
    for (index, segment) in state.segments.iter_mut().enumerate() {
        let (selector, kind) =
            if index == SegmentRegister::Cs as usize { (CODE_SELECTOR, 0xc9b) } else { (DATA_SELECTOR, 0xc93) };
        let attributes = SegmentAttributes::from_bits_retain(kind);
        *segment = Segment { selector, attributes, limit: u32::MAX, base: 0 };
    }
    for (index, register) in Gpr::ALL.into_iter().take(8).enumerate() {
        state.set_gpr(register, 0xa0 + index as u64);
    }
    let words =
        [0x2_0000, 0x46, 0xb0, 0xb1, 0xb2, 0xb3, 0x8000, 0xb5, 0xb6, 0xb7, 0x10, 0x08, 0x10, 0x10, 0, 0x10, 0, 0];
    for (index, value) in (0u64..).zip(words) {
        put(&memory, TASK_B + 0x20 + index * 4, value);
    }
    (memory, state)
}

fn switch(memory: &Memory, state: &mut VcpuState, to: u16, by: Cause) -> Switched {
    Emulator::new(memory).switch_task(state, TaskSwitch { to, by, next: NEXT }).unwrap()
}

const DONE: Switched = Switched::Done { traps: false };
const INTERRUPT: Cause = Cause::Event { error_code: None, is_external: true };

fn exception(vector: ExceptionVector, error_code: u32) -> Exception {
    Exception { vector, error_code: Some(error_code), cr2: None }
}

#[test]
fn a_call_leads_there_and_an_iret_back() {
    let (memory, mut state) = tasks();
    let before = state.clone();
    assert_eq!(switch(&memory, &mut state, B_SELECTOR, Cause::Call), DONE);
    assert_eq!((state.rip, state.rflags.bits()), (0x2_0000, 0x46 | NESTED));
    assert_eq!(state.gpr[..8], [0xb0, 0xb1, 0xb2, 0xb3, 0x8000, 0xb5, 0xb6, 0xb7]);
    assert!(state.cr0.contains(Cr0::TS));
    assert_eq!((state.tr.selector, state.tr.base, state.tr.attributes.bits()), (B_SELECTOR, TASK_B, 0x8b));
    let fs = state.segment(SegmentRegister::Fs);
    assert!(!fs.attributes.contains(SegmentAttributes::PRESENT), "null");
    assert_eq!(state.segment(SegmentRegister::Gs), &before.segments[SegmentRegister::Gs as usize]);
    assert_eq!(state.segment(SegmentRegister::Cs), &before.segments[SegmentRegister::Cs as usize]);
    assert_eq!(word(&memory, TASK_B) as u16, A_SELECTOR, "back link");
    assert_eq!([word(&memory, TASK_A + 0x20), word(&memory, TASK_A + 0x24)], [NEXT as u32, 3]);
    assert_eq!(word(&memory, TASK_A + 0x44), 0xa7, "EDI");
    assert_eq!(
        [word(&memory, TASK_A + 0x4c), word(&memory, TASK_A + 0x48)],
        [u32::from(CODE_SELECTOR), u32::from(DATA_SELECTOR)]
    );
    assert_eq!([type_of(&memory, A_SELECTOR), type_of(&memory, B_SELECTOR)], [0x8b, 0x8b]);
    assert_eq!([type_of(&memory, CODE_SELECTOR), type_of(&memory, DATA_SELECTOR)], [0x9b, 0x93], "accessed");

    assert_eq!(switch(&memory, &mut state, A_SELECTOR, Cause::Iret), DONE);
    assert_eq!(state.rip, NEXT);
    assert_eq!((state.gpr, state.rflags, state.tr), (before.gpr, before.rflags, before.tr));
    assert_eq!(state.segments, before.segments);
    assert_eq!([type_of(&memory, A_SELECTOR), type_of(&memory, B_SELECTOR)], [0x8b, 0x89]);
    assert_eq!(word(&memory, TASK_B + 0x24), 0x46, "without NT");
}

#[test]
fn a_jump_leaves_nothing_to_come_back_to() {
    let (memory, mut state) = tasks();
    put(&memory, TASK_B + 0x64, 1);
    assert_eq!(switch(&memory, &mut state, B_SELECTOR, Cause::Jump), Switched::Done { traps: true });
    assert_eq!(state.rflags.bits(), 0x46);
    assert_eq!(word(&memory, TASK_B), 0, "no back link");
    assert_eq!([type_of(&memory, A_SELECTOR), type_of(&memory, B_SELECTOR)], [0x89, 0x8b]);
}

#[test]
fn an_event_brings_its_error_code_along() {
    let (memory, mut state) = tasks();
    let by = Cause::Event { error_code: Some(0x1234), is_external: true };
    assert_eq!(switch(&memory, &mut state, B_SELECTOR, by), DONE);
    assert_eq!((state.gpr(Gpr::Rsp), word(&memory, 0x7ffc)), (0x7ffc, 0x1234));
    assert_eq!(state.rflags.bits() & NESTED, NESTED);
    // No room on the stack, whose limit has 64 KiB.
    let (memory, mut state) = tasks();
    memory.write_obj(descriptor(0, 0xffff, 0x92, 4), GuestAddress(GDT + u64::from(DATA_SELECTOR))).unwrap();
    put(&memory, TASK_B + 0x38, 0x1_0004);
    let fault = Switched::Faulted(exception(ExceptionVector::Stack, 0));
    assert_eq!(switch(&memory, &mut state, B_SELECTOR, by), fault);
    assert_eq!(state.tr.selector, B_SELECTOR);
}

#[test]
fn a_task_of_16_bits_has_less() {
    let (memory, mut state) = tasks();
    let words: [u16; 15] = [0x123, 0x46, 1, 2, 3, 4, 0x800, 6, 7, 8, 0x10, 0x08, 0x10, 0x10, 0];
    for (index, value) in (0u64..).zip(words) {
        memory.write_obj(value, GuestAddress(TASK_B + 0x0e + index * 2)).unwrap();
    }
    let by = Cause::Event { error_code: Some(0x5678), is_external: true };
    assert_eq!(switch(&memory, &mut state, SHORT_SELECTOR, by), DONE);
    assert_eq!((state.rip, state.gpr[..8].to_vec()), (0x123, vec![1, 2, 3, 4, 0x7fe, 6, 7, 8]));
    assert_eq!(word(&memory, 0x7fe) as u16, 0x5678);
    assert_eq!(state.segment(SegmentRegister::Fs).selector, 0);
    assert_eq!((state.tr.limit, state.tr.attributes.bits()), (0x2b, 0x83));
    assert_eq!(switch(&memory, &mut state, A_SELECTOR, Cause::Iret), DONE);
    assert_eq!(word(&memory, TASK_B + 0x0e), NEXT as u32 & 0xffff | 0x46 << 16, "instruction pointer, flags");
}

#[test]
fn what_is_no_task_is_refused_and_nothing_changes() {
    use ExceptionVector as V;
    let busy = |memory: &Memory| set_type(memory, B_SELECTOR, 0x8b);
    let absent = |memory: &Memory| set_type(memory, B_SELECTOR, 0x09);
    let short = |memory: &Memory| put(memory, GDT + u64::from(B_SELECTOR), 0x4000 << 16 | 0x66);
    let nothing = |_: &Memory| {};
    type Case<'a> = (u16, Cause, &'a dyn Fn(&Memory), V, u32);
    let cases: [Case<'_>; 11] = [
        (0, Cause::Call, &nothing, V::GeneralProtection, 0),
        (3, Cause::Iret, &nothing, V::InvalidTss, 0),
        (B_SELECTOR | 4, Cause::Jump, &nothing, V::GeneralProtection, 0x24),
        (0x58, Cause::Call, &nothing, V::GeneralProtection, 0x58),
        (0x58, INTERRUPT, &nothing, V::GeneralProtection, 0x59),
        (DATA_SELECTOR, Cause::Jump, &nothing, V::GeneralProtection, 0x10),
        (B_SELECTOR, Cause::Call, &busy, V::GeneralProtection, 0x20),
        (B_SELECTOR, Cause::Iret, &nothing, V::InvalidTss, 0x20),
        (B_SELECTOR, INTERRUPT, &absent, V::SegmentNotPresent, 0x21),
        (B_SELECTOR, Cause::Call, &short, V::InvalidTss, 0x20),
        (LDT_SELECTOR, Cause::Call, &nothing, V::GeneralProtection, 0x30),
    ];
    for (to, by, prepare, vector, code) in cases {
        let (memory, mut state) = tasks();
        prepare(&memory);
        let before = (state.clone(), contents(&memory));
        assert_eq!(switch(&memory, &mut state, to, by), Switched::Refused(exception(vector, code)), "{to:#x} {by:?}");
        assert_eq!((state, contents(&memory)), before, "{to:#x} {by:?}");
    }
}

fn contents(memory: &Memory) -> Vec<u8> {
    let mut bytes = vec![0; 0x7000];
    memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

#[test]
fn wrong_segments_are_the_new_tasks_exceptions() {
    use ExceptionVector as V;
    // Word of the state segment, value, exception.
    let cases = [
        (0x4c, 0, V::InvalidTss, 0),
        (0x4c, 0x58, V::InvalidTss, 0x58),
        (0x4c, DATA_SELECTOR, V::InvalidTss, 0x10),
        (0x4c, USER_CODE & !3, V::InvalidTss, 0x38),
        (0x50, 0, V::InvalidTss, 0),
        (0x50, READ_ONLY, V::InvalidTss, 0x50),
        (0x50, USER_DATA, V::InvalidTss, 0x40),
        (0x50, ABSENT_DATA, V::Stack, 0x48),
        (0x54, ABSENT_DATA, V::SegmentNotPresent, 0x48),
        (0x54, 4, V::InvalidTss, 4),
        (0x48, A_SELECTOR, V::InvalidTss, 0x18),
        (0x60, CODE_SELECTOR, V::InvalidTss, 0x08),
        (0x60, 0x0c, V::InvalidTss, 0x0c),
    ];
    for (at, selector, vector, code) in cases {
        let (memory, mut state) = tasks();
        put(&memory, TASK_B + at, selector.into());
        let fault = Switched::Faulted(exception(vector, code));
        assert_eq!(switch(&memory, &mut state, B_SELECTOR, Cause::Call), fault, "{at:#x} {selector:#x}");
        assert_eq!((state.tr.selector, state.rip), (B_SELECTOR, 0x2_0000));
        let code_segment = state.segment(SegmentRegister::Cs).attributes;
        assert!(code_segment.contains(SegmentAttributes::PRESENT | SegmentAttributes::CODE), "{at:#x}");
        assert_eq!(code_segment.dpl(), state.cpl(), "as entries to the guest demand");
    }
}

#[test]
fn user_tasks_and_local_tables() {
    let (memory, mut state) = tasks();
    memory.write_obj(descriptor(0x100, 0xf_ffff, 0xf2, 0xc), GuestAddress(0x6008)).unwrap();
    for (at, value) in
        [(0x60, LDT_SELECTOR), (0x4c, USER_CODE), (0x50, USER_DATA), (0x54, 0x0f), (0x48, USER_DATA), (0x5c, 0)]
    {
        put(&memory, TASK_B + at, value.into());
    }
    assert_eq!(switch(&memory, &mut state, B_SELECTOR, Cause::Call), DONE);
    assert_eq!((state.cpl(), state.ldtr.base, state.ldtr.limit), (3, 0x6000, 0xff));
    assert_eq!(state.segment(SegmentRegister::Ds).base, 0x100);
}

#[test]
fn virtual_8086_tasks_have_the_segments_of_that_mode() {
    let (memory, mut state) = tasks();
    put(&memory, TASK_B + 0x24, Rflags::VM.bits() as u32);
    put(&memory, TASK_B + 0x4c, 0x1234);
    assert_eq!(switch(&memory, &mut state, B_SELECTOR, Cause::Call), DONE);
    let code = state.segment(SegmentRegister::Cs);
    assert_eq!((code.selector, code.base, code.limit, code.attributes.bits()), (0x1234, 0x1_2340, 0xffff, 0xf3));
    assert_eq!(state.mode(), crate::state::CpuMode::Virtual8086);
}

/// A page directory of 4 MiB pages at 0x5000, all the same as memory; a second one with nothing at 0x9000.
fn paged() -> (Memory, VcpuState) {
    let (memory, mut state) = tasks();
    put(&memory, 0x5000, 0x83);
    put(&memory, TASK_B + 0x1c, 0x5000);
    (state.cr0, state.cr3, state.cr4) = (Cr0::PE | Cr0::PG | Cr0::WP, 0x5000, Cr4::PSE);
    (memory, state)
}

#[test]
fn a_task_brings_its_tables_along() {
    let (memory, mut state) = paged();
    put(&memory, TASK_B + 0x1c, 0x5008);
    assert_eq!(switch(&memory, &mut state, B_SELECTOR, Cause::Call), DONE);
    assert_eq!(state.cr3, 0x5008);
    // Of tables with nothing in them, the descriptors are what is missing first.
    let (memory, mut state) = paged();
    put(&memory, TASK_B + 0x1c, 0x9000);
    let fault =
        Exception { vector: ExceptionVector::Page, error_code: Some(0), cr2: Some(GDT + u64::from(CODE_SELECTOR)) };
    assert_eq!(switch(&memory, &mut state, B_SELECTOR, Cause::Call), Switched::Faulted(fault));
    assert_eq!(state.cr3, 0x9000);
}

#[test]
fn tasks_that_cannot_be_stored_are_not_left() {
    let (memory, mut state) = paged();
    // Read-only, and A is the only one in it.
    put(&memory, 0x5004, 0x81);
    state.tr.base = 0x40_0000;
    let before = (state.clone(), contents(&memory));
    let fault = Exception { vector: ExceptionVector::Page, error_code: Some(3), cr2: Some(0x40_0020) };
    assert_eq!(switch(&memory, &mut state, B_SELECTOR, Cause::Call), Switched::Refused(fault));
    assert_eq!(state, before.0);
    assert_eq!(contents(&memory)[..0x5000], before.1[..0x5000]);
}

#[test]
fn page_directory_pointers_are_checked_before() {
    let (memory, mut state) = tasks();
    (state.cr0, state.cr3, state.cr4) = (Cr0::PE | Cr0::PG, 0x6000, Cr4::PAE);
    state.physical_address_bits = 40;
    memory.write_obj(0x7001u64, GuestAddress(0x6000)).unwrap();
    memory.write_obj(0x83u64, GuestAddress(0x7000)).unwrap();
    memory.write_obj(0x7003u64, GuestAddress(0x6028)).unwrap();
    put(&memory, TASK_B + 0x1c, 0x6020);
    let refused = Switched::Refused(Exception::GENERAL_PROTECTION);
    assert_eq!(switch(&memory, &mut state, B_SELECTOR, Cause::Call), refused, "bit 1 of the second is reserved");
    put(&memory, TASK_B + 0x1c, 0x6000);
    assert_eq!(switch(&memory, &mut state, B_SELECTOR, Cause::Call), DONE);
    assert_eq!(crate::paging::page_directory_pointers(&memory, &state, state.cr3), Some([0x7001, 0, 0, 0]));
}

#[test]
fn tables_outside_ram_end_the_guest() {
    let (memory, mut state) = tasks();
    state.gdtr.base = 0xfee0_0000;
    let request = TaskSwitch { to: B_SELECTOR, by: Cause::Call, next: NEXT };
    let error = Emulator::new(&memory).switch_task(&mut state, request).unwrap_err();
    assert_eq!(error.reason, Unemulated::SystemSegment);
}

fn cause() -> impl Strategy<Value = Cause> {
    let event = |(error_code, is_external)| Cause::Event { error_code, is_external };
    prop_oneof![Just(Cause::Call), Just(Cause::Iret), Just(Cause::Jump), any::<(Option<u32>, bool)>().prop_map(event)]
}

proptest! {
    /// Whatever is in memory: the switch ends, and leaves code that an entry to the guest accepts.
    #[test]
    fn any_tables(bytes in proptest::collection::vec(any::<(u16, u8)>(), 0..64), to in 0u16..0x60, by in cause(), paging: bool) {
        let (memory, mut state) = if paging { paged() } else { tasks() };
        for (at, byte) in bytes {
            memory.write_obj(byte, GuestAddress(GDT + u64::from(at) % 0x3100)).unwrap();
        }
        let _ = Emulator::new(&memory).switch_task(&mut state, TaskSwitch { to, by, next: NEXT });
        prop_assert_eq!(state.rflags.bits() >> 22, 0);
        let code = state.segment(SegmentRegister::Cs).attributes;
        if !code.contains(SegmentAttributes::EXPAND_DOWN_OR_CONFORMING) && !state.rflags.contains(Rflags::VM) {
            prop_assert_eq!(code.dpl(), state.cpl());
        }
    }
}
