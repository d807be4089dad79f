//! Shifts, multiplications, conditions and branches.

use super::*;

/// A state with these registers; RBX addresses the device.
fn with(registers: &[(Gpr, u64)]) -> VcpuState {
    let mut state = long_mode();
    registers.iter().for_each(|(register, value)| state.set_gpr(*register, *value));
    state
}

const CARRY: Rflags = Rflags::CF;

#[test]
fn shifts_read_and_write() {
    /// Name, bytes, width, device's answer, value written, carry. The other flags: see the tests of the shifts themselves.
    type Case = (&'static str, &'static [u8], Width, u64, u64, bool);
    let cases: &[Case] = &[
        ("shl dword [rbx],4", &[0xc1, 0x23, 4], Width::Dword, 0x1800_0001, 0x8000_0010, true),
        ("shr byte [rbx],1", &[0xd0, 0x2b], Width::Byte, 0x81, 0x40, true),
        ("sar word [rbx],cl", &[0x66, 0xd3, 0x3b], Width::Word, 0x8004, 0xf000, true),
        ("rol qword [rbx],cl", &[0x48, 0xd3, 0x03], Width::Qword, 1 << 63 | 1, 0b1100, false),
        ("ror dword [rbx],1", &[0xd1, 0x0b], Width::Dword, 1, 1 << 31, true),
        ("rcl dword [rbx],1", &[0xd1, 0x13], Width::Dword, 2, 5, false),
        ("rcr dword [rbx],1", &[0xd1, 0x1b], Width::Dword, 3, 0x8000_0001, true),
        ("shld dword [rbx],eax,8", &[0x0f, 0xa4, 0x03, 8], Width::Dword, 0x01ff_0000, 0xff00_00aa, true),
        ("shrd dword [rbx],eax,cl", &[0x0f, 0xad, 0x03], Width::Dword, 8, 0xa000_0001, false),
        ("shl dword [rbx],32 (0)", &[0xc1, 0x23, 32], Width::Dword, 7, 7, true),
    ];
    for (what, code, width, old, new, carry) in cases {
        let mut state = with(&[(Gpr::Rax, 0xaabb_ccdd), (Gpr::Rcx, 3)]);
        state.rflags |= CARRY;
        let run = run(&state, code, *old);
        retired(&run, code.len() as u64);
        assert_eq!(run.device.seen, [Seen::Read(DEVICE, *width), Seen::Write(DEVICE, *width, *new)], "{what}");
        assert_eq!(run.state.rflags.contains(CARRY), *carry, "{what}");
    }
}

/// Of each pair of conditions the second is the opposite of the first (APM3, table 1-16).
fn holds(condition: u8, flags: Rflags) -> bool {
    let [o, c, z, s, p] = [Rflags::OF, Rflags::CF, Rflags::ZF, Rflags::SF, Rflags::PF].map(|flag| flags.contains(flag));
    let first = [o, c, z, c | z, s, p, s ^ o, s ^ o | z];
    first[usize::from(condition / 2)] != (condition % 2 == 1)
}

#[test]
fn conditions() {
    let flags = [Rflags::OF, Rflags::CF, Rflags::ZF, Rflags::SF, Rflags::PF];
    for (condition, set) in (0..16).flat_map(|condition| (0..32).map(move |set| (condition, set))) {
        let rflags = flags.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, flag)| *flag);
        let rflags = rflags.collect::<Rflags>() | Rflags::FIXED_1;
        let mut state = with(&[(Gpr::Rax, 0x1111_2222_3333_4444)]);
        state.rflags = rflags;
        let expected = holds(condition, rflags);

        let set = run(&state, &[0x0f, 0x90 | condition, 0x03], 0);
        retired(&set, 3);
        assert_eq!(set.device.seen, [Seen::Write(DEVICE, Width::Byte, expected.into())], "{condition:#x} {rflags:?}");

        let moved = run(&state, &[0x0f, 0x40 | condition, 0x03], 0x5555_6666); // cmovcc eax,[rbx]
        assert_eq!(moved.device.seen, [Seen::Read(DEVICE, Width::Dword)]);
        let value = if expected { 0x5555_6666 } else { 0x3333_4444 };
        assert_eq!(moved.state.gpr(Gpr::Rax), value, "{condition:#x} {rflags:?}");
        assert_eq!((set.state.rflags, moved.state.rflags), (rflags, rflags));
    }
}

