//! The sequences with which Linux 6.1 probes and calibrates the board's devices.

use device_models::bus::port::PortSize;
use device_models::pmtimer::PM_TIMER_HZ;
use device_models::ps2::keyboard::Key;

use super::pc::{Pc, TSC_HZ};
use super::*;

const COM1: u16 = 0x3f8;
const HZ: u64 = 250;

fn init_8259a(pc: &mut Pc) {
    for (port, value) in [
        (0x21, 0xff),
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 0x04),
        (0x21, 0x01),
        (0xa0, 0x11),
        (0xa1, 0x38),
        (0xa1, 0x02),
        (0xa1, 0x01),
        (0x21, 0xfb),
        (0xa1, 0xff),
    ] {
        pc.outb(port, value);
    }
}

/// mask_and_ack_8259A of a line of the master: specific EOI.
fn ack_8259a(pc: &mut Pc, line: u8) {
    pc.outb(0x20, 0x60 + line);
}

fn start_pit_periodic(pc: &mut Pc) {
    let latch = (1_193_182 + HZ / 2) / HZ;
    pc.outb(0x43, 0x34);
    pc.outb(0x40, latch as u8);
    pc.outb(0x40, (latch >> 8) as u8);
}

#[test]
fn serial8250_autoconfig_finds_a_16550a() {
    let mut b = Pc::new();
    // autoconfig(): IER is there.
    b.outb(COM1 + 1, 0);
    b.outb(0x80, 0xff);
    assert_eq!(b.inb(COM1 + 1) & 0x0f, 0);
    b.outb(COM1 + 1, 0x0f);
    assert_eq!(b.inb(COM1 + 1) & 0x0f, 0x0f);
    b.outb(COM1 + 1, 0);
    // Loop-back shows RTS and OUT2 as CTS and DCD.
    b.outb(COM1 + 4, 0x10 | 0x0a);
    assert_eq!(b.inb(COM1 + 6) & 0xf0, 0x90);
    b.outb(COM1 + 4, 0);
    // The FIFO.
    b.outb(COM1 + 3, 0xbf);
    b.outb(COM1 + 2, 0);
    b.outb(COM1 + 3, 0);
    b.outb(COM1 + 2, 0x01);
    assert_eq!(b.inb(COM1 + 2) >> 6, 3);
    // autoconfig_16550a(): no EFR (the offset shows IIR), not a NatSemi, not a 16750, not an XScale.
    for lcr in [0x80, 0xbf] {
        b.outb(COM1 + 3, lcr);
        assert_ne!(b.inb(COM1 + 2), 0);
    }
    b.outb(COM1 + 3, 0);
    let mcr = b.inb(COM1 + 4);
    b.outb(COM1 + 4, mcr ^ 0x10);
    b.outb(COM1 + 3, 0xe0);
    assert_eq!((b.inb(COM1 + 2) ^ mcr) & 0x10, 0);
    b.outb(COM1 + 3, 0);
    b.outb(COM1 + 4, mcr);
    b.outb(COM1 + 2, 0x01);
    assert_eq!(b.inb(COM1 + 2) >> 5, 6);
    b.outb(COM1 + 2, 0);
    b.outb(COM1 + 3, 0x80);
    b.outb(COM1 + 2, 0x21);
    assert_eq!(b.inb(COM1 + 2) >> 5, 6);
    b.outb(COM1 + 3, 0);
    b.outb(COM1 + 1, 0x40);
    assert_eq!(b.inb(COM1 + 1) & 0x40, 0);
}

#[test]
fn serial8250_startup_sees_neither_thre_nor_txen_bug() {
    let mut b = Pc::new();
    b.outb(COM1 + 4, 0x08);
    b.outb(COM1 + 1, 0x02);
    let first = b.inb(COM1 + 2);
    b.outb(COM1 + 1, 0);
    b.outb(COM1 + 1, 0x02);
    let second = b.inb(COM1 + 2);
    b.outb(COM1 + 1, 0);
    assert_eq!((first & 1, second & 1), (0, 0), "THRE is asserted, and again");
    b.outb(COM1 + 1, 0x02);
    assert_eq!(b.inb(COM1 + 5) & 0x40, 0x40);
    assert_eq!(b.inb(COM1 + 2) & 1, 0);
}

