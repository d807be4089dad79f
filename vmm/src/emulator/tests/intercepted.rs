//! Decoding of intercepted privileged instructions.

use super::*;

#[test]
fn intercepted_instructions() {
    use InterceptedOperation as O;
    let rbx = Gpr::Rbx;
    let cases: &[(&[u8], u8, O)] = &[
        (&[0x0f, 0xa2], 2, O::Cpuid),
        (&[0xf3, 0x48, 0x0f, 0xa2], 4, O::Cpuid),
        (&[0x0f, 0x32], 2, O::Rdmsr),
        (&[0x0f, 0x30], 2, O::Wrmsr),
        (&[0x0f, 0x01, 0xf9], 3, O::Rdtscp),
        (&[0xf3, 0x90], 2, O::Pause),
        (&[0xf4], 1, O::Hlt),
        (&[0x0f, 0x01, 0xd9], 3, O::Vmmcall),
        (&[0x0f, 0x01, 0xd8], 3, O::Svm),
        (&[0x0f, 0x09], 2, O::Wbinvd),
        (&[0x0f, 0x06], 2, O::Clts),
        (&[0x0f, 0x01, 0xd1], 3, O::Xsetbv),
        (&[0x0f, 0x22, 0xc3], 3, O::WriteControl { control: ControlRegister::Cr0, register: rbx }),
        (&[0x0f, 0x20, 0xdb], 3, O::ReadControl { control: ControlRegister::Cr3, register: rbx }),
        (&[0x45, 0x0f, 0x22, 0xc1], 4, O::WriteControl { control: ControlRegister::Cr8, register: Gpr::R9 }),
        (&[0x0f, 0x23, 0xfb], 3, O::WriteDebug { number: 7, register: rbx }),
        (&[0x0f, 0x21, 0xf3], 3, O::ReadDebug { number: 6, register: rbx }),
        (&[0x0f, 0x01, 0xf3], 3, O::Lmsw { register: rbx }),
        (&[0x0f, 0x01, 0x3b], 3, O::Invlpg { linear: DEVICE }),
        (&[0xec], 1, O::PortIo),
        (&[0xf3, 0x6e], 2, O::StringIo),
    ];
    for (code, length, operation) in cases {
        let memory = memory();
        memory.write_slice(code, GuestAddress(CODE)).unwrap();
        let intercepted = Emulator::new(&memory).decode_intercepted(&long_mode()).unwrap();
        assert_eq!(intercepted, Some(Intercepted { operation: *operation, length: *length }));
    }
}

#[test]
fn an_instruction_that_is_no_longer_mapped_is_left_to_the_cpu() {
    let memory = memory();
    memory.write_obj(0u64, GuestAddress(0x2000)).unwrap();
    let intercepted = Emulator::new(&memory).decode_intercepted(&long_mode());
    assert_eq!(intercepted.unwrap(), None);
}
