//! MOV and its kin between registers and memory, all encodings, against what the manual says they do.

use proptest::prelude::*;

use super::*;

/// An encoding: opcode bytes, whether it writes to memory, width in memory (`None`: the operand size), sign extension, and
/// whether its register is a byte.
struct Form {
    opcode: &'static [u8],
    stores: bool,
    memory: Option<u32>,
    signed: bool,
    byte_register: bool,
}

const fn form(opcode: &'static [u8], stores: bool, memory: Option<u32>, signed: bool) -> Form {
    Form { opcode, stores, memory, signed, byte_register: false }
}

/// APM3, MOV, MOVZX, MOVSX, MOVSXD.
const FORMS: [Form; 9] = [
    Form { byte_register: true, ..form(&[0x88], true, Some(8), false) },
    form(&[0x89], true, None, false),
    Form { byte_register: true, ..form(&[0x8a], false, Some(8), false) },
    form(&[0x8b], false, None, false),
    form(&[0x0f, 0xb6], false, Some(8), false),
    form(&[0x0f, 0xb7], false, Some(16), false),
    form(&[0x0f, 0xbe], false, Some(8), true),
    form(&[0x0f, 0xbf], false, Some(16), true),
    form(&[0x63], false, Some(32), true),
];

fn ones(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

proptest! {
    #[test]
    fn moves_do_what_the_manual_says(
        form in 0..FORMS.len(), number in 0u8..16, size in 0u8..4, rex: bool, answer: u64, gpr: [u64; 16],
    ) {
        let Form { opcode, stores, memory, signed, byte_register } = &FORMS[form];
        // 66, none, REX.W, both; REX is needed for R8 to R15, and takes AH to BH away. RBX has the address.
        let (narrow, wide) = (size & 1 == 1, size & 2 == 2);
        let rex = rex || wide || number >= 8;
        let (bits, register_bits) = match (wide, narrow) {
            _ if *byte_register => (8, 8),
            (true, _) => (64, 64),
            (false, true) => (16, 16),
            (false, false) => (32, 32),
        };
        // MOVSXD without REX.W moves as many bits as the operand has.
        let memory_bits = memory.unwrap_or(bits).min(if opcode == &[0x63] { bits } else { 64 });
        let high = *byte_register && !rex && (4..8).contains(&number);
        let (register, shift) = if high { (usize::from(number) - 4, 8) } else { (usize::from(number), 0) };
        prop_assume!(register != Gpr::Rbx as usize);

        let mut code = Vec::new();
        code.extend(narrow.then_some(0x66));
        code.extend(rex.then_some(0x40 | u8::from(wide) << 3 | (number >> 3) << 2));
        code.extend(*opcode);
        code.push((number & 7) << 3 | 3);
        let mut before = long_mode();
        before.gpr = gpr;
        before.gpr[Gpr::Rbx as usize] = DEVICE;
        let run = run(&before, &code, answer);

        let width = Width::from_bytes(memory_bits as usize / 8).unwrap();
        let mut expected = before.clone();
        expected.rip += code.len() as u64;
        if *stores {
            let value = gpr[register] >> shift & ones(memory_bits);
            prop_assert_eq!(run.device.seen, [Seen::Write(DEVICE, width, value)]);
        } else {
            let value = answer & ones(memory_bits);
            let negative = *signed && value >> (memory_bits - 1) == 1;
            let extended = if negative { value | !ones(memory_bits) } else { value } & ones(register_bits);
            let kept = if register_bits < 32 { gpr[register] & !(ones(register_bits) << shift) } else { 0 };
            expected.gpr[register] = kept | extended << shift;
            expected.written |= 1 << register;
            prop_assert_eq!(run.device.seen, [Seen::Read(DEVICE, width)]);
        }
        prop_assert_eq!(run.state, expected);
    }
}