#[test]
fn serial_interrupt_driven_output_and_input() {
    let mut b = Pc::new();
    init_8259a(&mut b);
    b.outb(0x21, 0xfb & !(1 << 4));
    for (reg, value) in [(3, 0x83), (0, 1), (1, 0), (3, 0x03), (2, 0x01), (2, 0x81), (4, 0x0b), (1, 0x05)] {
        b.outb(COM1 + reg, value);
    }
    let text = b"Hello, world: longer than one FIFO\n";
    let mut sent = 0;
    b.outb(COM1 + 1, 0x07);
    while b.interrupt_pending() {
        assert_eq!(b.take_interrupt(), Some(0x34));
        ack_8259a(&mut b, 4);
        let iir = b.inb(COM1 + 2);
        assert_eq!(iir & 0x0f, 0x02);
        let chunk = &text[sent..text.len().min(sent + 16)];
        chunk.iter().for_each(|byte| b.outb(COM1, *byte));
        sent += chunk.len();
        if sent == text.len() {
            b.outb(COM1 + 1, 0x05);
        }
    }
    assert_eq!(b.serial(), text);
    assert_eq!(b.board.receive(b.now, HOST, b"x"), 1);
    assert!(!b.interrupt_pending());
    b.advance(TSC_HZ / 1000);
    assert_eq!(b.take_interrupt(), Some(0x34));
    assert_eq!(b.inb(COM1 + 2) & 0x0f, 0x0c);
    assert_eq!((b.inb(COM1 + 5) & 1, b.inb(COM1)), (1, b'x'));
    assert_eq!(b.inb(COM1 + 2) & 0x0f, 0x01);
}

/// pit_expect_msb(): when the counter's high byte leaves `value`, if it was seen often enough.
fn pit_expect_msb(b: &mut Pc, value: u8) -> Option<u64> {
    let mut count = 0;
    let mut tsc = 0;
    loop {
        b.inb(0x42);
        if b.inb(0x42) != value {
            break;
        }
        tsc = b.now.0;
        count += 1;
    }
    (count > 5).then_some(tsc)
}

#[test]
fn quick_pit_calibrate() {
    let mut b = Pc::new();
    let gate = b.inb(0x61) & !0x02 | 0x01;
    b.outb(0x61, gate);
    b.outb(0x43, 0xb0);
    b.outb(0x42, 0xff);
    b.outb(0x42, 0xff);
    b.inb(0x42);
    b.inb(0x42);
    let start = pit_expect_msb(&mut b, 0xff).unwrap();
    let periods: u64 = 100;
    let mut end = start;
    for i in 1..=periods {
        end = pit_expect_msb(&mut b, 0xff - i as u8).unwrap();
    }
    let khz = (end - start) * 1_193_182 / (periods * 256 * 1000);
    assert!(khz.abs_diff(TSC_HZ / 1000) < TSC_HZ / 1000 / 2000, "{khz} kHz");
}

#[test]
fn pit_calibrate_tsc_by_port_61() {
    let mut b = Pc::new();
    let gate = b.inb(0x61) & !0x02 | 0x01;
    b.outb(0x61, gate);
    b.outb(0x43, 0xb0);
    let latch = 1_193_182 / (1000 / 10);
    b.outb(0x42, latch as u8);
    b.outb(0x42, (latch >> 8) as u8);
    let start = b.now.0;
    let mut polls = 0;
    while b.inb(0x61) & 0x20 == 0 {
        polls += 1;
    }
    assert!(polls > 1000);
    let khz = (b.now.0 - start) / 10;
    assert!(khz.abs_diff(TSC_HZ / 1000) < TSC_HZ / 1000 / 1000, "{khz} kHz");
}

#[test]
fn pm_timer_agrees_with_tsc() {
    let mut b = Pc::new();
    let access = PortAccess { port: 0x8000, size: PortSize::Dword };
    let (t0, p0) = (b.now.0 + b.access_cost, b.input(access));
    b.advance(TSC_HZ);
    let (t1, p1) = (b.now.0 + b.access_cost, b.input(access));
    let expected = (t1 - t0) as u128 * u128::from(PM_TIMER_HZ.get()) / u128::from(TSC_HZ);
    assert!(u128::from(p1.wrapping_sub(p0)).abs_diff(expected) <= 1);
}