#[test]
fn multiplications_and_divisions() {
    /// Name, bytes, device's answer, RAX and RDX before and after, carry.
    type Case = (&'static str, &'static [u8], u64, (u64, u64), (u64, u64), bool);
    let cases: &[Case] = &[
        ("mul dword [rbx]", &[0xf7, 0x23], 0x8000_0000, (6, 9), (0, 3), true),
        ("mul byte [rbx]", &[0xf6, 0x23], 0x40, (0x1103, 9), (0xc0, 9), false),
        ("imul dword [rbx]", &[0xf7, 0x2b], 0xffff_ffff, (6, 9), (0xffff_fffa, 0xffff_ffff), false),
        ("imul eax,[rbx]", &[0x0f, 0xaf, 0x03], 5, (6, 9), (30, 9), false),
        ("imul eax,[rbx],-7", &[0x6b, 0x03, 0xf9], 5, (6, 9), (0xffff_ffdd, 9), false),
        ("div dword [rbx]", &[0xf7, 0x33], 16, (0x25, 1), (0x1000_0002, 5), false),
        ("div word [rbx]", &[0x66, 0xf7, 0x33], 16, (0xffff_0025, 0), (0xffff_0002, 5), false),
        ("idiv byte [rbx]", &[0xf6, 0x3b], 3, (0xfff6, 9), (0xfffd, 9), false),
    ];
    for (what, code, answer, (rax, rdx), after, carry) in cases {
        let run = run(&with(&[(Gpr::Rax, *rax), (Gpr::Rdx, *rdx)]), code, *answer);
        retired(&run, code.len() as u64);
        assert_eq!((run.state.gpr(Gpr::Rax), run.state.gpr(Gpr::Rdx)), *after, "{what}");
        assert_eq!(run.state.rflags.contains(CARRY), *carry, "{what}");
        assert_eq!(run.device.seen.len(), 1, "{what}");
    }
    for divisor in [0, 1] {
        let state = with(&[(Gpr::Rax, 0), (Gpr::Rdx, 1)]);
        let run = run(&state, &[0xf7, 0x33], divisor);
        let fault = Exception { vector: ExceptionVector::Divide, error_code: None, cr2: None };
        assert_eq!(run.result.unwrap(), Outcome::Fault(fault));
        assert_eq!(run.state, state);
    }
}

