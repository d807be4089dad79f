//! Addressing, segmentation, paging and the decode cache.

use super::*;

#[test]
fn real_mode_segments() {
    let mut state = real_mode();
    state.set_gpr(Gpr::Rdi, 0xffff_0002);
    state.set_gpr(Gpr::Rax, 0x0741);
    // RAM ends below the device here, so that the text buffer is on the bus.
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0xa_0000)]).unwrap();
    let stos = run_on(memory, state.clone(), &[0xab], 0, false);
    assert_eq!(stos.device.seen, [Seen::Write(0xb_8002, Width::Word, 0x0741)]);
    assert_eq!(stos.state.gpr(Gpr::Rdi), 0xffff_0004, "16-bit addresses keep the upper part");

    state.set_gpr(Gpr::Rbx, 0xffff);
    let over = run_on(self::memory(), state, &[0x26, 0x89, 0x07], 0, false); // mov es:[bx],ax
    assert_eq!(over.result.unwrap(), Outcome::Fault(Exception { error_code: None, ..Exception::GENERAL_PROTECTION }));
}

#[test]
fn segment_checks_in_protected_mode() {
    let data = SegmentAttributes::PRESENT | SegmentAttributes::NOT_SYSTEM;
    let writable = data | SegmentAttributes::WRITABLE_OR_READABLE;
    let down = writable | SegmentAttributes::EXPAND_DOWN_OR_CONFORMING;
    let code = data | SegmentAttributes::CODE;
    let cases = [
        ("inside", writable, 0xfff, 0xffc, true),
        ("across the limit", writable, 0xfff, 0xffd, false),
        ("read-only", data, 0xfff, 0, false),
        ("code", code, 0xfff, 0, false),
        ("null", SegmentAttributes::empty(), 0xfff, 0, false),
        ("below expand-down limit", down, 0xfff, 0xfff, false),
        ("in expand-down", down, 0xfff, 0x1000, true),
        ("above 16-bit expand-down", down, 0xfff, 0xfffe, false),
    ];
    for (what, attributes, limit, offset, allowed) in cases {
        let mut state = real_mode();
        state.cr0 = Cr0::PE;
        state.segments[SegmentRegister::Cs as usize].attributes = code | SegmentAttributes::DEFAULT_32;
        let base = DEVICE - offset;
        state.segments[SegmentRegister::Ds as usize] = Segment { selector: 8, attributes, limit, base };
        state.set_gpr(Gpr::Rbx, offset);
        let run = run_on(memory(), state, &[0x89, 0x03], 0, true);
        assert_eq!(run.device.seen.len() == 1, allowed, "{what}");
        let fault = Outcome::Fault(Exception::GENERAL_PROTECTION);
        assert_eq!(run.result.unwrap() == fault, !allowed, "{what}");
    }
}

#[test]
fn non_canonical_addresses_fault() {
    let mut state = long_mode();
    state.set_gpr(Gpr::Rbx, 1 << 47);
    let data = run_on(memory(), state.clone(), &[0x89, 0x03], 0, true);
    assert_eq!(data.result.unwrap(), Outcome::Fault(Exception::GENERAL_PROTECTION));
    state.set_gpr(Gpr::Rbp, 1 << 47);
    let stack = run_on(memory(), state, &[0x89, 0x45, 0], 0, true); // mov [rbp],eax
    let Outcome::Fault(exception) = stack.result.unwrap() else { panic!() };
    assert_eq!(exception.vector, ExceptionVector::Stack);
}

#[test]
fn a_write_is_never_performed_on_a_read_fault() {
    // The pages are read-only; the exit reported a read at the very address.
    let memory = memory();
    memory.write_obj(0xc000_0081u64, GuestAddress(0x2018)).unwrap();
    memory.write_slice(&[0x89, 0x03], GuestAddress(CODE)).unwrap();
    let mut device = Device::default();
    let fault = NestedFault { write: false, ..DEVICE_FAULT };
    let outcome = Emulator::new(&memory).emulate(&mut long_mode(), &mut device, Some(fault), &[]).unwrap();
    assert!(matches!(outcome, Outcome::Fault(_)));
    assert!(device.seen.is_empty());
}

#[test]
fn instruction_and_operand_may_cross_pages() {
    let mut state = long_mode();
    state.rip = 0x8fff;
    state.set_gpr(Gpr::Rbx, 0xfec0_0ffe);
    let memory = memory();
    let mut emulator = Emulator::new(&memory);
    memory.write_slice(&[0x89, 0x03], GuestAddress(state.rip)).unwrap();
    state.set_gpr(Gpr::Rax, 0x4433_2211);
    for _ in 0..2 {
        // The second round is a hit in the decode cache.
        let (mut state, mut device) = (state.clone(), Device::default());
        emulator.emulate(&mut state, &mut device, None, &[]).unwrap();
        assert_eq!(state.rip, 0x9001);
        let seen = [Seen::Write(0xfec0_0ffe, Width::Word, 0x2211), Seen::Write(0xfec0_1000, Width::Word, 0x4433)];
        assert_eq!(device.seen, seen);
    }
}

#[test]
fn changed_code_is_decoded_again() {
    let memory = memory();
    let mut emulator = Emulator::new(&memory);
    for (code, expected) in [
        ([0x8b, 0x03], Seen::Read(DEVICE, Width::Dword)),
        ([0x88, 0x03], Seen::Write(DEVICE, Width::Byte, 0)),
        ([0x8b, 0x03], Seen::Read(DEVICE, Width::Dword)),
    ] {
        memory.write_slice(&code, GuestAddress(CODE)).unwrap();
        let mut device = Device::default();
        emulator.emulate(&mut long_mode(), &mut device, Some(DEVICE_FAULT), &[]).unwrap();
        assert_eq!(device.seen, [expected]);
    }
}