#[test]
fn timer_through_the_8259_pair() {
    let mut b = Pc::new();
    init_8259a(&mut b);
    start_pit_periodic(&mut b);
    b.outb(0x21, 0xfa);
    let mut ticks = 0;
    for _ in 0..HZ * 10 {
        b.advance(TSC_HZ / HZ / 10);
        if b.interrupt_pending() {
            assert_eq!(b.take_interrupt(), Some(0x30));
            ack_8259a(&mut b, 0);
            ticks += 1;
        }
    }
    assert!((HZ - 1..=HZ + 1).contains(&ticks), "{ticks} ticks in a second");
}

#[test]
fn timer_through_ioapic_pin_2() {
    let mut b = Pc::new();
    init_8259a(&mut b);
    b.outb(0x21, 0xff);
    b.lapic_write(0xf0, 0x1ff);
    b.lapic_write(0x350, 0x1_0700);
    b.lapic_write(0xd0, 1 << 24);
    start_pit_periodic(&mut b);
    // Edge, fixed, logical destination 1, as for an ISA line with flat destinations.
    b.ioapic_write(0x15, 1 << 24);
    b.ioapic_write(0x14, 0x0830);
    let mut ticks = 0;
    for _ in 0..HZ * 10 {
        b.advance(TSC_HZ / HZ / 10);
        if let Some(vector) = b.take_interrupt() {
            assert_eq!(vector, 0x30);
            b.lapic_write(0xb0, 0);
            ticks += 1;
        }
    }
    assert!((HZ - 1..=HZ + 1).contains(&ticks), "{ticks} ticks in a second");
}

#[test]
fn calibrate_apic_clock_against_the_pit() {
    let mut b = Pc::new();
    init_8259a(&mut b);
    start_pit_periodic(&mut b);
    b.outb(0x21, 0xfa);
    b.lapic_write(0xf0, 0x1ff);
    // __setup_APIC_LVTT: divide by 16, one-shot, masked; then the longest count.
    b.lapic_write(0x320, 0x1_00ec);
    b.lapic_write(0x3e0, 0x3);
    b.lapic_write(0x380, u32::MAX);
    let next_tick = |b: &mut Pc| {
        while !b.interrupt_pending() {
            b.advance(20_000);
        }
        b.take_interrupt();
        ack_8259a(b, 0);
        b.lapic_read(0x390)
    };
    let first = next_tick(&mut b);
    let mut last = first;
    for _ in 0..HZ / 10 {
        last = next_tick(&mut b);
    }
    let per_second = u64::from(first - last) * 10 * 16;
    assert!(per_second.abs_diff(TSC_HZ) < TSC_HZ / 1000, "{per_second} Hz");
}

#[test]
fn lapic_timer_keeps_1000_hz() {
    let mut b = Pc::new();
    b.lapic_write(0xf0, 0x1ff);
    b.lapic_write(0x3e0, 0x3);
    b.lapic_write(0x320, 0x2_00ec);
    b.lapic_write(0x380, (TSC_HZ / 16 / 1000) as u32);
    let mut ticks = 0;
    for _ in 0..10_000 {
        b.advance(TSC_HZ / 10_000);
        if b.take_interrupt().is_some() {
            b.lapic_write(0xb0, 0);
            ticks += 1;
        }
    }
    assert!((999..=1000).contains(&ticks), "{ticks} ticks in a second");
}

fn kbc_command(b: &mut Pc, command: u8) {
    b.outb(0x64, command);
}

fn kbc_read(b: &mut Pc) -> (u8, u8) {
    let status = b.inb(0x64);
    assert_eq!(status & 1, 1, "output buffer full");
    (status, b.inb(0x60))
}

