//! Moves, arithmetic, exchanges, stack and vector operands.

use super::*;

#[test]
fn loads() {
    let old = 0x1111_1111_1111_1111;
    let cases: &[(&str, &[u8], Width, u64)] = &[
        ("mov al,[rbx]", &[0x8a, 0x03], Width::Byte, 0x1111_1111_1111_11f1),
        ("mov ah,[rbx]", &[0x8a, 0x23], Width::Byte, 0x1111_1111_1111_f111),
        ("mov ax,[rbx]", &[0x66, 0x8b, 0x03], Width::Word, 0x1111_1111_1111_22f1),
        ("mov eax,[rbx]", &[0x8b, 0x03], Width::Dword, 0x4433_22f1),
        ("mov rax,[rbx]", &[0x48, 0x8b, 0x03], Width::Qword, A),
        ("movabs eax", &[0xa1, 0x40, 0, 0xc0, 0xfe, 0, 0, 0, 0], Width::Dword, 0x4433_22f1),
        ("movzx eax,byte", &[0x0f, 0xb6, 0x03], Width::Byte, 0xf1),
        ("movzx rax,word", &[0x48, 0x0f, 0xb7, 0x03], Width::Word, 0x22f1),
        ("movsx eax,byte", &[0x0f, 0xbe, 0x03], Width::Byte, 0xffff_fff1),
        ("movsx ax,byte", &[0x66, 0x0f, 0xbe, 0x03], Width::Byte, 0x1111_1111_1111_fff1),
        ("movsx rax,byte", &[0x48, 0x0f, 0xbe, 0x03], Width::Byte, 0xffff_ffff_ffff_fff1),
        ("movsxd rax,dword", &[0x48, 0x63, 0x03], Width::Dword, 0x4433_22f1),
        ("mov eax,[rbx+rcx*4-8]", &[0x8b, 0x44, 0x8b, 0xf8], Width::Dword, 0x4433_22f1),
        ("addr32 mov eax,[ebx]", &[0x67, 0x8b, 0x03], Width::Dword, 0x4433_22f1),
    ];
    for (what, code, width, expected) in cases {
        let mut state = long_mode();
        state.set_gpr(Gpr::Rax, old);
        state.set_gpr(Gpr::Rcx, 2);
        let run = run(&state, code, A);
        retired(&run, code.len() as u64);
        assert_eq!(run.device.seen, [Seen::Read(DEVICE, *width)], "{what}");
        assert_eq!(run.state.gpr(Gpr::Rax), *expected, "{what}");
        assert_eq!(run.state.rflags, state.rflags, "{what}");
    }
}

#[test]
fn stores() {
    let cases: &[(&str, &[u8], Width, u64)] = &[
        ("mov [rbx],al", &[0x88, 0x03], Width::Byte, 0xf1),
        ("mov [rbx],ah", &[0x88, 0x23], Width::Byte, 0x22),
        ("mov [rbx],ax", &[0x66, 0x89, 0x03], Width::Word, 0x22f1),
        ("mov [rbx],eax", &[0x89, 0x03], Width::Dword, 0x4433_22f1),
        ("mov [rbx],rax", &[0x48, 0x89, 0x03], Width::Qword, A),
        ("movnti [rbx],eax", &[0x0f, 0xc3, 0x03], Width::Dword, 0x4433_22f1),
        ("mov byte [rbx],0x80", &[0xc6, 0x03, 0x80], Width::Byte, 0x80),
        ("mov word [rbx],imm", &[0x66, 0xc7, 0x03, 0x34, 0x12], Width::Word, 0x1234),
        ("mov dword [rbx],-1", &[0xc7, 0x03, 255, 255, 255, 255], Width::Dword, 0xffff_ffff),
        ("mov qword [rbx],-2", &[0x48, 0xc7, 0x03, 254, 255, 255, 255], Width::Qword, !1),
    ];
    for (what, code, width, expected) in cases {
        let mut state = long_mode();
        state.set_gpr(Gpr::Rax, A);
        let run = run(&state, code, 0);
        retired(&run, code.len() as u64);
        assert_eq!(run.device.seen, [Seen::Write(DEVICE, *width, *expected)], "{what}");
        assert_eq!(run.state.gpr, state.gpr, "{what}");
    }
}

#[test]
fn rip_relative_operands_count_from_the_next_instruction() {
    let mut state = long_mode();
    state.set_gpr(Gpr::Rax, A);
    let displacement = (SCRATCH - (CODE + 6)) as u32;
    let mut code = vec![0x89, 0x05];
    code.extend(displacement.to_le_bytes());
    let run = run_on(memory(), state, &code, 0, false);
    retired(&run, 6);
    assert_eq!(run.memory.read_obj::<u64>(GuestAddress(SCRATCH)).unwrap(), 0x4433_22f1);
    assert!(run.device.seen.is_empty(), "RAM is not the bus");
}

