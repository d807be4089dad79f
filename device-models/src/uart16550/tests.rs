use super::*;
use crate::recorder::{Recorder, at_us, clock};
use proptest::prelude::*;

const BASE: u16 = 0x3f8;
const T0: Tsc = Tsc(0);

fn uart() -> (Uart16550, Recorder) {
    let uart = Uart16550::new(BASE, IrqLine(4), HostSerial(0x4711), clock());
    (uart, Recorder::default())
}

/// FIFO on with trigger `fcr`, interrupts on, OUT2, 115200 8N1.
fn opened(fcr: u8) -> (Uart16550, Recorder) {
    let (mut uart, mut fx) = uart();
    for (reg, value) in [(3, 0x83), (0, 1), (1, 0), (3, 3), (2, fcr), (4, 0x0b), (1, 0x0d)] {
        uart.write(T0, BASE + reg, value, &mut fx);
    }
    (uart, fx)
}

#[test]
fn a_byte_leaves_at_once_and_thre_fires_again() {
    let (mut uart, mut fx) = opened(0xc1);
    uart.write(T0, BASE + 1, 0x0f, &mut fx);
    assert_eq!(fx.irqs, [(IrqLine(4), true)]);
    assert_eq!(uart.read(T0, BASE + 2, &mut fx), 0xc2);
    assert_eq!(uart.read(T0, BASE + 2, &mut fx), 0xc1, "reading acknowledged it");
    assert_eq!(fx.irqs.last(), Some(&(IrqLine(4), false)));
    uart.write(T0, BASE, b'x', &mut fx);
    assert_eq!(fx.serial, b"x");
    assert_eq!(fx.irqs.last(), Some(&(IrqLine(4), true)));
    assert_eq!(uart.read(T0, BASE + 5, &mut fx), 0x60);
}

#[test]
fn trigger_level_then_timeout() {
    let (mut uart, mut fx) = opened(0x81);
    for byte in 0..7 {
        uart.receive(T0, byte, &mut fx).unwrap();
    }
    assert!(fx.irqs.is_empty());
    assert_eq!(uart.read(T0, BASE + 2, &mut fx), 0xc1);
    // 40 bits at 115200 baud.
    let due = uart.deadline().unwrap();
    assert!(due > at_us(346) && due < at_us(348));
    uart.expire(due, &mut fx);
    assert_eq!(uart.read(due, BASE + 2, &mut fx), 0xcc);
    uart.read(due, BASE, &mut fx);
    assert_eq!(fx.irqs, [(IrqLine(4), true), (IrqLine(4), false)]);
    for byte in 0..2 {
        uart.receive(due, byte, &mut fx).unwrap();
    }
    assert_eq!(uart.read(due, BASE + 2, &mut fx), 0xc4);
}

#[test]
fn a_full_receiver_refuses_and_keeps_order() {
    let (mut uart, mut fx) = opened(0x01);
    for byte in 0..16 {
        uart.receive(T0, byte, &mut fx).unwrap();
    }
    assert_eq!(uart.receive(T0, 16, &mut fx), Err(Full));
    for byte in 0..16 {
        assert_eq!(uart.read(T0, BASE + 5, &mut fx) & 3, 1);
        assert_eq!(uart.read(T0, BASE, &mut fx), byte);
    }
    assert_eq!(uart.read(T0, BASE + 5, &mut fx) & 1, 0);
}

#[test]
fn out2_gates_the_line() {
    let (mut uart, mut fx) = opened(0x01);
    uart.write(T0, BASE + 4, 0x03, &mut fx);
    uart.receive(T0, 1, &mut fx).unwrap();
    assert!(fx.irqs.is_empty());
    uart.write(T0, BASE + 4, 0x0b, &mut fx);
    assert_eq!(fx.irqs, [(IrqLine(4), true)]);
}

