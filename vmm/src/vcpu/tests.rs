//! Exits of a machine under a kernel that is not there.

use abi::event::{EventWords, guest};
use abi::hip::Features;
use abi::state::{EventKind, Injection, Interruptibility, Mtd, gpr};
use device_models::bus::serial::HostSerial;
use proptest::prelude::*;

use super::selection::{FULL, RECALL};
use super::*;
use crate::state::Rflags;
use crate::testing::{Asked, CODE, Guest, ORIGIN, TSC_HZ, exits, machine};

const SERIAL: HostSerial = HostSerial(0x4711);
const COM1: u16 = 0x3f8;
const MSR_EFER: u32 = 0xc000_0080;
const MSR_TSC: u32 = 0x10;
const MSR_TSC_DEADLINE: u32 = 0x6e0;
const LAPIC: u64 = 0xfee0_0000;
const LVT_TIMER: u64 = LAPIC + 0x320;
const ICR_LOW: u64 = LAPIC + 0x300;
const TIMER_VECTOR: u8 = 0xec;
const GENERAL_PROTECTION: Injection = Injection::exception(13, Some(0));

fn interrupt(vector: u8) -> Injection {
    Injection::event(EventKind::Interrupt, vector)
}

/// Lets the local APIC's timer interrupt at a time.
fn set_timer(guest: &mut Guest, at: u64) {
    const TSC_DEADLINE_MODE: u32 = 2 << 17;
    guest.mmio_write(LVT_TIMER, TSC_DEADLINE_MODE | u32::from(TIMER_VECTOR));
    guest.wrmsr(MSR_TSC_DEADLINE, at);
}

#[test]
fn the_boot_cpu_starts_where_the_loader_says() {
    let guest = Guest::started("");
    assert_eq!((guest.state.rip, guest.state.cr3), (CODE, 0x1000));
    assert_eq!(guest.state.tsc_offset, 0_u64.wrapping_sub(ORIGIN));
}

#[test]
fn output_reaches_the_serial_line_and_costs_one_word() {
    let mut guest = Guest::started("");
    assert_eq!(guest.outb(COM1, b'k'), Mtd::RIP);
    assert_eq!(guest.state.rip, CODE + 1);
    // It may wait for more: the timer thread is told.
    assert_eq!(guest.kernel().asked(), [Asked::RearmTimer]);
    guest.kernel().now.set(ORIGIN + TSC_HZ);
    assert_eq!(guest.vm.serve_timers(), None);
    assert_eq!(guest.kernel().asked(), [Asked::Attend]);
    let mut output = Vec::new();
    guest.vm.take_output(SERIAL, &mut output);
    assert_eq!(output, b"k");
}

#[test]
fn much_output_is_handed_over_at_once() {
    let mut guest = Guest::started("");
    while !guest.kernel().asked().contains(&Asked::Attend) {
        guest.outb(COM1, b'x');
    }
    let mut output = Vec::new();
    guest.vm.take_output(SERIAL, &mut output);
    assert_eq!(output.len(), 4096);
}

#[test]
fn input_keeps_the_upper_part_of_the_register() {
    let mut guest = Guest::started("");
    guest.state.gpr[gpr::RAX] = 0x1122_3344_5566_7788;
    const LINE_STATUS: u16 = COM1 + 5;
    assert_eq!(guest.inb(LINE_STATUS), 0x60, "transmitter empty");
    assert_eq!(guest.state.gpr[gpr::RAX], 0x1122_3344_5566_7760);
    // Nobody at 0x1234; 32-bit results clear the upper half.
    guest.exit(exits::IOIO, 0x1234 << 16 | 1 << 6 | 1, CODE);
    assert_eq!(guest.state.gpr[gpr::RAX], 0xffff_ffff);
}

#[test]
fn cpuid_is_two_bytes_long_unless_the_cpu_knows_better() {
    for (features, told, length) in [
        (Features::SVM, 7, 2),
        (Features::SVM | Features::NRIP, 3, 3),
    ] {
        let mut guest = Guest::new(machine(1, ""), 0, features);
        guest.exit(guest::STARTUP, 0, 0);
        guest.state.inst_len = told;
        guest.state.gpr[gpr::RAX] = 0x4000_0000;
        assert_eq!(guest.exit(exits::CPUID, 0, 0), Mtd::ACDB | Mtd::RIP);
        assert_eq!(guest.state.rip, CODE + length);
        assert_eq!(
            guest.state.gpr[gpr::RBX],
            u64::from(u32::from_le_bytes(*b"Kilo"))
        );
    }
}

