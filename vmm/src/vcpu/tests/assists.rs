//! What a CPU tells of the instruction that exited, so that nobody has to fetch it.

use abi::event::guest;
use abi::hip::Features;
use abi::state::gpr;

use crate::testing::{CODE, Guest, exits};

const IOAPIC: u64 = 0xfec0_0000;
/// `mov [rdi], eax`.
const STORE: [u8; 2] = [0x89, 0x07];
const ASSISTS: Features = Features::SVM.union(Features::NRIP).union(Features::DECODE_ASSISTS);
/// EXITINFO1: the instruction is MOV (APM2 15.33.1).
const IS_MOVE: u64 = 1 << 63;

/// A store to a register of the I/O APIC, of whose instruction the CPU has fetched `given`, with others in memory. How far the guest
/// gets.
fn store(given: &[u8], memory: &[u8]) -> u64 {
    let mut guest = Guest::started_on(ASSISTS, "");
    guest.code(memory);
    guest.state.inst_bytes[..given.len()].copy_from_slice(given);
    guest.state.inst_bytes_len = given.len() as u64;
    (guest.state.gpr[gpr::RDI], guest.state.gpr[gpr::RAX]) = (IOAPIC, 0x12);
    guest.exit(guest::NESTED_FAULT, 1 << 32 | 2, IOAPIC);
    // Read it back, where the CPU has fetched nothing.
    guest.state.inst_bytes_len = 0;
    let at = guest.state.rip;
    // mov ecx, [rdi]
    guest.code(&[0x8b, 0x0f]);
    guest.exit(guest::NESTED_FAULT, 1 << 32, IOAPIC);
    assert_eq!((guest.state.gpr[gpr::RCX] as u32, guest.state.rip), (0x12, at + 2));
    at - CODE
}

#[test]
fn bytes_from_the_cpu_are_used() {
    const UNDEFINED: [u8; 2] = [0x0f, 0x0b];
    assert_eq!(store(&STORE, &UNDEFINED), 2, "and not those in memory");
    assert_eq!(store(&[0x89, 0x07, 0x0f, 0x0b], &UNDEFINED), 2, "whatever follows");
}

#[test]
fn what_the_cpu_did_not_fetch_is_fetched() {
    assert_eq!(store(&[], &STORE), 2, "nothing");
    // mov dword [rdi], 0x12; the CPU stopped at the end of a page or a segment.
    let long = [0xc7, 0x07, 0x12, 0, 0, 0];
    for given in 1..long.len() {
        assert_eq!(store(&long[..given], &long), 6, "{given} bytes");
    }
}

#[test]
fn a_count_that_cannot_be_is_none() {
    let mut guest = Guest::started_on(ASSISTS, "");
    guest.code(&STORE);
    guest.state.inst_bytes_len = 17;
    guest.state.gpr[gpr::RDI] = IOAPIC;
    guest.exit(guest::NESTED_FAULT, 1 << 32 | 2, IOAPIC);
    assert_eq!(guest.state.rip, CODE + 2);
}

#[test]
fn decode_assists_name_the_registers() {
    let mut guest = Guest::started_on(ASSISTS, "");
    // Nothing that could be decoded is at the instruction pointer.
    guest.state.inst_len = 4;
    guest.state.gpr[gpr::R9] = 5;
    guest.exit(exits::CR8_WRITE, IS_MOVE | gpr::R9 as u64, 0);
    assert_eq!(guest.state.rip, CODE + 4);
    guest.exit(exits::CR8_WRITE - 0x10, IS_MOVE | gpr::RBX as u64, 0);
    assert_eq!((guest.state.rip, guest.state.gpr[gpr::RBX]), (CODE + 8, 5));
    guest.state.inst_len = 3;
    guest.state.gpr[gpr::RAX] = 0x401;
    guest.exit(exits::DR0_WRITE + 7, gpr::RAX as u64, 0);
    guest.exit(exits::DR0_WRITE - 0x10 + 7, gpr::RSI as u64, 0);
    assert_eq!((guest.state.rip, guest.state.gpr[gpr::RSI]), (CODE + 14, 0x401));
}