#[test]
fn loopback_routes_data_and_modem_lines_inside() {
    let (mut uart, mut fx) = opened(0x01);
    uart.write(T0, BASE + 4, 0x1f, &mut fx);
    assert_eq!(uart.read(T0, BASE + 6, &mut fx) & 0xf0, 0xf0);
    uart.write(T0, BASE + 4, 0x1a, &mut fx);
    assert_eq!(uart.read(T0, BASE + 6, &mut fx) & 0xf0, 0x90);
    uart.write(T0, BASE, 0x5a, &mut fx);
    assert!(fx.serial.is_empty());
    assert_eq!(uart.read(T0, BASE, &mut fx), 0x5a);
    for _ in 0..17 {
        uart.write(T0, BASE, 0x5a, &mut fx);
    }
    assert_eq!(uart.read(T0, BASE + 2, &mut fx), 0xc6, "overrun first");
    assert_eq!(uart.read(T0, BASE + 5, &mut fx) & 2, 2);
    assert_eq!(uart.read(T0, BASE + 5, &mut fx) & 2, 0);
}

#[test]
fn modem_status_deltas_are_cleared_by_reading() {
    let (mut uart, mut fx) = opened(0x01);
    uart.write(T0, BASE + 4, 0x1b, &mut fx);
    uart.write(T0, BASE + 4, 0x0b, &mut fx);
    assert_eq!(uart.read(T0, BASE + 6, &mut fx), 0xb0, "nothing changed");
    uart.write(T0, BASE + 4, 0x14, &mut fx);
    uart.write(T0, BASE + 4, 0x0b, &mut fx);
    assert_eq!(uart.read(T0, BASE + 2, &mut fx), 0xc0);
    assert_eq!(uart.read(T0, BASE + 6, &mut fx), 0xbf, "RI fell, all others rose");
    assert_eq!(uart.read(T0, BASE + 2, &mut fx), 0xc1);
}

proptest! {
    #[test]
    fn the_line_always_shows_the_gated_source(ops in proptest::collection::vec((0u8..4, 0u16..8, any::<u8>(), 0u64..1_000_000), 0..300)) {
        let (mut uart, mut fx) = opened(0xc1);
        let mut now = T0;
        for (op, reg, value, delta) in ops {
            now = now.after(delta);
            match op {
                0 => { uart.read(now, BASE + reg, &mut fx); }
                1 => uart.write(now, BASE + reg, value, &mut fx),
                2 => { let _ = uart.receive(now, value, &mut fx); }
                _ => uart.expire(now, &mut fx),
            }
            let line = fx.irqs.last().is_some_and(|(_, active)| *active);
            let gated = uart.mcr & 0x18 == 0x08 && uart.source() != iir::NONE;
            prop_assert_eq!(line, gated);
            prop_assert!(uart.rx.len() <= Fifo::CAPACITY);
        }
    }
}

/// Only a read by the processor, or a reset of the FIFO, clears a timeout that has occurred (data sheet, 8.4.1 C and D).
#[test]
fn a_byte_does_not_withdraw_a_timeout() {
    let (mut uart, mut fx) = opened(0x81);
    uart.receive(T0, b'a', &mut fx).unwrap();
    let due = uart.deadline().unwrap();
    uart.expire(due, &mut fx);
    uart.receive(due, b'b', &mut fx).unwrap();
    assert_eq!(fx.irqs, [(IrqLine(4), true)]);
    assert_eq!(uart.read(due, BASE + 2, &mut fx), 0xcc);
    assert_eq!(uart.deadline(), None);
    assert_eq!(uart.read(due, BASE, &mut fx), b'a');
    assert_eq!(fx.irqs.last(), Some(&(IrqLine(4), false)));
    // The other byte waits from here on.
    let due = uart.deadline().unwrap();
    uart.expire(due, &mut fx);
    uart.write(due, BASE + 2, 0x81, &mut fx);
    assert_eq!(fx.irqs.last(), Some(&(IrqLine(4), true)), "another trigger level");
    uart.write(due, BASE + 2, 0x83, &mut fx);
    assert_eq!(fx.irqs.last(), Some(&(IrqLine(4), false)), "an empty FIFO");
}
