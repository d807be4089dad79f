//! Start, reset and end.

use abi::event::guest;
use abi::hip::Features;
use abi::state::{Mtd, gpr};

use super::{COM1, MSR_TSC, SERIAL, pair, start_second};
use crate::testing::{Asked, CODE, Guest, ORIGIN, TSC_HZ, exits, loads, machine};

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
    assert!(log.iter().any(|asked| matches!(asked, Asked::Log(line) if line.contains("triple fault at 0x0:0x8000"))));
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
    let asked = guest.kernel().asked();
    let log: Vec<&str> = asked
        .iter()
        .filter_map(|asked| match asked {
            Asked::Log(line) => Some(&**line),
            _ => None,
        })
        .collect();
    let first = "Error: vCPU 0 stopped: instruction not emulated at 0x0:0x8000, bytes d9 07";
    assert!(log[0].starts_with(first), "{log:?}");
    assert!(log[1].starts_with("vCPU 0: Rax 0 Rcx 0 ") && log[1].ends_with("Rdi fec00000"), "{log:?}");
    assert!(log[2].starts_with("vCPU 0: R8 0 R9 0 "), "{log:?}");
    assert!(log[3].starts_with("vCPU 0: Long64, SS 0 RFLAGS 2 CR0 80010001 "), "{log:?}");
    assert_eq!(guest.vm.ended(), Some(1));
}

#[test]
fn other_cpus_wait_for_their_start() {
    let vm = machine(2, "");
    let mut boot = Guest::new(vm, 0, Features::SVM);
    boot.exit(guest::STARTUP, 0, 0);
    vm.kernel().when_waiting(move || {
        // The start-up message is sent while the second CPU already handles its INIT.
        let state = *vm.kernel().state.borrow();
        start_second(&mut boot);
        *vm.kernel().state.borrow_mut() = state;
    });
    let mut second = Guest::new(vm, 1, Features::SVM);
    second.exit(guest::STARTUP, 0, 0);
    let code = second.state.seg[abi::state::seg::CS];
    assert_eq!((code.selector, code.base, second.state.rip), (0x9a00, 0x9_a000, 0));
    let asked = vm.kernel().asked();
    assert!(asked.contains(&Asked::Wait(1, None)) && asked.contains(&Asked::Wake(1)));
}

