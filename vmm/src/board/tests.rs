//! The wiring: what one model does to another.

mod linux_probes;
mod pc;

use std::num::NonZeroU64;

use device_models::bus::mmio::{Gpa, MmioSize};
use device_models::bus::port::PortAccess;
use device_models::bus::power::{PowerEvent, PowerSource};
use device_models::bus::serial::HostSerial;
use device_models::rtc::UnixSeconds;
use device_models::time::{Clock, Tsc};
use proptest::prelude::*;

use super::*;
use crate::acpi::MachineDescription;
use crate::config::VmmConfig;
use crate::testing::{TSC_HZ, config};

/// The serial line of [`config`].
const HOST: HostSerial = HostSerial(0x4711);

fn build(config: &VmmConfig) -> Result<Board, BoardError> {
    build_with(config, TSC_HZ)
}

fn build_with(config: &VmmConfig, tsc_hz: u64) -> Result<Board, BoardError> {
    let environment = Environment { clock: Clock::new(NonZeroU64::new(tsc_hz).unwrap()), wall_clock: UnixSeconds(0) };
    Board::new(&config.machine, &MachineDescription::bare().fixed, environment)
}

fn board() -> Board {
    build(&config(2, "")).unwrap()
}

fn outb(board: &mut Board, now: u64, port: u16, value: u8) {
    board.port_write(Tsc(now), PortAccess::byte(port), value.into());
}

fn mmio_write(board: &mut Board, address: u64, value: u64) {
    board.mmio_write(Tsc(0), 0, Gpa(address), MmioSize::Dword, value);
}

/// Counter 0 of the interval timer: an interrupt after 1000 ticks of 1.19 MHz (mode 0).
fn start_pit(board: &mut Board) {
    for (port, value) in [(0x43, 0x30), (0x40, 0xe8), (0x40, 0x03)] {
        outb(board, 0, port, value);
    }
}

/// The next deadline, and everything due then done.
fn expire_next(board: &mut Board) -> Tsc {
    let deadline = board.deadline().unwrap();
    board.expire(deadline);
    deadline
}

#[test]
fn the_interval_timer_interrupts_through_the_8259() {
    let mut board = board();
    for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 0x04), (0x21, 0x01), (0x21, 0xfe)] {
        outb(&mut board, 0, port, value);
    }
    start_pit(&mut board);
    assert!(!board.interrupt_pending(0));
    let Tsc(due) = expire_next(&mut board);
    assert!((830_000..=840_000).contains(&due), "{due}");
    assert!(board.interrupt_pending(0) && !board.interrupt_pending(1));
    assert_eq!(board.take_marked().iter().collect::<Vec<_>>(), [0]);
    assert_eq!(board.take_interrupt(0), Some(0x20));
    assert!(!board.interrupt_pending(0));
}

#[test]
fn the_interval_timer_interrupts_through_the_ioapic() {
    let mut board = board();
    // Nothing comes from the 8259.
    outb(&mut board, 0, 0x21, 0xff);
    // Input 2: vector 0x31 to local APIC 1, which is enabled.
    for (register, value) in [(0x14, 0x31), (0x15, 1 << 24)] {
        mmio_write(&mut board, 0xfec0_0000, register);
        mmio_write(&mut board, 0xfec0_0010, value);
    }
    board.mmio_write(Tsc(0), 1, Gpa(0xfee0_00f0), MmioSize::Dword, 0x1ff);
    start_pit(&mut board);
    expire_next(&mut board);
    assert_eq!(board.take_interrupt(1), Some(0x31));
    assert_eq!(board.take_interrupt(0), None);
}

#[test]
fn a_level_interrupt_waits_for_a_local_apic_that_takes_it() {
    const POWER_BUTTON_AND_TIMER: u32 = 0x101;
    let mut board = board();
    // The SCI, input 9, level-triggered: vector 0x41 to local APIC 1, which is not enabled yet.
    for (register, value) in [(0x22, 0x8041), (0x23, 1 << 24)] {
        mmio_write(&mut board, 0xfec0_0000, register);
        mmio_write(&mut board, 0xfec0_0010, value);
    }
    let word = |port| PortAccess { port, size: device_models::bus::port::PortSize::Word };
    board.port_write(Tsc(0), word(0x602), POWER_BUTTON_AND_TIMER);
    // Every 2.34 s the PM timer's highest bit changes.
    board.expire(Tsc(3 * TSC_HZ));
    assert_eq!(board.take_interrupt(1), None);
    board.mmio_write(Tsc(0), 1, Gpa(0xfee0_00f0), MmioSize::Dword, 0x1ff);
    assert_eq!(board.take_interrupt(1), Some(0x41));
    // Not again before its end.
    board.mmio_write(Tsc(0), 1, Gpa(0xfee0_00f0), MmioSize::Dword, 0x1ff);
    assert_eq!(board.take_interrupt(1), None);
}

