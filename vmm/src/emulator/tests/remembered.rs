//! An emulator that has seen the instruction before does what one does that has not.

use proptest::prelude::*;

use super::*;
use crate::paging::PAGE_SIZE;

/// What a guest does between two executions of an instruction.
#[derive(Clone, Copy, Debug)]
enum Change {
    Nothing,
    /// Flips a bit of the code.
    Code(u64, u8),
    /// Flips a bit of a table entry on the way to the code.
    Entry(usize, u32),
    /// Flips bits of the registers that say how to walk the tables and where the code is.
    Control(u8, u32),
    /// Runs somewhere else that has the same code.
    Rip(u64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Nothing),
        (0..4u64, 0..8u8).prop_map(|(byte, bit)| Change::Code(byte, bit)),
        (0..ENTRIES.len(), 0..64u32).prop_map(|(entry, bit)| Change::Entry(entry, bit)),
        (0..8u8, 0..64u32).prop_map(|(register, bit)| Change::Control(register, bit)),
        prop_oneof![Just(0), Just(PAGE_SIZE), Just(64)].prop_map(Change::Rip),
    ]
}

/// Entries of the tables below: of the top, of the page directory, and of the pages around the code.
const ENTRIES: [u64; 5] = [0x1000, 0x2000, 0x3000, 0x4000 + 8 * 8, 0x4000 + 9 * 8];

/// Small pages below 2 MiB, large ones for the device.
fn tables() -> Memory {
    let memory = memory();
    memory.write_obj(0x3003u64, GuestAddress(0x2000)).unwrap();
    memory.write_obj(0x4003u64, GuestAddress(0x3000)).unwrap();
    for page in 0..0x100u64 {
        memory.write_obj((page * PAGE_SIZE) | 3, GuestAddress(0x4000 + page * 8)).unwrap();
    }
    memory
}

fn apply(change: Change, memory: &Memory, state: &mut VcpuState) {
    let flip = |address: u64, bit: u32| {
        let address = GuestAddress(address);
        let old: u64 = memory.read_obj(address).unwrap();
        memory.write_obj(old ^ 1 << bit, address).unwrap();
    };
    match change {
        Change::Nothing => {}
        Change::Code(byte, bit) => flip((state.rip + byte) & !7, (state.rip + byte) as u32 % 8 * 8 + u32::from(bit)),
        Change::Entry(entry, bit) => flip(ENTRIES[entry], bit),
        Change::Control(register, bit) => match register {
            0 => state.cr0 ^= Cr0::from_bits_retain(1 << bit),
            1 => state.cr3 ^= 1 << bit,
            2 => state.cr4 ^= Cr4::from_bits_retain(1 << bit),
            3 => state.efer ^= Efer::from_bits_retain(1 << bit),
            4 => state.rflags ^= Rflags::from_bits_retain(1 << bit),
            5 => state.segments[SegmentRegister::Cs as usize].base ^= 1 << (bit % 32),
            6 => {
                state.segments[SegmentRegister::Cs as usize].attributes ^=
                    SegmentAttributes::from_bits_retain(1 << (bit % 16))
            }
            _ => {
                state.segments[SegmentRegister::Ss as usize].attributes ^=
                    SegmentAttributes::from_bits_retain(1 << (bit % 16))
            }
        },
        Change::Rip(distance) => state.rip = CODE | (state.rip % 64) | distance,
    }
}

/// Instructions of several lengths and kinds: loads, stores, with the instruction pointer, with an immediate, read and write.
const INSTRUCTIONS: [&[u8]; 8] = [
    &[0x8b, 0x03],
    &[0x89, 0x43, 0x04],
    &[0x0f, 0xb6, 0x03],
    &[0x48, 0x63, 0x03],
    &[0x48, 0x8b, 0x05, 0x10, 0, 0, 0],
    &[0x66, 0xc7, 0x44, 0x33, 0x08, 0x34, 0x12],
    &[0xf0, 0x0f, 0xba, 0x2b, 0x03],
    &[0x48, 0xa1, 0x40, 0, 0xc0, 0xfe, 0, 0, 0, 0],
];

/// What there is to see of an execution.
fn execute(emulator: &mut Emulator<'_, Memory>, state: &VcpuState) -> (VcpuState, Vec<Seen>, String) {
    let (mut state, mut device) = (state.clone(), Device { answer: A, ..Device::default() });
    let result = emulator.emulate(&mut state, &mut device, None, &[]);
    (state, device.seen, format!("{:?}", result.map_err(|error| error.reason)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn a_used_emulator_does_what_a_new_one_does(
        instruction in 0..INSTRUCTIONS.len(),
        offset in prop_oneof![Just(0u64), 48..64u64, 0xff0..0x1000u64],
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let (used, new) = (tables(), tables());
        let mut emulator = Emulator::new(&used);
        let mut state = long_mode();
        state.rip = CODE + offset;
        for memory in [&used, &new] {
            for copy in [CODE, CODE | 64, CODE | PAGE_SIZE] {
                memory.write_slice(INSTRUCTIONS[instruction], GuestAddress(copy | (offset % 64))).unwrap();
            }
            memory.write_slice(INSTRUCTIONS[instruction], GuestAddress(state.rip)).unwrap();
        }
        execute(&mut emulator, &state);
        // What the first one did to memory is done to both.
        execute(&mut Emulator::new(&new), &state);
        for change in changes {
            let mut other = state.clone();
            apply(change, &used, &mut state);
            apply(change, &new, &mut other);
            prop_assert_eq!(execute(&mut emulator, &state), execute(&mut Emulator::new(&new), &other));
            for entry in ENTRIES {
                let read = |memory: &Memory| memory.read_obj::<u64>(GuestAddress(entry)).unwrap();
                prop_assert_eq!(read(&used), read(&new), "accessed bits");
            }
        }
    }
}

#[test]
fn an_unchanged_instruction_is_found_again() {
    for offset in [0, 0xff8, 0xfff] {
        let memory = tables();
        let mut emulator = Emulator::new(&memory);
        let mut state = long_mode();
        state.rip = CODE + offset;
        memory.write_slice(&[0x89, 0x03], GuestAddress(state.rip)).unwrap();
        assert!(emulator.cache.find(&state, &[]).is_none());
        let before = state.clone();
        emulator.emulate(&mut state, &mut Device::default(), None, &[]).unwrap();
        assert_eq!(emulator.cache.find(&before, &[]).map(|decoded| decoded.length), Some(2), "at {offset:#x}");
    }
}