#[test]
fn read_modify_write() {
    let (cf, zf, sf) = (Rflags::CF, Rflags::ZF, Rflags::SF);
    /// Name, bytes, device's answer, value written, flags.
    type Case = (&'static str, &'static [u8], u64, Option<u64>, Rflags);
    let cases: &[Case] = &[
        ("or dword [rbx],imm8", &[0x83, 0x0b, 0x0e], 0xf1, Some(0xff), Rflags::PF),
        ("and dword [rbx],0", &[0x83, 0x23, 0], 0xf1, Some(0), zf | Rflags::PF),
        ("xor dword [rbx],imm8", &[0x83, 0x33, 0x01], 0xf1, Some(0xf0), Rflags::PF),
        ("add dword [rbx],-1", &[0x83, 0x03, 0xff], 1, Some(0), cf | zf | Rflags::PF | Rflags::AF),
        ("adc dword [rbx],0 (CF=1)", &[0x83, 0x13, 0], 3, Some(4), Rflags::empty()),
        ("sub dword [rbx],1", &[0x83, 0x2b, 1], 3, Some(2), Rflags::empty()),
        ("sbb dword [rbx],0 (CF=1)", &[0x83, 0x1b, 0], 3, Some(2), Rflags::empty()),
        ("cmp dword [rbx],4", &[0x83, 0x3b, 4], 3, None, cf | sf | Rflags::PF | Rflags::AF),
        ("test dword [rbx],1", &[0xf7, 0x03, 1, 0, 0, 0], 2, None, zf | Rflags::PF),
        ("inc dword [rbx] keeps CF", &[0xff, 0x03], 1, Some(2), cf),
        ("dec dword [rbx] keeps CF", &[0xff, 0x0b], 3, Some(2), cf),
        ("neg dword [rbx]", &[0xf7, 0x1b], 0, Some(0), zf | Rflags::PF),
        ("not dword [rbx] keeps all", &[0xf7, 0x13], 1, Some(0xffff_fffe), cf),
        ("lock or dword [rbx],eax", &[0xf0, 0x09, 0x03], 1, Some(5), Rflags::PF),
        ("bts dword [rbx],33 mod 32", &[0x0f, 0xba, 0x2b, 33], 0, Some(2), Rflags::empty()),
        ("btr dword [rbx],1", &[0x0f, 0xba, 0x33, 1], 3, Some(1), cf),
        ("btc dword [rbx],1", &[0x0f, 0xba, 0x3b, 1], 3, Some(1), cf),
        ("bt dword [rbx],1", &[0x0f, 0xba, 0x23, 1], 1, None, Rflags::empty()),
    ];
    for (what, code, old, new, flags) in cases {
        let mut state = long_mode();
        state.rflags |= cf;
        state.set_gpr(Gpr::Rax, 4);
        let run = run(&state, code, *old);
        retired(&run, code.len() as u64);
        let mut seen = vec![Seen::Read(DEVICE, Width::Dword)];
        seen.extend(new.map(|value| Seen::Write(DEVICE, Width::Dword, value)));
        assert_eq!(run.device.seen, seen, "{what}");
        assert_eq!(run.state.rflags, *flags | Rflags::FIXED_1, "{what}");
        assert_eq!(run.state.gpr, state.gpr, "{what}");
    }
}

#[test]
fn arithmetic_into_a_register_only_reads_the_device() {
    let mut state = long_mode();
    state.set_gpr(Gpr::Rax, 5);
    let run = run(&state, &[0x03, 0x03], 7); // add eax,[rbx]
    retired(&run, 2);
    assert_eq!(run.device.seen, [Seen::Read(DEVICE, Width::Dword)]);
    assert_eq!(run.state.gpr(Gpr::Rax), 12);
}