#[test]
fn without_them_or_a_length_the_instruction_does() {
    for (features, length) in [(Features::SVM | Features::NRIP, 4), (ASSISTS, 0)] {
        let mut guest = Guest::started_on(features, "");
        // mov cr8, rcx; mov rdx, cr8, behind a prefix.
        guest.code(&[0x44, 0x0f, 0x22, 0xc1, 0x44, 0x0f, 0x20, 0xc2]);
        guest.state.gpr[gpr::RCX] = 7;
        guest.state.inst_len = length;
        guest.exit(exits::CR8_WRITE, IS_MOVE | gpr::RAX as u64, 0);
        guest.exit(exits::CR8_WRITE - 0x10, IS_MOVE | gpr::RAX as u64, 0);
        assert_eq!((guest.state.rip, guest.state.gpr[gpr::RDX]), (CODE + 8, 7));
    }
}

/// Exit reasons and qualifications of VMX (SDM3 tables 28-3 and 28-4).
#[test]
fn vmx_names_them_always() {
    const CONTROL: u64 = 28;
    const DEBUG: u64 = 29;
    let mut guest = Guest::started_on(Features::VMX, "");
    guest.state.inst_len = 4;
    guest.state.gpr[gpr::R9] = 5;
    guest.exit(CONTROL, (gpr::R9 as u64) << 8 | 8, 0);
    guest.exit(CONTROL, (gpr::RBX as u64) << 8 | 1 << 4 | 8, 0);
    assert_eq!((guest.state.rip, guest.state.gpr[gpr::RBX]), (CODE + 8, 5));
    guest.state.inst_len = 3;
    guest.state.gpr[gpr::RAX] = 0x401;
    guest.exit(DEBUG, (gpr::RAX as u64) << 8 | 7, 0);
    guest.exit(DEBUG, (gpr::RSI as u64) << 8 | 1 << 4 | 7, 0);
    assert_eq!((guest.state.rip, guest.state.gpr[gpr::RSI]), (CODE + 14, 0x401));
}

#[test]
fn an_instruction_known_already_may_come_in_part() {
    let mut guest = Guest::started_on(ASSISTS, "");
    // mov dword [rdi], imm32.
    let first = [0xc7, 0x07, 0x12, 0, 0, 0];
    let second = [0xc7, 0x07, 0x13, 0, 0, 0];
    for (code, given, value) in [(first, 6, 0x12), (first, 2, 0x12), (second, 2, 0x13), (second, 0, 0x13)] {
        guest.state.rip = CODE;
        guest.code(&code);
        guest.state.inst_bytes[..given].copy_from_slice(&code[..given]);
        guest.state.inst_bytes_len = given as u64;
        guest.state.gpr[gpr::RDI] = IOAPIC;
        guest.exit(guest::NESTED_FAULT, 1 << 32 | 2, IOAPIC);
        assert_eq!(guest.state.rip, CODE + 6);
        // mov ecx, [rdi]
        guest.code(&[0x8b, 0x0f]);
        guest.state.inst_bytes_len = 0;
        guest.exit(guest::NESTED_FAULT, 1 << 32, IOAPIC);
        assert_eq!(guest.state.gpr[gpr::RCX] as u32, value, "{given} bytes");
    }
}

#[test]
fn bytes_do_not_outlast_their_exit() {
    let mut guest = Guest::started_on(ASSISTS, "");
    // movups [rdi], xmm0: the registers come with a recall, and the bytes that the CPU tells then belong to whatever was before.
    guest.code(&[0x0f, 0x11, 0x07]);
    guest.state.inst_bytes[..3].copy_from_slice(&[0x0f, 0x11, 0x07]);
    guest.state.inst_bytes_len = 3;
    guest.state.gpr[gpr::RDI] = IOAPIC;
    guest.exit(guest::NESTED_FAULT, 1 << 32 | 2, IOAPIC);
    guest.state.inst_bytes[..3].copy_from_slice(&[0x0f, 0x0b, 0x0f]);
    guest.exit(guest::RECALL, 0, 0);
    assert_eq!(guest.state.rip, CODE + 3);
}
