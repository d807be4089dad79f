//! Who is there when a deadline comes.

use abi::event::guest;
use abi::hip::Features;
use abi::state::Mtd;

use super::interrupts::{TIMER_VECTOR, interrupt, set_timer};
use super::{COM1, LAPIC, MSR_TSC_DEADLINE, SERIAL, pair};
use crate::testing::{Asked, Guest, ORIGIN, TSC_HZ, exits, machine};

#[test]
fn a_running_cpu_comes_back_for_its_timer() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    let due = ORIGIN + 1_000_000;
    assert_eq!(guest.state.deadline, due);
    guest.kernel().now.set(due);
    guest.set_interrupts(true);
    assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::INJ);
    assert_eq!(guest.state.injection, interrupt(TIMER_VECTOR));
    assert_eq!(guest.kernel().asked(), [], "nobody else is concerned");
}

#[test]
fn only_what_is_earlier_has_to_be_said() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    assert_eq!(guest.wrmsr(MSR_TSC_DEADLINE, 2_000_000), Mtd::RIP);
    assert_eq!(guest.wrmsr(MSR_TSC_DEADLINE, 0), Mtd::RIP);
    assert_eq!(guest.wrmsr(MSR_TSC_DEADLINE, 500_000), Mtd::RIP | Mtd::DEADLINE);
    assert_eq!(guest.state.deadline, ORIGIN + 500_000);
}

#[test]
fn one_that_comes_back_too_early_says_the_rest() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    guest.wrmsr(MSR_TSC_DEADLINE, 2_000_000);
    guest.kernel().now.set(ORIGIN + 1_000_000);
    assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::DEADLINE);
    assert_eq!(guest.state.deadline, ORIGIN + 2_000_000);
}

#[test]
fn the_rest_is_said_on_any_exit_when_the_earlier_one_has_passed() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    guest.wrmsr(MSR_TSC_DEADLINE, 2_000_000);
    guest.kernel().now.set(ORIGIN + 1_000_000);
    guest.inb(COM1 + 5);
    assert_eq!(guest.state.deadline, ORIGIN + 2_000_000);
    assert_eq!(guest.outb(UNUSED_PORT, 0), Mtd::RIP, "once");
}

#[test]
fn a_periodic_timer_brings_its_cpu_back_each_time() {
    const PERIODIC: u32 = 1 << 17;
    const DIVIDE_BY_1: u32 = 0b1011;
    let mut guest = Guest::started("");
    for (register, value) in [(0x3e0, DIVIDE_BY_1), (0x320, PERIODIC | u32::from(TIMER_VECTOR)), (0x380, 1_000_000)] {
        guest.mmio_write(LAPIC + register, value);
    }
    guest.set_interrupts(true);
    for period in 1..4 {
        let due = ORIGIN + period * 1_000_000;
        assert_eq!(guest.state.deadline, due);
        guest.kernel().now.set(due);
        assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::INJ | Mtd::DEADLINE);
        assert_eq!(guest.state.injection, interrupt(TIMER_VECTOR));
        guest.mmio_write(LAPIC + 0xb0, 0);
    }
}

#[test]
fn a_recall_for_something_else_leaves_the_deadline_alone() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    guest.kernel().now.set(ORIGIN + 999_999);
    assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::empty());
}

#[test]
fn a_deadline_that_another_exit_serves_is_done_with() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    guest.kernel().now.set(ORIGIN + 1_000_000);
    guest.inb(COM1 + 5);
    // The recall comes nevertheless, and there is a next one.
    assert_eq!(guest.wrmsr(MSR_TSC_DEADLINE, 3_000_000), Mtd::RIP | Mtd::DEADLINE);
    assert_eq!(guest.exit(guest::RECALL, 0, 0) - Mtd::INJ, Mtd::empty());
    assert_eq!(guest.state.deadline, ORIGIN + 3_000_000);
}

#[test]
fn each_cpu_looks_after_its_own_timer() {
    let (mut boot, mut second) = pair();
    set_timer(&mut boot, 1_000_000);
    assert_eq!(boot.state.deadline, ORIGIN + 1_000_000);
    assert_eq!(second.wrmsr(MSR_TSC_DEADLINE, 0), Mtd::RIP);
    set_timer(&mut second, 2_000_000);
    assert_eq!(second.state.deadline, ORIGIN + 2_000_000);
    assert_eq!(boot.exit(guest::RECALL, 0, 0), Mtd::empty(), "that of the other one is as it was");
    // The later one is in time although the earlier one is not.
    second.kernel().now.set(ORIGIN + 2_000_000);
    second.set_interrupts(true);
    second.exit(guest::RECALL, 0, 0);
    assert_eq!(second.state.injection, interrupt(TIMER_VECTOR));
    assert_eq!(boot.kernel().asked(), [Asked::Recall(0)]);
}