#[test]
fn i8042_probe_finds_controller_and_aux_port() {
    let mut b = Pc::new();
    // i8042_controller_check, i8042_controller_selftest.
    assert_eq!(b.inb(0x64) & 1, 0);
    kbc_command(&mut b, 0xaa);
    assert_eq!(kbc_read(&mut b).1, 0x55);
    // i8042_controller_init: the command byte, interrupts and keyboard off.
    kbc_command(&mut b, 0x20);
    let ctr = kbc_read(&mut b).1;
    assert_eq!(ctr & 0x40, 0x40, "translating");
    let ctr = (ctr | 0x10) & !0x03;
    kbc_command(&mut b, 0x60);
    b.outb(0x60, ctr);
    // i8042_check_mux: what goes in comes back, so there is no multiplexer.
    for byte in [0xf0, 0x56, 0xa4] {
        kbc_command(&mut b, 0xd3);
        b.outb(0x60, byte);
        assert_eq!(kbc_read(&mut b), (0x3d & !0x08, byte));
    }
    // i8042_check_aux: loop, disable, enable.
    kbc_command(&mut b, 0xd3);
    b.outb(0x60, 0x5a);
    let (status, byte) = kbc_read(&mut b);
    assert_eq!((status & 0x20, byte), (0x20, 0x5a));
    for (command, bit) in [(0xa7, 0x20), (0xa8, 0x00)] {
        kbc_command(&mut b, command);
        kbc_command(&mut b, 0x20);
        assert_eq!(kbc_read(&mut b).1 & 0x20, bit);
    }
    // The aux interrupt test: enable it and loop a byte.
    init_8259a(&mut b);
    b.outb(0xa1, 0xef);
    kbc_command(&mut b, 0x60);
    b.outb(0x60, ctr | 0x02);
    kbc_command(&mut b, 0xd3);
    b.outb(0x60, 0xa5);
    assert_eq!(b.take_interrupt(), Some(0x3c));
    assert_eq!(kbc_read(&mut b).1, 0xa5);
}

#[test]
fn atkbd_and_psmouse_identify_and_deliver() {
    let mut b = Pc::new();
    init_8259a(&mut b);
    b.outb(0x21, 0xf9);
    b.outb(0xa1, 0xef);
    b.outb(0x60, 0xf2);
    let id: Vec<u8> = (0..3).map(|_| kbc_read(&mut b).1).collect();
    assert_eq!(id, [0xfa, 0xab, 0x41]);
    kbc_command(&mut b, 0xd4);
    b.outb(0x60, 0xf2);
    assert_eq!((kbc_read(&mut b).1, kbc_read(&mut b).1), (0xfa, 0x00));
    kbc_command(&mut b, 0xd4);
    b.outb(0x60, 0xf4);
    assert_eq!(kbc_read(&mut b).1, 0xfa);
    while b.take_interrupt().is_some() {
        b.outb(0xa0, 0x20);
        b.outb(0x20, 0x20);
    }
    b.key(Key { code: 0x1c, extended: false }, true);
    assert_eq!(b.take_interrupt(), Some(0x31));
    assert_eq!(b.inb(0x60), 0x1e);
    ack_8259a(&mut b, 1);
    b.motion(5, 0);
    for byte in [0x08, 5, 0] {
        assert_eq!(b.take_interrupt(), Some(0x3c));
        assert_eq!(b.inb(0x60), byte);
        b.outb(0xa0, 0x64);
        b.outb(0x20, 0x62);
    }
    assert!(!b.interrupt_pending());
}

proptest! {
    /// Whatever the guest does, each access settles and the board goes on.
    #[test]
    fn hostile_accesses_settle(ops in proptest::collection::vec((0u8..8, any::<u32>(), any::<u32>()), 0..400)) {
        const PORTS: [u16; 12] = [0x20, 0x40, 0x60, 0x61, 0x64, 0x92, 0xa0, 0x3f8, 0x4d0, 0x8000, 0x600, 0x604];
        let mut b = Pc::new();
        for (op, place, value) in ops {
            let port = PORTS[place as usize % PORTS.len()] + (value >> 29) as u16;
            match op {
                0..=2 => b.outb(port, value as u8),
                3 => { b.input(PortAccess { port, size: PortSize::Dword }); }
                4 => b.lapic_write(u64::from(place % 0x40) << 4, value),
                5 => b.ioapic_write((place % 0x40) as u8, value),
                6 => { b.take_interrupt(); }
                _ => b.advance(u64::from(value % 100_000)),
            }
        }
    }
}

#[test]
fn reboot_and_power_off() {
    let mut b = Pc::new();
    for (port, value, event, source) in [
        (0x64, 0xfe, PowerEvent::Reset, PowerSource::KeyboardController),
        (0x92, 0x01, PowerEvent::Reset, PowerSource::FastReset),
        (0x605, 0x34, PowerEvent::Off, PowerSource::AcpiSleep),
    ] {
        b.outb(port, value);
        assert_eq!(b.board.take_power(), Some((event, source)));
    }
    assert_eq!(b.board.take_power(), None);
}