#[test]
fn bytes_and_bits_of_a_register() {
    let start = with(&[(Gpr::Rax, 0x1111_1111_1111_0010)]);
    let cases: &[(&str, &[u8], u64, u64)] = &[
        ("movbe eax,[rbx]", &[0x0f, 0x38, 0xf0, 0x03], 0x1234_5678, 0x7856_3412),
        ("movbe ax,[rbx]", &[0x66, 0x0f, 0x38, 0xf0, 0x03], 0x1234, 0x1111_1111_1111_3412),
        ("bsf eax,[rbx]", &[0x0f, 0xbc, 0x03], 0x50, 4),
        ("bsr rax,[rbx]", &[0x48, 0x0f, 0xbd, 0x03], 1 << 40 | 1, 40),
        ("bsr ax,[rbx], nothing", &[0x66, 0x0f, 0xbd, 0x03], 0, 0x1111_1111_1111_0010),
        ("popcnt eax,[rbx]", &[0xf3, 0x0f, 0xb8, 0x03], 0xf0f0_0001, 9),
    ];
    for (what, code, answer, expected) in cases {
        let run = run(&start, code, *answer);
        retired(&run, code.len() as u64);
        assert_eq!(run.state.gpr(Gpr::Rax), *expected, "{what}");
        let is_search = what.starts_with("bs") || what.starts_with("pop");
        assert_eq!(run.state.rflags.contains(Rflags::ZF), is_search && *answer == 0, "{what}");
    }
    let store = run(&start, &[0x48, 0x0f, 0x38, 0xf1, 0x03], 0); // movbe [rbx],rax
    assert_eq!(store.device.seen, [Seen::Write(DEVICE, Width::Qword, 0x1000_1111_1111_1111)]);

    let table = with(&[(Gpr::Rbx, DEVICE - 0x10), (Gpr::Rax, 0xff10)]);
    let translated = run(&table, &[0xd7], 0x99); // xlat
    retired(&translated, 1);
    assert_eq!(translated.device.seen, [Seen::Read(DEVICE, Width::Byte)]);
    assert_eq!(translated.state.gpr(Gpr::Rax), 0xff99);
}

#[test]
fn selectors_are_stored_and_never_loaded() {
    let mut state = long_mode();
    state.segments[SegmentRegister::Fs as usize].selector = 0x2b;
    let store = run(&state, &[0x8c, 0x23], 0); // mov [rbx],fs
    retired(&store, 2);
    assert_eq!(store.device.seen, [Seen::Write(DEVICE, Width::Word, 0x2b)]);
    let load = run_on(memory(), state, &[0x8e, 0x23], 0, true); // mov fs,[rbx]
    assert_eq!(load.result.unwrap_err().reason, Unemulated::Instruction);
    assert!(load.device.seen.is_empty());
}

#[test]
fn branches_through_device_memory() {
    let state = with(&[(Gpr::Rsp, SCRATCH)]);
    let jump = run(&state, &[0xff, 0x23], 0x1234_5678_9abc);
    assert_eq!(jump.result.as_ref().unwrap(), &Outcome::Retired { single_step: false });
    assert_eq!((jump.state.rip, jump.state.gpr(Gpr::Rsp)), (0x1234_5678_9abc, SCRATCH));

    let call = run(&state, &[0xff, 0x13], 0x1234_5678_9abc);
    assert_eq!((call.state.rip, call.state.gpr(Gpr::Rsp)), (0x1234_5678_9abc, SCRATCH - 8));
    assert_eq!(call.memory.read_obj::<u64>(GuestAddress(SCRATCH - 8)).unwrap(), CODE + 2);

    // Nobody answers: no canonical address.
    for code in [[0xff, 0x23], [0xff, 0x13]] {
        let nowhere = run(&state, &code, u64::MAX >> 1);
        assert_eq!(nowhere.result.unwrap(), Outcome::Fault(Exception::GENERAL_PROTECTION));
        assert_eq!(nowhere.state, state);
    }

    let mut state = real_mode();
    (state.segments[SegmentRegister::Es as usize].base, state.rip) = (0xb_8000, 0x7000);
    state.set_gpr(Gpr::Rsp, 0xffff_6000);
    let low = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0xa_0000)]).unwrap();
    let call = run_on(low, state, &[0x26, 0xff, 0x17], 0x1234, false); // call es:[bx]
    assert_eq!(call.device.seen, [Seen::Read(0xb_8000, Width::Word)]);
    assert_eq!((call.state.rip, call.state.gpr(Gpr::Rsp)), (0x1234, 0xffff_5ffe));
    assert_eq!(call.memory.read_obj::<u16>(GuestAddress(0x5ffe)).unwrap(), 0x7003);
}