#[test]
fn a_halted_cpu_serves_its_own_timer() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    guest.kernel().asked();
    guest.set_interrupts(true);
    let taken = guest.exit(exits::HLT, 0, 0);
    assert!(taken.contains(Mtd::RIP | Mtd::INJ | Mtd::STA));
    assert_eq!(guest.state.injection, interrupt(TIMER_VECTOR));
    let due = ORIGIN + 1_000_000;
    assert_eq!(guest.kernel().asked(), [Asked::Wait(0, Some(due))]);
}

#[test]
fn an_interrupt_that_cannot_be_taken_asks_for_a_window() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    guest.kernel().now.set(ORIGIN + 1_000_000);
    guest.set_interrupts(false);
    guest.inb(COM1 + 5);
    let window = Injection::NONE.with_interrupt_window();
    assert_eq!(guest.state.injection, window);
    // As long as it lasts, nothing has to be said again.
    assert_eq!(guest.outb(COM1, b'x'), Mtd::RIP);
    // The window opens.
    guest.set_interrupts(true);
    assert_eq!(guest.exit(exits::VINTR, 0, 0), Mtd::INJ);
    assert_eq!(guest.state.injection, interrupt(TIMER_VECTOR));
}

#[test]
fn an_interrupt_waits_for_the_shadow_to_end() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    guest.kernel().now.set(ORIGIN + 1_000_000);
    guest.set_interrupts(true);
    guest.state.interruptibility = Interruptibility::SHADOW.bits();
    assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::INJ);
    assert_eq!(
        guest.state.injection,
        Injection::NONE.with_interrupt_window()
    );
    // An instruction that exits ends it.
    guest.outb(COM1, b'x');
    assert_eq!(guest.state.injection, interrupt(TIMER_VECTOR));
    assert_eq!(guest.state.interruptibility, 0);
}

#[test]
fn a_recall_loses_no_injection() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    guest.kernel().now.set(ORIGIN + 1_000_000);
    guest.set_interrupts(true);
    guest.outb(COM1, b'x');
    assert_eq!(guest.state.injection, interrupt(TIMER_VECTOR));
    // Before the guest is entered, somebody recalls it, and another interrupt is pending.
    set_self_ipi(&guest, 0xf0);
    assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::INJ);
    let expected = interrupt(TIMER_VECTOR).with_interrupt_window();
    assert_eq!(guest.state.injection, expected);
}

/// An interrupt of a device arrives at the first CPU.
fn set_self_ipi(guest: &Guest, vector: u8) {
    const FIXED_SELF: u64 = 1 << 18;
    let mut inside = guest.vm.enter();
    let now = inside.now;
    let access = device_models::bus::mmio::Gpa(ICR_LOW);
    let size = device_models::bus::mmio::MmioSize::Dword;
    inside
        .machine
        .board
        .mmio_write(now, 0, access, size, FIXED_SELF | u64::from(vector));
    guest.vm.leave(inside, Who::Entrypoint);
}

#[test]
fn the_timer_thread_recalls_a_running_cpu_once() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    assert!(guest.kernel().asked().contains(&Asked::RearmTimer));
    assert_eq!(guest.vm.serve_timers(), Some(ORIGIN + 1_000_000));
    guest.kernel().now.set(ORIGIN + 1_000_000);
    assert_eq!(guest.vm.serve_timers(), None);
    assert_eq!(guest.kernel().asked(), [Asked::Recall(0)]);
    set_self_ipi(&guest, 0xf0);
    assert_eq!(guest.kernel().asked(), [], "it will look anyway");
    guest.set_interrupts(true);
    guest.exit(guest::RECALL, 0, 0);
    // The one of higher priority first.
    assert_eq!(guest.state.injection, interrupt(0xf0));
}

#[test]
fn a_later_deadline_does_not_bother_the_timer_thread() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    guest.vm.serve_timers();
    guest.kernel().asked();
    guest.wrmsr(MSR_TSC_DEADLINE, 2_000_000);
    assert_eq!(guest.kernel().asked(), []);
    guest.wrmsr(MSR_TSC_DEADLINE, 500_000);
    assert_eq!(guest.kernel().asked(), [Asked::RearmTimer]);
}

#[test]
fn input_wakes_a_halted_cpu_through_the_8259() {
    let mut guest = Guest::started("");
    // Vectors from 0x20, everything masked but line 4; the UART interrupts on input.
    for (port, value) in [
        (0x20, 0x11),
        (0x21, 0x20),
        (0x21, 0x04),
        (0x21, 0x01),
        (0x21, 0xef),
    ] {
        guest.outb(port, value);
    }
    guest.outb(COM1 + 1, 1);
    const OUT2: u8 = 8;
    guest.outb(COM1 + 4, OUT2);
    guest.kernel().asked();
    guest.set_interrupts(true);
    let vm = guest.vm;
    vm.kernel()
        .when_waiting(move || assert_eq!(vm.offer_input(SERIAL, b"a"), 1));
    guest.exit(exits::HLT, 0, 0);
    assert_eq!(guest.state.injection, interrupt(0x24));
    assert_eq!(vm.kernel().asked(), [Asked::Wait(0, None), Asked::Wake(0)]);
    assert_eq!(guest.inb(COM1), b'a');
}