#[test]
fn exchanges() {
    let start = |rax: u64, rcx: u64| {
        let mut state = long_mode();
        state.set_gpr(Gpr::Rax, rax);
        state.set_gpr(Gpr::Rcx, rcx);
        state
    };
    let both = |value| [Seen::Read(DEVICE, Width::Dword), Seen::Write(DEVICE, Width::Dword, value)];

    let xchg = run(&start(0, 3), &[0x87, 0x0b], 9);
    assert_eq!((xchg.state.gpr(Gpr::Rcx), &xchg.device.seen[..]), (9, &both(3)[..]));

    let xadd = run(&start(0, 3), &[0x0f, 0xc1, 0x0b], 9);
    assert_eq!((xadd.state.gpr(Gpr::Rcx), &xadd.device.seen[..]), (9, &both(12)[..]));

    let equal = run(&start(9, 3), &[0xf0, 0x0f, 0xb1, 0x0b], 9);
    assert_eq!((equal.state.gpr(Gpr::Rax), &equal.device.seen[..]), (9, &both(3)[..]));
    assert!(equal.state.rflags.contains(Rflags::ZF));

    let differs = run(&start(8, 3), &[0xf0, 0x0f, 0xb1, 0x0b], 9);
    assert_eq!((differs.state.gpr(Gpr::Rax), &differs.device.seen[..]), (9, &both(9)[..]));
    assert!(!differs.state.rflags.contains(Rflags::ZF));

    let mut state = start(0x2222_2222, 0xaaaa_aaaa);
    state.set_gpr(Gpr::Rdx, 0x1111_1111);
    // RBX addresses the device and is the low half of the new value: cmpxchg8b [rbx].
    let wide = run_on(memory(), state, &[0x0f, 0xc7, 0x0b], 0x1111_1111_2222_2222, true);
    let new = 0xaaaa_aaaa_0000_0000 | DEVICE;
    assert_eq!(wide.device.seen.last(), Some(&Seen::Write(DEVICE, Width::Qword, new)));
    assert!(wide.state.rflags.contains(Rflags::ZF));
}

#[test]
fn bit_index_in_a_register_reaches_other_words() {
    let mut state = long_mode();
    state.set_gpr(Gpr::Rbx, DEVICE + 8);
    state.set_gpr(Gpr::Rax, -33i64 as u64);
    let run = run(&state, &[0x0f, 0xab, 0x03], 0); // bts [rbx],eax
    retired(&run, 3);
    let seen = [Seen::Read(DEVICE, Width::Dword), Seen::Write(DEVICE, Width::Dword, 1 << 31)];
    assert_eq!(run.device.seen, seen);
}

#[test]
fn push_and_pop_of_device_memory() {
    let mut state = long_mode();
    state.set_gpr(Gpr::Rsp, SCRATCH);
    let push = run(&state, &[0xff, 0x33], A);
    retired(&push, 2);
    assert_eq!(push.state.gpr(Gpr::Rsp), SCRATCH - 8);
    assert_eq!(push.memory.read_obj::<u64>(GuestAddress(SCRATCH - 8)).unwrap(), A);
    assert_eq!(push.device.seen, [Seen::Read(DEVICE, Width::Qword)]);

    let memory = memory();
    memory.write_obj(A, GuestAddress(SCRATCH)).unwrap();
    let pop = run_on(memory, state, &[0x8f, 0x03], 0, true);
    retired(&pop, 2);
    assert_eq!(pop.state.gpr(Gpr::Rsp), SCRATCH + 8);
    assert_eq!(pop.device.seen, [Seen::Write(DEVICE, Width::Qword, A)]);
}

/// The exit is that of the stack; the source lies in RAM, at the same offset in its page.
#[test]
fn an_exit_for_the_stack_says_nothing_of_the_other_operand() {
    let mut state = long_mode();
    state.set_gpr(Gpr::Rsp, DEVICE + 8);
    state.set_gpr(Gpr::Rbx, SCRATCH + DEVICE % 0x1000);
    let memory = memory();
    memory.write_obj(A, GuestAddress(SCRATCH + DEVICE % 0x1000)).unwrap();
    let push = run_on(memory, state, &[0xff, 0x33], 0, true);
    retired(&push, 2);
    assert_eq!(push.device.seen, [Seen::Write(DEVICE, Width::Qword, A)]);
}

#[test]
fn vector_moves() {
    let load = run(&long_mode(), &[0xf3, 0x0f, 0x6f, 0x0b], 0x77); // movdqu xmm1,[rbx]
    retired(&load, 4);
    let halves = [Seen::Read(DEVICE, Width::Qword), Seen::Read(DEVICE + 8, Width::Qword)];
    assert_eq!(load.device.seen, halves);
    assert_eq!(load.state.xmm.unwrap()[1], 0x77 << 64 | 0x77);

    let mut state = long_mode();
    state.xmm.as_mut().unwrap()[2] = 0x1234 << 64 | 0x5678;
    let store = run(&state, &[0x0f, 0x29, 0x13], 0); // movaps [rbx],xmm2
    let halves = [Seen::Write(DEVICE, Width::Qword, 0x5678), Seen::Write(DEVICE + 8, Width::Qword, 0x1234)];
    assert_eq!(store.device.seen, halves);

    state.set_gpr(Gpr::Rbx, DEVICE + 8);
    let unaligned = run_on(memory(), state.clone(), &[0x0f, 0x29, 0x13], 0, false);
    assert_eq!(unaligned.result.unwrap(), Outcome::Fault(Exception::GENERAL_PROTECTION));

    state.xmm = None;
    let error = run_on(memory(), state, &[0x0f, 0x29, 0x13], 0, false).result.unwrap_err();
    assert_eq!(error.reason, Unemulated::NoVectorState);
}