#[test]
fn the_speaker_port_sees_the_interval_timer() {
    let mut board = board();
    // Gate of counter 2 on, one-shot of 0x10 ticks: the output rises.
    outb(&mut board, 0, 0x61, 1);
    for (port, value) in [(0x43, 0xb0), (0x42, 0x10), (0x42, 0)] {
        outb(&mut board, 0, port, value);
    }
    const OUT2: u32 = 1 << 5;
    let mut port_b = |now| board.port_read(Tsc(now), PortAccess::byte(0x61)) & OUT2;
    assert_eq!((port_b(1000), port_b(TSC_HZ)), (0, OUT2));
}

#[test]
fn a_timer_model_is_asked_again_after_an_access() {
    let mut board = board();
    let before = board.deadline();
    start_pit(&mut board);
    assert_ne!(board.deadline(), before);
}

/// x2APIC mode, software-enabled, the timer in TSC-deadline mode (SDM3 11.5, 11.12).
fn enable_timer(board: &mut Board, vcpu: usize) {
    for (msr, value) in [(0x1b, 0xfee0_0c00), (0x80f, 0x1ff), (0x832, 2 << 17 | 0x40)] {
        board.lapic_write(Tsc(0), vcpu, msr, value).unwrap();
    }
}

proptest! {
    /// Timers that are set, moved and stopped: none is missed, and each CPU is told of its own as soon as it is earlier.
    #[test]
    fn no_timer_is_missed(steps in proptest::collection::vec((0_usize..2, prop_oneof![Just(0), 1_u64..1000], 0_u64..100), 1..60)) {
        let mut board = board();
        (0..2).for_each(|vcpu| enable_timer(&mut board, vcpu));
        board.deadline_of(0);
        let (mut now, mut set) = (0, [None, None]);
        for (vcpu, delay, passed) in steps {
            let deadline = (delay != 0).then(|| Tsc(now + delay));
            let earlier = deadline.is_some() && deadline != set[vcpu];
            board.lapic_write(Tsc(now), vcpu, 0x6e0, deadline.map_or(0, |Tsc(deadline)| deadline)).unwrap();
            set[vcpu] = deadline;
            prop_assert!(board.deadline_moved() || !earlier);
            prop_assert!(set.iter().flatten().all(|set| board.deadline().is_some_and(|deadline| deadline <= *set)));
            let told = board.deadline_of(vcpu);
            prop_assert!(set[vcpu].is_none_or(|set| told.is_some_and(|told| told <= set)));
            prop_assert!(!board.deadline_moved());
            now += passed;
            if board.deadline().is_some_and(|deadline| deadline <= Tsc(now)) {
                board.expire(Tsc(now));
            }
            prop_assert!(board.deadline().is_none_or(|deadline| deadline > Tsc(now)));
            for (vcpu, set) in set.iter_mut().enumerate() {
                if set.take_if(|set| *set <= Tsc(now)).is_some() {
                    prop_assert_eq!(board.take_interrupt(vcpu), Some(0x40));
                    board.lapic_write(Tsc(now), vcpu, 0x80b, 0).unwrap();
                }
                prop_assert!(!board.interrupt_pending(vcpu));
            }
            board.deadline_of(0);
        }
    }
}

#[test]
fn each_cpu_sees_its_own_local_apic() {
    let mut board = board();
    let mut id = |vcpu| board.mmio_read(Tsc(0), vcpu, Gpa(0xfee0_0020), MmioSize::Dword) >> 24;
    assert_eq!((id(0), id(1)), (0, 1));
    // No such CPU.
    assert_eq!(id(2), 0xff);
}

#[test]
fn nobody_decodes_the_rest() {
    let mut board = board();
    assert_eq!(board.mmio_read(Tsc(0), 0, Gpa(0xd000_0000), MmioSize::Word), 0xffff);
    assert_eq!(board.port_read(Tsc(0), PortAccess::byte(0x5555)), 0xff);
}