/// Where the stack is the device, every instruction that uses it exits.
#[test]
fn a_stack_in_device_memory() {
    let start = with(&[(Gpr::Rsp, DEVICE), (Gpr::Rax, A)]);
    let below = |width, value| vec![Seen::Write(DEVICE - width as u64, width, value)];
    let next = |length: u64| CODE + length;
    let selector = |state: &mut VcpuState| state.segments[SegmentRegister::Fs as usize].selector = 0x2b;
    let q = Width::Qword;
    let cases: &[(&str, &[u8], Vec<Seen>, u64)] = &[
        ("push rax", &[0x50], below(q, A), next(1)),
        ("push ax", &[0x66, 0x50], below(Width::Word, A & 0xffff), next(2)),
        ("push rsp", &[0x54], below(q, DEVICE), next(1)),
        ("push -2", &[0x6a, 0xfe], below(q, !1), next(2)),
        ("push fs", &[0x0f, 0xa0], below(q, 0x2b), next(2)),
        ("call +0x100", &[0xe8, 0, 1, 0, 0], below(q, next(5)), next(0x105)),
        ("call rbx", &[0xff, 0xd3], below(q, next(2)), SCRATCH),
    ];
    for (what, code, seen, rip) in cases {
        let mut state = start.clone();
        selector(&mut state);
        state.set_gpr(Gpr::Rbx, SCRATCH);
        let run = run_on(memory(), state, code, 0, true);
        assert_eq!(run.result.unwrap(), Outcome::Retired { single_step: false }, "{what}");
        assert_eq!(&run.device.seen, seen, "{what}");
        let Seen::Write(address, ..) = seen[0] else { panic!() };
        assert_eq!((run.state.rip, run.state.gpr(Gpr::Rsp)), (*rip, address), "{what}");
    }
    // What is popped: the register, the stack pointer, and where code goes on.
    let cases: &[(&str, &[u8], u64, u64, u64)] = &[
        ("pop rcx", &[0x59], 0x1234, DEVICE + 8, next(1)),
        ("pop rsp", &[0x5c], 0, 0x1234, next(1)),
        ("ret", &[0xc3], 0, DEVICE + 8, 0x1234),
        ("ret 0x20", &[0xc2, 0x20, 0], 0, DEVICE + 0x28, 0x1234),
    ];
    for (what, code, rcx, rsp, rip) in cases {
        let run = run_on(memory(), start.clone(), code, 0x1234, true);
        assert_eq!(run.result.unwrap(), Outcome::Retired { single_step: false }, "{what}");
        assert_eq!(run.device.seen, [Seen::Read(DEVICE, Width::Qword)], "{what}");
        assert_eq!((run.state.gpr(Gpr::Rcx), run.state.gpr(Gpr::Rsp), run.state.rip), (*rcx, *rsp, *rip), "{what}");
    }
    // Nobody there: no canonical address to return to.
    let nowhere = run_on(memory(), start.clone(), &[0xc3], u64::MAX >> 1, true);
    assert_eq!(nowhere.result.unwrap(), Outcome::Fault(Exception::GENERAL_PROTECTION));
    assert_eq!(nowhere.state, start);
}

#[test]
fn halves_of_vectors() {
    let mut state = long_mode();
    state.xmm.as_mut().unwrap()[1] = 0x1111 << 64 | 0x2222;
    for (code, expected) in [
        (&[0x0f, 0x12, 0x0b][..], 0x1111 << 64 | 0x77),   // movlps xmm1,[rbx]
        (&[0x66, 0x0f, 0x16, 0x0b], 0x77 << 64 | 0x2222), // movhpd xmm1,[rbx]
    ] {
        let load = run(&state, code, 0x77);
        retired(&load, code.len() as u64);
        assert_eq!(load.device.seen, [Seen::Read(DEVICE, Width::Qword)]);
        assert_eq!(load.state.xmm.unwrap()[1], expected);
    }
    let store = run(&state, &[0x0f, 0x17, 0x0b], 0); // movhps [rbx],xmm1
    assert_eq!(store.device.seen, [Seen::Write(DEVICE, Width::Qword, 0x1111)]);
}
