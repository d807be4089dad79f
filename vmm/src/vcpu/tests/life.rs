//! Start, reset and end.

use abi::event::guest;
use abi::hip::Features;
use abi::state::{Mtd, gpr};

use super::{COM1, ICR_LOW, LAPIC, SERIAL};
use crate::testing::{Asked, CODE, Guest, ORIGIN, TSC_HZ, exits, machine};

#[test]
fn the_boot_cpu_starts_where_the_loader_says() {
    let guest = Guest::started("");
    assert_eq!((guest.state.rip, guest.state.cr3), (CODE, 0x1000));
    assert_eq!(guest.state.tsc_offset, 0_u64.wrapping_sub(ORIGIN));
}

#[test]
fn a_guest_switches_itself_off() {
    let mut guest = Guest::started("exit_stats=\"yes\"");
    const SLEEP: u16 = 5 << 10 | 1 << 13;
    guest.state.gpr[gpr::RAX] = SLEEP.into();
    let taken = guest.exit(exits::IOIO, 0x604 << 16 | 1 << 5, CODE + 1);
    assert_eq!(taken, Mtd::KILL);
    assert_eq!(guest.vm.ended(), Some(0));
    assert!(guest.kernel().asked().contains(&Asked::Attend));
    assert!(guest.vm.stats().unwrap().to_string().contains("port-out"));
}

#[test]
fn a_guest_resets_itself_again_and_again() {
    let mut guest = Guest::started("");
    for _ in 0..10 {
        guest.outb(COM1, b'x');
        guest.outb(COM1 + 1, 1);
        guest.kernel().now.set(guest.kernel().now.get() + TSC_HZ);
        let taken = guest.outb(0xcf9, 6);
        assert!(taken.contains(Mtd::GPR | Mtd::CR | Mtd::TSC));
        assert_eq!(guest.state.rip, CODE);
        assert_eq!(guest.state.tsc_offset, 0_u64.wrapping_sub(guest.kernel().now.get()));
        assert_eq!(guest.inb(COM1 + 1), 0, "the devices are new");
    }
    let mut output = Vec::new();
    guest.vm.take_output(SERIAL, &mut output);
    assert_eq!(output, [b'x'; 10], "what was sent is not lost");
    assert_eq!(guest.vm.ended(), None);
}

#[test]
fn a_triple_fault_stops_or_resets() {
    let mut guest = Guest::started("");
    assert_eq!(guest.exit(exits::SHUTDOWN, 0, 0), Mtd::KILL);
    assert_eq!(guest.vm.ended(), Some(1));
    let log = guest.kernel().asked();
    assert!(log.iter().any(|asked| matches!(asked, Asked::Log(line) if line.contains("triple fault at 0x8000"))));
    let mut guest = Guest::started("on_triple_fault=\"reset\"");
    assert!(guest.exit(exits::SHUTDOWN, 0, 0).contains(Mtd::CR));
    assert_eq!(guest.vm.ended(), None);
}

#[test]
fn what_cannot_be_emulated_stops_the_guest_with_its_bytes() {
    let mut guest = Guest::started("");
    // fld dword [rdi].
    guest.code(&[0xd9, 0x07]);
    guest.state.gpr[gpr::RDI] = 0xfec0_0000;
    assert_eq!(guest.exit(guest::NESTED_FAULT, 1 << 32, 0xfec0_0000), Mtd::KILL);
    let log = guest.kernel().asked();
    assert!(log.iter().any(|asked| matches!(asked, Asked::Log(line) if line.contains("bytes d9 07"))));
    assert_eq!(guest.vm.ended(), Some(1));
}

#[test]
fn other_cpus_wait_for_their_start() {
    let vm = machine(2, "");
    let mut boot = Guest::new(vm, 0, Features::SVM);
    boot.exit(guest::STARTUP, 0, 0);
    const INIT: u32 = 5 << 8 | 1 << 14;
    const STARTUP: u32 = 6 << 8 | 0x9a;
    vm.kernel().when_waiting(move || {
        // The start-up message is sent while the second CPU already handles its INIT.
        let state = *vm.kernel().state.borrow();
        boot.mmio_write(LAPIC + 0x310, 1 << 24);
        boot.mmio_write(ICR_LOW, INIT);
        boot.mmio_write(ICR_LOW, STARTUP);
        *vm.kernel().state.borrow_mut() = state;
    });
    let mut second = Guest::new(vm, 1, Features::SVM);
    second.exit(guest::STARTUP, 0, 0);
    let code = second.state.seg[abi::state::seg::CS];
    assert_eq!((code.selector, code.base, second.state.rip), (0x9a00, 0x9_a000, 0));
    let asked = vm.kernel().asked();
    assert!(asked.contains(&Asked::Wait(1, None)) && asked.contains(&Asked::Wake(1)));
}

#[test]
fn all_cpus_end_together() {
    let vm = machine(2, "");
    let mut boot = Guest::new(vm, 0, Features::SVM);
    boot.exit(guest::STARTUP, 0, 0);
    let mut second = Guest::new(vm, 1, Features::SVM);
    vm.kernel().when_waiting(move || {
        boot.exit(exits::SHUTDOWN, 0, 0);
    });
    assert_eq!(second.exit(guest::STARTUP, 0, 0), Mtd::KILL);
    assert!(vm.kernel().asked().contains(&Asked::Wake(1)));
}