#[test]
fn the_configuration_space_has_two_doors() {
    let mut board = board();
    let dword = |port| PortAccess { port, size: device_models::bus::port::PortSize::Dword };
    board.port_write(Tsc(0), dword(0xcf8), 1 << 31);
    let by_port = board.port_read(Tsc(0), dword(0xcfc));
    let by_memory = board.mmio_read(Tsc(0), 0, Gpa(0xe000_0000), MmioSize::Dword);
    assert_eq!(u64::from(by_port), by_memory);
    // The reset control register lies between the ports of the other mechanism.
    outb(&mut board, 0, 0xcf9, 6);
    let event = (PowerEvent::Reset, PowerSource::ResetControl);
    assert!(board.power_pending());
    assert_eq!(board.take_power(), Some(event));
}

#[test]
fn a_keyboard_answers_its_controller() {
    let mut board = board();
    const ECHO: u8 = 0xee;
    outb(&mut board, 0, 0x60, ECHO);
    assert_eq!(board.port_read(Tsc(0), PortAccess::byte(0x60)), u32::from(ECHO));
}

#[test]
fn address_line_20_has_one_gate_with_two_handles() {
    const FAST_A20: u32 = 1 << 1;
    let mut board = board();
    let port_a = |board: &mut Board| board.port_read(Tsc(0), PortAccess::byte(0x92)) & FAST_A20;
    assert_eq!(port_a(&mut board), FAST_A20);
    // The keyboard controller's output port without the gate's bit.
    for (port, value) in [(0x64, 0xd1), (0x60, 0xdd)] {
        outb(&mut board, 0, port, value);
    }
    assert_eq!(port_a(&mut board), 0);
    outb(&mut board, 0, 0x92, FAST_A20 as u8);
    outb(&mut board, 0, 0x64, 0xd0);
    assert_eq!(board.port_read(Tsc(0), PortAccess::byte(0x60)) & FAST_A20, FAST_A20);
}

#[test]
fn serial_output_survives_a_reset() {
    let mut old = board();
    outb(&mut old, 0, 0x3f8, b'x');
    let mut new = board();
    new.succeed(&mut old);
    assert!(old.serial().is_empty() && !new.serial().is_empty());
    let mut output = Vec::new();
    new.serial().take(HOST, &mut output);
    assert_eq!(output, b"x");
    assert!(new.serial().is_empty());
}

/// All of it but what boots: there is a loader for Linux only.
#[test]
fn the_machine_of_the_seed_is_built() {
    let config = VmmConfig::parse(crate::config::tests::SEED).unwrap();
    let board = build(&config).unwrap();
    assert!(board.models.pit.is_some() && board.models.lapics.len() == 1);
}

#[test]
fn machines_that_cannot_be_are_named() {
    let machine = |nodes: &str| {
        let ram = "<mem size=\"64M\"/>";
        let xml = format!("<config><machine>{ram}{nodes}</machine></config>");
        build(&VmmConfig::parse(&xml).unwrap()).err().map(|error| error.to_string())
    };
    let cpu = "<vcpu/><lapic/>";
    assert_eq!(machine(cpu), None);
    let cases = [
        ("<vcpu/>", "there must be one node <lapic> for each node <vcpu>, and at least one <vcpu>"),
        ("", "there must be one node <lapic> for each node <vcpu>, and at least one <vcpu>"),
        (
            "<scp io_port_a=\"0x92\" io_port_b=\"0x61\"/><scp io_port_a=\"0x93\" io_port_b=\"0x62\"/>",
            "more than one node <scp>",
        ),
        (
            "<pic io_base=\"0xa0\" irq=\"2\" elcr_base=\"0x4d1\"/>",
            "nodes <pic>: there must be a master without irq, followed by at most one slave with irq",
        ),
        ("<nullio io_base=\"0x600\"/>", "the ACPI fixed hardware claims port 0x600 of <nullio>"),
        (
            "<serial io_base=\"0x3f8\" irq=\"4\" host_serial=\"1\"/><serial io_base=\"0x2f8\" irq=\"3\" host_serial=\"1\"/>",
            "two nodes <serial> have host_serial 0x1",
        ),
        (
            "<pcihostbridge bus_num=\"0\" bus_count=\"1\"/><pcihostbridge bus_num=\"1\" bus_count=\"1\"/>",
            "more than one node <pcihostbridge>",
        ),
        (
            "<ioapic/><pcihostbridge bus_num=\"0\" bus_count=\"1\" mem_base=\"0xfec00000\"/>",
            "<pcihostbridge> and <ioapic> overlap",
        ),
    ];
    for (nodes, message) in cases {
        let cpus = if nodes.is_empty() || nodes == "<vcpu/>" { "" } else { cpu };
        assert_eq!(machine(&format!("{nodes}{cpus}")).as_deref(), Some(message), "{nodes}");
    }
}
