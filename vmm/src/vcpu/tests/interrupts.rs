//! Interrupts: what is injected when, and who is told.

use abi::event::guest;
use abi::hip::Features;
use abi::state::{EventKind, Injection, Interruptibility, Mtd, gpr};

use super::{COM1, ICR_LOW, LAPIC, MSR_TSC_DEADLINE, SERIAL};
use crate::testing::{Asked, CODE, Guest, ORIGIN, TSC_HZ, exits};
use crate::vm::Who;

const LVT_TIMER: u64 = LAPIC + 0x320;
pub(super) const TIMER_VECTOR: u8 = 0xec;

pub(super) fn interrupt(vector: u8) -> Injection {
    Injection::event(EventKind::Interrupt, vector)
}

/// Lets the local APIC's timer interrupt at a time.
pub(super) fn set_timer(guest: &mut Guest, at: u64) {
    const TSC_DEADLINE_MODE: u32 = 2 << 17;
    guest.mmio_write(LVT_TIMER, TSC_DEADLINE_MODE | u32::from(TIMER_VECTOR));
    guest.wrmsr(MSR_TSC_DEADLINE, at);
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
    guest.inb(COM1 + 5);
    assert_eq!(guest.state.injection, Injection::NONE, "an exit ends what was said, and the fake CPU with it");
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
    assert_eq!(guest.state.injection, Injection::NONE.with_interrupt_window());
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

#[test]
fn an_interrupt_of_the_class_in_service_waits_for_its_end() {
    const END_OF_INTERRUPT: u64 = LAPIC + 0xb0;
    const SAME_CLASS: u8 = TIMER_VECTOR & 0xf0;
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    guest.kernel().now.set(ORIGIN + 1_000_000);
    guest.set_interrupts(true);
    guest.exit(guest::RECALL, 0, 0);
    assert_eq!(guest.state.injection, interrupt(TIMER_VECTOR));
    guest.state.injection = Injection::NONE;
    set_self_ipi(&guest, SAME_CLASS);
    assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::empty(), "not even a window");
    guest.mmio_write(END_OF_INTERRUPT, 0);
    assert_eq!(guest.state.injection, interrupt(SAME_CLASS));
}

/// An interrupt of a device arrives at the first CPU.
fn set_self_ipi(guest: &Guest, vector: u8) {
    send(guest, u64::from(vector));
}

/// An NMI of another CPU arrives at the first CPU.
fn send_nmi(guest: &Guest) {
    send(guest, 4 << 8);
}

/// The first CPU gets a message of this delivery mode and vector (SDM3 11.6.1).
fn send(guest: &Guest, message: u64) {
    const SELF: u64 = 1 << 18;
    let mut inside = guest.vm.enter();
    let now = inside.now;
    let access = device_models::bus::mmio::Gpa(ICR_LOW);
    let size = device_models::bus::mmio::MmioSize::Dword;
    inside.machine.board.mmio_write(now, 0, access, size, SELF | message);
    guest.vm.leave(inside, Who::Entrypoint);
}

#[test]
fn a_cpu_that_is_told_to_look_is_told_once() {
    let mut guest = Guest::started("");
    set_self_ipi(&guest, 0xe0);
    assert_eq!(guest.kernel().asked(), [Asked::Recall(0)]);
    set_self_ipi(&guest, 0xf0);
    assert_eq!(guest.kernel().asked(), [], "it will look anyway");
    guest.set_interrupts(true);
    guest.exit(guest::RECALL, 0, 0);
    // The one of higher priority first.
    assert_eq!(guest.state.injection, interrupt(0xf0));
}

#[test]
fn input_wakes_a_halted_cpu_through_the_8259() {
    let mut guest = Guest::started("");
    // Vectors from 0x20, everything masked but line 4; the UART interrupts on input.
    for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 0x04), (0x21, 0x01), (0x21, 0xef)] {
        guest.outb(port, value);
    }
    guest.outb(COM1 + 1, 1);
    const OUT2: u8 = 8;
    guest.outb(COM1 + 4, OUT2);
    guest.kernel().asked();
    guest.set_interrupts(true);
    let vm = guest.vm;
    vm.kernel().when_waiting(move || assert_eq!(vm.offer_input(SERIAL, b"a"), 1));
    guest.exit(exits::HLT, 0, 0);
    assert_eq!(guest.state.injection, interrupt(0x24));
    assert_eq!(vm.kernel().asked(), [Asked::Wait(0, None), Asked::Wake(0)]);
    assert_eq!(guest.inb(COM1), b'a');
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
    guest.kernel().now.set(ORIGIN + 1000);
    guest.exit(exits::IRET, 0, 0);
    assert!(!guest.state.injection.is_valid(), "the IRET first");
    // Nobody tells when it has been executed.
    for _ in 0..2 {
        assert!(guest.state.deadline > guest.kernel().now.get() && guest.state.deadline < ORIGIN + TSC_HZ / 1000);
        guest.kernel().now.set(guest.state.deadline);
        guest.exit(guest::RECALL, 0, 0);
        assert!(!guest.state.injection.is_valid(), "still there");
    }
    guest.kernel().now.set(guest.state.deadline);
    guest.state.rip = CODE + 0x100;
    guest.exit(guest::RECALL, 0, 0);
    assert_eq!(guest.state.injection, with_window);
}

#[test]
fn an_nmi_comes_back_for_what_goes_first() {
    let nmi = Injection::event(EventKind::Nmi, 2);
    let with_window = Injection(nmi.0 | Injection::NMI_WINDOW);
    // A shadow, and an event whose delivery the exit has interrupted.
    for (interruptibility, injection) in [(Interruptibility::SHADOW.bits(), Injection::NONE), (0, interrupt(0x30))] {
        for features in [Features::SVM, Features::VMX] {
            let mut guest = Guest::started_on(features, "");
            send_nmi(&guest);
            (guest.state.interruptibility, guest.state.injection) = (interruptibility, injection);
            assert!(guest.exit(guest::RECALL, 0, 0).contains(Mtd::DEADLINE));
            assert_eq!(guest.state.injection, injection);
            let soon = guest.kernel().now.get()..guest.kernel().now.get() + TSC_HZ / 1000;
            assert!(soon.contains(&guest.state.deadline));
            guest.kernel().now.set(guest.state.deadline);
            (guest.state.interruptibility, guest.state.injection) = (0, Injection::NONE);
            guest.exit(guest::RECALL, 0, 0);
            assert_eq!(guest.state.injection, with_window);
        }
    }
}