/// SDM3 10.1: INIT differs from a reset in that "MSRs, MTRRs, and x87 FPU state are left unchanged". In table 10-1, the columns
/// "Reset" and "INIT" differ for ST0 to ST7, MXCSR, XMM and YMM, XCR0, "Time-Stamp Counter", SYSENTER, STAR, LSTAR, KERNEL_GS_BASE,
/// MTRRs and machine checks ("Unchanged"), and not for segments, control registers but CR0, DR0 to DR7, and EFER.
#[test]
fn an_init_keeps_what_a_reset_does_not() {
    const MTRR_DEF_TYPE: u32 = 0x2ff;
    const PAT: u32 = 0x277;
    let kept = Mtd::SYSENTER | Mtd::SYSCALL | Mtd::PAT | Mtd::TSC | Mtd::XCR0;
    let set = Mtd::GPR | Mtd::RIP | Mtd::RFLAGS | Mtd::SEG | Mtd::CR | Mtd::EFER | Mtd::GDTR | Mtd::IDTR | Mtd::DR;
    let (mut boot, mut second) = pair();
    for (register, value) in [(MTRR_DEF_TYPE, 0xc00), (PAT, 0x0606_0606_0606_0606), (MSR_TSC, 1 << 40)] {
        second.wrmsr(register, value);
    }
    start_second(&mut boot);
    let taken = second.exit(guest::RECALL, 0, 0);
    assert!(taken.contains(set) && !taken.intersects(kept), "{taken:?}");
    assert_eq!((second.state.rip, second.state.cr0, second.state.efer), (0, 0x6000_0010, 0));
    for (register, value) in [(MTRR_DEF_TYPE, 0xc00), (PAT, 0x0606_0606_0606_0606), (MSR_TSC, 1 << 40)] {
        second.rdmsr(register);
        let [low, high] = [gpr::RAX, gpr::RDX].map(|register| second.state.gpr[register]);
        assert_eq!(high << 32 | low, value, "{register:#x}");
    }
    let mut guest = Guest::started("");
    guest.wrmsr(MTRR_DEF_TYPE, 0);
    assert!(guest.outb(RESET_CONTROL as u16, RESET).contains(set | kept));
    guest.rdmsr(MTRR_DEF_TYPE);
    assert_eq!(guest.state.gpr[gpr::RAX], 0xc06);
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

/// Exits that end the machine, reset it, or do nothing, of a guest that is no more: number and first information word.
const STALE: [(u64, u64); 3] = [(exits::SHUTDOWN, 0), (exits::IOIO, RESET_CONTROL << 16 | 1 << 4), (guest::RECALL, 0)];
const RESET_CONTROL: u64 = 0xcf9;
const RESET: u8 = 6;

#[test]
fn memory_is_filled_again_when_nobody_is_in_the_guest() {
    for (number, info1) in STALE {
        let (mut boot, mut second) = pair();
        let vm = boot.vm;
        second.state.gpr[gpr::RAX] = RESET.into();
        // The boot CPU waits for the second one, which waits for a start-up message then.
        vm.kernel().when_waiting(move || {
            vm.kernel().when_waiting(|| vm.enter().machine.end(0));
            assert_eq!(loads(&vm.memory), 1, "the second one runs");
            second.exit(number, info1, CODE + 1);
            assert_eq!(loads(&vm.memory), 2);
        });
        assert_eq!(boot.outb(RESET_CONTROL as u16, RESET), Mtd::KILL);
        assert_eq!(vm.ended(), Some(0), "for no other reason");
        let mut asked = vm.kernel().asked();
        asked.retain(|asked| !matches!(asked, Asked::Log(_) | Asked::Attend));
        assert!(asked.starts_with(&[Asked::Recall(1), Asked::Wait(0, None), Asked::Wake(0), Asked::Wait(1, None)]));
    }
}

#[test]
fn all_start_over_after_a_reset() {
    let (mut boot, mut second) = pair();
    let vm = boot.vm;
    vm.kernel().when_waiting(move || {
        // The second CPU has left the guest, and waits for its start-up message.
        vm.kernel().when_waiting(move || {
            let mut new_boot = Guest::new(vm, 0, Features::SVM);
            assert!(new_boot.exit(guest::STARTUP, 0, 0).contains(Mtd::CR));
            let state = *vm.kernel().state.borrow();
            start_second(&mut new_boot);
            *vm.kernel().state.borrow_mut() = state;
        });
        assert!(second.exit(guest::RECALL, 0, 0).contains(Mtd::CR));
        assert_eq!(second.state.seg[abi::state::seg::CS].base, 0x9_a000);
    });
    assert!(boot.outb(RESET_CONTROL as u16, RESET).contains(Mtd::CR));
    assert_eq!((boot.state.rip, loads(&vm.memory), vm.ended()), (CODE, 2, None));
}

#[test]
fn cpus_that_wait_hold_no_reset_up() {
    let vm = machine(2, "");
    let mut boot = Guest::new(vm, 0, Features::SVM);
    boot.exit(guest::STARTUP, 0, 0);
    assert!(boot.outb(RESET_CONTROL as u16, RESET).contains(Mtd::CR));
    let (mut boot, mut second) = pair();
    let vm = boot.vm;
    vm.kernel().when_waiting(move || {
        vm.kernel().when_waiting(|| vm.enter().machine.end(0));
        assert!(boot.outb(RESET_CONTROL as u16, RESET).contains(Mtd::CR));
        assert_eq!(loads(&vm.memory), 2);
    });
    assert_eq!(second.exit(exits::HLT, 0, 0), Mtd::KILL);
}

#[test]
fn nothing_happens_to_a_machine_that_has_ended() {
    for (number, info1) in STALE {
        let (mut boot, mut second) = pair();
        second.state.gpr[gpr::RAX] = RESET.into();
        boot.vm.enter().machine.end(0);
        boot.exit(exits::HLT, 0, 0);
        assert_eq!(second.exit(number, info1, CODE + 1), Mtd::KILL);
        assert_eq!((boot.vm.ended(), loads(&boot.vm.memory)), (Some(0), 1));
        assert!(!boot.kernel().asked().iter().any(|asked| matches!(asked, Asked::Log(_))));
    }
}
