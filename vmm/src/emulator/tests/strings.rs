//! String instructions.

use super::*;

#[test]
fn strings() {
    let mut state = long_mode();
    state.set_gpr(Gpr::Rdi, DEVICE);
    state.set_gpr(Gpr::Rsi, SCRATCH);
    state.set_gpr(Gpr::Rax, 0x41);
    state.set_gpr(Gpr::Rcx, 2);

    let stos = run(&state, &[0xf3, 0xaa], 0);
    retired(&stos, 2);
    let seen = [Seen::Write(DEVICE, Width::Byte, 0x41), Seen::Write(DEVICE + 1, Width::Byte, 0x41)];
    assert_eq!(stos.device.seen, seen);
    assert_eq!((stos.state.gpr(Gpr::Rcx), stos.state.gpr(Gpr::Rdi)), (0, DEVICE + 2));

    let memory = memory();
    memory.write_obj(0x0807_0605_0403_0201u64, GuestAddress(SCRATCH)).unwrap();
    let movs = run_on(memory, state.clone(), &[0xf3, 0xa5], 0, true);
    let seen = [Seen::Write(DEVICE, Width::Dword, 0x0403_0201), Seen::Write(DEVICE + 4, Width::Dword, 0x0807_0605)];
    assert_eq!(movs.device.seen, seen);
    assert_eq!(movs.state.gpr(Gpr::Rsi), SCRATCH + 8);

    let scas = run(&state, &[0xf2, 0xae], 0x41);
    assert_eq!(scas.device.seen.len(), 1, "REPNE ends on the first match");
    assert_eq!((scas.state.gpr(Gpr::Rcx), scas.state.rflags.contains(Rflags::ZF)), (1, true));

    state.rflags |= Rflags::DF;
    state.set_gpr(Gpr::Rsi, DEVICE);
    let lods = run(&state, &[0xad], 0x99);
    assert_eq!((lods.state.gpr(Gpr::Rax), lods.state.gpr(Gpr::Rsi)), (0x99, DEVICE - 4));
    assert_eq!(lods.state.gpr(Gpr::Rcx), 2, "no prefix, no count");
}

#[test]
fn a_long_repetition_is_resumed() {
    let mut state = long_mode();
    let total = u64::from(STRING_ITERATIONS_PER_EXIT) + 5;
    state.set_gpr(Gpr::Rdi, DEVICE);
    state.set_gpr(Gpr::Rcx, total);
    let memory = memory();
    memory.write_slice(&[0xf3, 0xaa], GuestAddress(CODE)).unwrap();
    let (mut device, mut emulator) = (Device::default(), Emulator::new(&memory));
    let mut step = || {
        let outcome = emulator.emulate(&mut state, &mut device, None, &[]).unwrap();
        (outcome, state.rip, state.gpr(Gpr::Rcx))
    };
    assert_eq!(step(), (Outcome::Again, CODE, 5));
    assert_eq!(step(), (Outcome::Retired { single_step: false }, CODE + 2, 0));
    assert_eq!(device.seen.len() as u64, total);
}

#[test]
fn a_fault_in_a_repetition_keeps_the_finished_iterations() {
    let mut state = long_mode();
    // Linear addresses from 4 GiB on are not mapped.
    state.set_gpr(Gpr::Rdi, (1 << 32) - 2);
    state.set_gpr(Gpr::Rcx, 4);
    let run = run_on(memory(), state, &[0xf3, 0xaa], 0, false);
    let fault = Exception { vector: ExceptionVector::Page, error_code: Some(2), cr2: Some(1 << 32) };
    assert_eq!(run.result.unwrap(), Outcome::Fault(fault));
    assert_eq!((run.state.rip, run.state.gpr(Gpr::Rcx)), (CODE, 2));
    assert_eq!(run.device.seen.len(), 2);
}

#[test]
fn string_io() {
    let mut state = long_mode();
    state.set_gpr(Gpr::Rdx, 0x1f0);
    state.set_gpr(Gpr::Rdi, SCRATCH);
    state.set_gpr(Gpr::Rsi, SCRATCH);
    state.set_gpr(Gpr::Rcx, 2);
    let input = run_on(memory(), state.clone(), &[0xf3, 0x66, 0x6d], 0xbeef, false);
    assert_eq!(input.device.seen, [Seen::PortRead(0x1f0, Width::Word); 2]);
    assert_eq!(input.memory.read_obj::<u32>(GuestAddress(SCRATCH)).unwrap(), 0xbeef_beef);
    let output = run_on(input.memory, state, &[0xf3, 0x6e], 0, false);
    let seen = [Seen::PortWrite(0x1f0, Width::Byte, 0xef), Seen::PortWrite(0x1f0, Width::Byte, 0xbe)];
    assert_eq!(output.device.seen, seen);
}

#[test]
fn single_step_is_reported() {
    let mut state = long_mode();
    state.rflags |= Rflags::TF;
    state.set_gpr(Gpr::Rdi, DEVICE);
    state.set_gpr(Gpr::Rcx, 3);
    let run = run_on(memory(), state, &[0xf3, 0xaa], 0, true);
    assert_eq!(run.result.unwrap(), Outcome::Retired { single_step: true });
    assert_eq!((run.state.rip, run.state.gpr(Gpr::Rcx)), (CODE, 2), "one iteration per trap");
}