#[test]
fn input_that_has_no_room_is_asked_for_again() {
    let mut guest = Guest::started("");
    assert_eq!(guest.vm.offer_input(SERIAL, b"ab"), 1);
    guest.kernel().asked();
    assert_eq!(guest.inb(COM1), b'a');
    assert_eq!(guest.kernel().asked(), [Asked::Attend]);
    assert_eq!(guest.vm.offer_input(SERIAL, b"b"), 1);
    assert_eq!(guest.inb(COM1), b'b');
    assert_eq!(guest.kernel().asked(), []);
}

#[test]
fn registers_outside_the_selection_come_with_a_recall() {
    let mut guest = Guest::started("");
    let before = guest.state;
    assert_eq!(guest.rdmsr(MSR_EFER), Mtd::empty());
    assert_eq!(guest.state.rip, before.rip);
    assert_eq!(
        guest.kernel().asked(),
        [Asked::SelectRecall(0, FULL), Asked::Recall(0)]
    );
    guest.exit(guest::RECALL, 0, 0);
    assert_eq!(guest.state.gpr[gpr::RAX], before.efer);
    assert_eq!(guest.state.rip, CODE + 2);
    assert_eq!(guest.kernel().asked(), [Asked::SelectRecall(0, RECALL)]);
}

#[test]
fn unknown_registers_and_reserved_bits_fault() {
    let accesses: [fn(&mut Guest) -> Mtd; 3] = [
        |guest| guest.rdmsr(0x1234),
        // SVME, and an address that is not canonical.
        |guest| guest.wrmsr(MSR_EFER, 1 << 12),
        |guest| guest.wrmsr(0xc000_0082, 1 << 47),
    ];
    for access in accesses {
        let mut guest = Guest::started("");
        access(&mut guest);
        guest.exit(guest::RECALL, 0, 0);
        assert_eq!(guest.state.injection, GENERAL_PROTECTION);
        assert_eq!(guest.state.rip, CODE);
    }
}

#[test]
fn the_tsc_can_be_set() {
    let mut guest = Guest::started("");
    assert!(guest.wrmsr(MSR_TSC, 1000).contains(Mtd::TSC));
    assert_eq!(guest.state.tsc_offset, 1000_u64.wrapping_sub(ORIGIN));
    guest.kernel().now.set(ORIGIN + 5);
    guest.rdmsr(MSR_TSC);
    assert_eq!(guest.state.gpr[gpr::RAX], 1005);
    // The deadline of the timer is a value of this TSC.
    set_timer(&mut guest, 3000);
    guest.rdmsr(MSR_TSC_DEADLINE);
    assert_eq!(guest.state.gpr[gpr::RAX], 3000);
    assert_eq!(guest.vm.serve_timers(), Some(ORIGIN + 2000));
}

#[test]
fn instructions_that_are_not_there_are_undefined() {
    let mut guest = Guest::started("");
    guest.exit(exits::VMMCALL, 0, 0);
    assert_eq!(guest.state.injection, Injection::exception(6, None));
}

#[test]
fn debug_registers_are_remembered_but_not_armed() {
    let mut guest = Guest::started("");
    // mov dr7, rax; mov rbx, dr7.
    guest.code(&[0x0f, 0x23, 0xf8, 0x0f, 0x21, 0xfb]);
    guest.state.gpr[gpr::RAX] = 0x401;
    guest.exit(exits::DR0_WRITE + 7, 0, 0);
    assert_eq!((guest.state.rip, guest.state.dr7), (CODE + 3, 0x400));
    guest.exit(exits::DR0_WRITE - 0x10 + 7, 0, 0);
    assert_eq!(guest.state.gpr[gpr::RBX], 0x401);
}

#[test]
fn the_task_priority_holds_interrupts_back() {
    let mut guest = Guest::started("");
    guest.mmio_write(LAPIC + 0xf0, 0x1ff);
    guest.state.rip = CODE;
    // mov cr8, rax.
    guest.code(&[0x44, 0x0f, 0x22, 0xc0]);
    guest.state.gpr[gpr::RAX] = 0xf;
    guest.set_interrupts(true);
    guest.exit(exits::CR8_WRITE, 0, 0);
    assert_eq!(guest.state.rip, CODE + 4);
    set_self_ipi(&guest, 0xe0);
    assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::empty());
    guest.state.rip = CODE;
    guest.state.gpr[gpr::RAX] = 0;
    guest.exit(exits::CR8_WRITE, 0, 0);
    assert_eq!(guest.state.injection, interrupt(0xe0));
}