#[test]
fn who_writes_output_comes_back_for_it() {
    let (boot, mut second) = pair();
    assert!(second.outb(COM1, b'x').contains(Mtd::DEADLINE));
    let due = second.state.deadline;
    boot.kernel().now.set(due);
    second.exit(guest::RECALL, 0, 0);
    assert_eq!(boot.kernel().asked(), [Asked::Attend]);
}

#[test]
fn the_entrypoint_has_somebody_look() {
    let mut guest = Guest::started("");
    guest.vm.attend_later();
    assert_eq!(guest.kernel().asked(), [Asked::Recall(0)]);
    guest.vm.attend_later();
    assert_eq!(guest.kernel().asked(), [], "it is on its way");
    assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::DEADLINE);
    guest.vm.attend_later();
    assert_eq!(guest.kernel().asked(), [], "it will be there in time");
    guest.kernel().now.set(guest.state.deadline);
    guest.exit(guest::RECALL, 0, 0);
    assert_eq!(guest.kernel().asked(), [Asked::Attend]);
}

#[test]
fn the_entrypoint_has_one_that_waits_look() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, TSC_HZ);
    guest.set_interrupts(true);
    let vm = guest.vm;
    vm.kernel().when_waiting(move || vm.attend_later());
    guest.exit(exits::HLT, 0, 0);
    let asked = vm.kernel().asked();
    let due = ORIGIN + TSC_HZ;
    let [
        Asked::Wait(0, Some(first)),
        Asked::Wake(0),
        Asked::Wait(0, Some(then)),
        Asked::Attend,
        Asked::Wait(0, Some(last)),
    ] = asked[..]
    else {
        panic!("{asked:?}");
    };
    assert_eq!((first, last), (due, due));
    assert!(then < due);
}

#[test]
fn the_entrypoint_wakes_nobody_for_what_another_cpu_looks_after() {
    let (mut boot, mut second) = pair();
    assert!(second.outb(COM1, b'x').contains(Mtd::DEADLINE));
    boot.kernel().now.set(ORIGIN + 1);
    let mut output = Vec::new();
    boot.vm.take_output(SERIAL, &mut output);
    boot.vm.attend_later();
    assert_eq!(boot.kernel().asked(), []);
    assert_eq!(boot.exit(guest::RECALL, 0, 0), Mtd::DEADLINE);
}

#[test]
fn a_reset_machine_has_no_old_deadlines() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    let taken = guest.outb(0xcf9, 6);
    assert!(taken.contains(Mtd::CR) && !taken.contains(Mtd::DEADLINE));
    // The recall that is still due does nothing.
    guest.kernel().now.set(ORIGIN + 1_000_000);
    assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::empty());
    let origin = ORIGIN;
    set_timer(&mut guest, 5_000_000);
    assert_eq!(guest.state.deadline, origin + 5_000_000);
}

#[test]
fn a_cpu_that_is_not_started_waits_for_what_concerns_all() {
    let vm = machine(2, "");
    let mut boot = Guest::new(vm, 0, Features::SVM);
    boot.exit(guest::STARTUP, 0, 0);
    set_timer(&mut boot, 1_000_000);
    let mut second = Guest::new(vm, 1, Features::SVM);
    vm.kernel().when_waiting(move || {
        boot.exit(exits::SHUTDOWN, 0, 0);
    });
    assert_eq!(second.exit(guest::STARTUP, 0, 0), Mtd::KILL);
    assert!(vm.kernel().asked().contains(&Asked::Wait(1, None)), "a timer of the boot CPU is none of its business");
}

#[test]
fn a_reset_does_not_delay_output() {
    let mut guest = Guest::started("");
    guest.kernel().now.set(ORIGIN + 1000 * TSC_HZ);
    guest.outb(COM1, b'x');
    guest.kernel().asked();
    guest.outb(0xcf9, 6);
    assert_eq!(guest.kernel().asked().last(), Some(&Asked::Attend));
}

/// Nobody listens there.
const UNUSED_PORT: u16 = 0x80;

#[test]
fn a_deadline_that_comes_while_the_cpu_waits_recalls_it_no_more() {
    let mut guest = Guest::started("");
    set_timer(&mut guest, 1_000_000);
    guest.set_interrupts(true);
    guest.kernel().now.set(ORIGIN + 1_000_000);
    // As if from HLT: it serves the deadline on its own, before it can be told.
    let taken = guest.outb(UNUSED_PORT, 0);
    assert!(taken.contains(Mtd::INJ | Mtd::DEADLINE));
    assert_eq!((guest.state.injection, guest.state.deadline), (interrupt(TIMER_VECTOR), 0));
}
