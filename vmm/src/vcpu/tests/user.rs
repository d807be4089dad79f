//! User code that accesses device memory with what cannot be emulated.

use abi::event::guest;
use abi::state::{Injection, Mtd, gpr, seg};
use vm_memory::{Bytes, GuestAddress};

use crate::testing::{Asked, CODE, Guest};

/// Nobody is there.
const NOTHING: u64 = 0xd000_0000;
/// `vmovdqu ymm0, [rdi]`.
const MOVE_256: [u8; 4] = [0xc5, 0xfe, 0x6f, 0x07];
/// `fld dword [rdi]`.
const LOAD_X87: [u8; 2] = [0xd9, 0x07];
const INVALID_OPCODE: Injection = Injection::exception(6, None);

/// A read of nothing by `code` at privilege level `cpl`.
fn read(guest: &mut Guest, cpl: u16, code: &[u8]) -> Mtd {
    const PRIVILEGE: u16 = 5;
    const USER: u64 = 1 << 2;
    for entry in [0x1000, 0x2000, 0x2000 + 3 * 8] {
        let address = GuestAddress(entry);
        let value: u64 = guest.vm.memory.read_obj(address).unwrap();
        guest.vm.memory.write_obj(value | USER, address).unwrap();
    }
    guest.state.seg[seg::SS].attributes = cpl << PRIVILEGE;
    guest.state.gpr[gpr::RDI] = NOTHING;
    guest.code(code);
    guest.exit(guest::NESTED_FAULT, 1 << 32 | 4, NOTHING)
}

#[test]
fn a_process_gets_an_exception_and_the_machine_goes_on() {
    for code in [&MOVE_256[..], &LOAD_X87] {
        let mut guest = Guest::started("");
        let before = guest.state;
        let taken = read(&mut guest, 3, code);
        assert!(taken.contains(Mtd::INJ));
        assert_eq!((guest.state.injection, guest.state.rip), (INVALID_OPCODE, CODE));
        assert_eq!((guest.state.rflags, guest.state.cr3), (before.rflags, before.cr3));
        assert_eq!(guest.vm.ended(), None);
    }
}

#[test]
fn a_process_cannot_fill_the_log() {
    let mut guest = Guest::started("");
    for _ in 0..1000 {
        read(&mut guest, 3, &LOAD_X87);
    }
    let asked = guest.kernel().asked();
    let lines: Vec<_> = asked.iter().filter(|asked| matches!(asked, Asked::Log(_))).collect();
    assert_eq!(lines.len(), 10, "1, 2, 4 ... 512");
    let expected = "#UD for user code (512 so far): instruction not emulated at 0x0:0x8000, bytes d9 07";
    assert!(matches!(lines.last(), Some(Asked::Log(line)) if line.contains(expected)), "{lines:?}");
}

#[test]
fn a_kernel_ends_with_its_bytes_and_state() {
    for cpl in 0..3 {
        let mut guest = Guest::started("");
        assert_eq!(read(&mut guest, cpl, &LOAD_X87), Mtd::KILL);
        let asked = guest.kernel().asked();
        for part in
            ["Error: vCPU 0 stopped: instruction not emulated at 0x0:0x8000, bytes d9 07", "Rdi d0000000", "CR0"]
        {
            let says_it = |asked: &Asked| matches!(asked, Asked::Log(line) if line.contains(part));
            assert!(asked.iter().any(says_it), "{part}: {asked:?}");
        }
        assert_eq!(guest.vm.ended(), Some(1));
    }
}
