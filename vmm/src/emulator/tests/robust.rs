//! Instructions that are not emulated, and arbitrary bytes.

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_not_emulated_is_reported_with_bytes_and_state() {
    let error = run_on(memory(), long_mode(), &[0xd9, 0x03], 0, true).result.unwrap_err();
    assert_eq!(error.reason, Unemulated::Instruction); // fld dword [rbx]
    assert_eq!(error.bytes.as_slice()[..2], [0xd9, 0x03]);
    assert_eq!(*error.state, long_mode());
    let text = error.to_string();
    assert!(text.contains("not emulated at 0x0:0x8000, bytes d9 03"), "{text}");
    assert!(!text.contains('\n'));
}

#[test]
fn nothing_is_executed_from_where_there_is_nothing() {
    // The first byte is RAM's last, the others are not there.
    for rip in [DEVICE, 0xf_ffff] {
        let (memory, mut device) = (memory(), Device::default());
        memory.write_obj(0x89_u8, GuestAddress(0xf_ffff)).unwrap();
        let mut state = VcpuState { rip, ..long_mode() };
        let outcome = Emulator::new(&memory).emulate(&mut state, &mut device, None, &[]).unwrap();
        assert_eq!(outcome, Outcome::Fault(Exception::INVALID_OPCODE));
        assert!(device.seen.is_empty());
    }
}

#[test]
fn page_tables_that_are_not_there_fault() {
    let mut state = long_mode();
    // The directory pointers are those of the code, but for one.
    let memory = memory();
    memory.write_obj(0xfee0_0003_u64, GuestAddress(0x2000 + 3 * 8)).unwrap();
    let run = run_on(memory, state.clone(), &[0x89, 0x03], 0, false);
    let fault = Exception { vector: ExceptionVector::Page, error_code: Some(0b1011), cr2: Some(DEVICE) };
    assert_eq!(run.result.unwrap(), Outcome::Fault(fault));
    state.cr3 = DEVICE & !0xfff;
    let run = run_on(self::memory(), state, &[0x89, 0x03], 0, false);
    let fault = Exception { vector: ExceptionVector::Page, error_code: Some(0b1_1001), cr2: Some(CODE) };
    assert_eq!(run.result.unwrap(), Outcome::Fault(fault));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    #[test]
    fn any_bytes_in_any_mode_are_handled(
        bytes in prop::array::uniform15(any::<u8>()),
        gpr in prop::array::uniform16(prop_oneof![any::<u64>(), 0..0x1_0000u64, Just(DEVICE)]),
        rip in prop_oneof![Just(CODE), 0x7ff0..0x8010u64, any::<u64>()],
        mode in 0u8..4, rflags: u64, attributes: u16, fault: bool, prefix in 0u8..4,
    ) {
        let mut state = if mode == 0 { real_mode() } else { long_mode() };
        state.gpr = gpr;
        state.rip = rip;
        state.rflags = Rflags::from_bits_retain(rflags);
        if mode >= 2 {
            for segment in &mut state.segments {
                segment.attributes = SegmentAttributes::from_bits_retain(attributes);
                segment.limit = u32::MAX;
            }
            if mode == 3 { state.cr0 = Cr0::PE; }
        }
        let mut bytes = bytes;
        if prefix == 1 { bytes[0] = 0x0f; }
        let memory = memory();
        let _ = memory.write(&bytes, GuestAddress(rip));
        let mut device = Device { answer: rflags, ..Device::default() };
        let mut emulator = Emulator::new(&memory);
        let _ = emulator.decode_intercepted(&state);
        let before = state.clone();
        let fault = fault.then_some(DEVICE_FAULT);
        match emulator.emulate(&mut state, &mut device, fault, &[]) {
            Ok(Outcome::Retired { .. } | Outcome::Again) => {}
            Ok(Outcome::Fault(_)) => prop_assert_eq!(state.rip, before.rip),
            Err(error) => {
                prop_assert!(!error.to_string().is_empty());
                prop_assert!(device.seen.is_empty());
                prop_assert_eq!(state, before);
            }
        }
    }
}