#[test]
fn a_single_step_over_an_exit_is_reported() {
    let mut guest = Guest::started("");
    guest.state.rflags |= (Rflags::TF | Rflags::RF).bits();
    let taken = guest.outb(COM1, b'x');
    assert!(taken.contains(Mtd::RFLAGS | Mtd::DR | Mtd::INJ));
    assert_eq!(guest.state.injection, Injection::exception(1, None));
    assert_eq!(guest.state.rflags & Rflags::RF.bits(), 0);
    assert_eq!(guest.state.dr6 >> 14 & 1, 1);
}

#[test]
fn vector_operands_come_with_a_recall() {
    let mut guest = Guest::started("");
    // movups [rdi], xmm0 to the I/O APIC's page.
    guest.code(&[0x0f, 0x11, 0x07]);
    guest.state.gpr[gpr::RDI] = 0xfec0_0000;
    guest.exit(guest::NESTED_FAULT, 1 << 32 | 2, 0xfec0_0000);
    assert_eq!(guest.state.rip, CODE);
    guest.exit(guest::RECALL, 0, 0);
    assert_eq!(guest.state.rip, CODE + 3);
}

#[test]
fn a_second_nmi_waits_for_the_iret() {
    /// To the local APIC with id 0.
    const NMI_SELF: u32 = 4 << 8;
    let mut guest = Guest::started("");
    guest.mmio_write(ICR_LOW, NMI_SELF);
    let nmi = Injection::event(EventKind::Nmi, 2);
    let with_window = Injection(nmi.0 | Injection::NMI_WINDOW);
    assert_eq!(guest.state.injection, with_window);
    guest.mmio_write(ICR_LOW, NMI_SELF);
    assert!(!guest.state.injection.is_valid());
    guest.exit(exits::IRET, 0, 0);
    assert!(!guest.state.injection.is_valid(), "the IRET first");
    guest.outb(COM1, b'x');
    assert_eq!(guest.state.injection, with_window);
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
        assert_eq!(
            guest.state.tsc_offset,
            0_u64.wrapping_sub(guest.kernel().now.get())
        );
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
    assert!(
        log.iter().any(
            |asked| matches!(asked, Asked::Log(line) if line.contains("triple fault at 0x8000"))
        )
    );
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
    assert_eq!(
        guest.exit(guest::NESTED_FAULT, 1 << 32, 0xfec0_0000),
        Mtd::KILL
    );
    let log = guest.kernel().asked();
    assert!(
        log.iter()
            .any(|asked| matches!(asked, Asked::Log(line) if line.contains("bytes d9 07")))
    );
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
    assert_eq!(
        (code.selector, code.base, second.state.rip),
        (0x9a00, 0x9_a000, 0)
    );
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

fn any_state() -> impl Strategy<Value = Box<abi::state::ArchState>> {
    let words = prop::collection::vec(prop_oneof![any::<u64>(), 0..0x1_0000_u64], 32);
    words.prop_map(|words| {
        let mut state = Box::new(abi::state::ArchState::default());
        state.gpr.copy_from_slice(&words[..16]);
        (state.rip, state.rflags, state.cr0, state.cr4) =
            (words[16], words[17], words[18], words[19]);
        (state.efer, state.cr3, state.inst_len) = (words[20], words[21], words[22] as u32);
        (state.injection, state.interrupted) = (Injection(words[23]), Injection(words[24]));
        state.interruptibility = words[25] as u32;
        for (segment, word) in state.seg.iter_mut().zip(&words[26..]) {
            (segment.attributes, segment.base) = (*word as u16, *word);
        }
        state
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_exit_panics(exits in prop::collection::vec((0..guest::COUNT, any::<u64>(), any::<u64>(), any_state(), any::<u32>()), 1..40)) {
        let vm = machine(1, "on_triple_fault=\"reset\"");
        let mut vcpu = Guest::new(vm, 0, Features::SVM).vcpu;
        for (number, info1, info2, state, delivered) in exits {
            let words = EventWords { reason: number, info1, info2, rip: state.rip };
            *vm.kernel().state.borrow_mut() = *state;
            vm.kernel().when_waiting(move || vm.enter().machine.end(0));
            let taken = vcpu.handle(number, Mtd::from_bits_truncate(delivered), words);
            if taken == Mtd::KILL {
                prop_assert!(vm.ended().is_some());
                break;
            }
        }
    }
}
