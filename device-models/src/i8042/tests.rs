use super::*;
use crate::recorder::Recorder;
use proptest::prelude::*;

const DATA: u16 = 0x60;
const COMMAND: u16 = 0x64;
const KEYBOARD: IrqLine = IrqLine(1);
const AUX: IrqLine = IrqLine(12);

fn kbc() -> (I8042, Recorder) {
    (I8042::new(DATA, KEYBOARD, AUX), Recorder::default())
}

#[test]
fn keyboard_bytes_are_translated_and_raise_irq_1_each() {
    let (mut kbc, mut fx) = kbc();
    fx.from_device.extend([0x1c, 0xf0, 0x1c].map(|b| (Ps2Port::Keyboard, b)));
    kbc.poll(&mut fx);
    assert_eq!(kbc.read(COMMAND, &mut fx) & 0x21, 0x01);
    assert_eq!(kbc.read(DATA, &mut fx), 0x1e);
    assert_eq!(kbc.read(DATA, &mut fx), 0x9e);
    assert_eq!(kbc.read(COMMAND, &mut fx) & 0x21, 0x00);
    let edges = [(KEYBOARD, true), (KEYBOARD, false)];
    assert_eq!(fx.irqs, [edges, edges].concat());
}

#[test]
fn aux_bytes_are_marked_and_wait_behind_the_buffer() {
    let (mut kbc, mut fx) = kbc();
    fx.from_device.extend([(Ps2Port::Aux, 0x08), (Ps2Port::Keyboard, 0x1c)]);
    kbc.poll(&mut fx);
    assert_eq!(kbc.read(DATA, &mut fx), 0x1e);
    assert_eq!(kbc.read(COMMAND, &mut fx) & 0x21, 0x21);
    assert_eq!(kbc.read(DATA, &mut fx), 0x08);
    assert_eq!(fx.irqs[2..], [(AUX, true), (AUX, false)]);
}

#[test]
fn reset_lines() {
    let (mut kbc, mut fx) = kbc();
    kbc.write(COMMAND, 0xff, &mut fx);
    assert!(fx.power.is_empty());
    kbc.write(COMMAND, 0xfe, &mut fx);
    kbc.write(COMMAND, 0xd1, &mut fx);
    kbc.write(DATA, 0x02, &mut fx);
    assert_eq!(fx.power, [(PowerEvent::Reset, PowerSource::KeyboardController); 2]);
}

#[test]
fn a20_by_the_output_port() {
    let (mut kbc, mut fx) = kbc();
    kbc.write(COMMAND, 0xd1, &mut fx);
    kbc.write(DATA, 0xdd, &mut fx);
    kbc.write(COMMAND, 0xd0, &mut fx);
    assert_eq!(kbc.read(DATA, &mut fx) & 2, 0);
    assert!(!fx.a20());
    kbc.write(COMMAND, 0xdf, &mut fx);
    assert!(fx.a20());
    // Somebody else closes the gate.
    fx.set_a20(false);
    kbc.write(COMMAND, 0xd0, &mut fx);
    assert_eq!(kbc.read(DATA, &mut fx) & 2, 0);
    assert!(fx.power.is_empty());
}

#[test]
fn a_missing_device_times_out() {
    let (mut kbc, mut fx) = kbc();
    fx.unplugged = true;
    kbc.write(COMMAND, 0xd4, &mut fx);
    kbc.write(DATA, 0xf2, &mut fx);
    assert_eq!(kbc.read(COMMAND, &mut fx) & 0x61, 0x61);
    assert_eq!(kbc.read(DATA, &mut fx), 0xfe);
    assert_eq!(kbc.read(COMMAND, &mut fx) & 0x61, 0x00);
}

#[test]
fn disabled_ports_hold_their_bytes() {
    let (mut kbc, mut fx) = kbc();
    kbc.write(COMMAND, 0xad, &mut fx);
    fx.from_device.push_back((Ps2Port::Keyboard, 0x1c));
    kbc.poll(&mut fx);
    assert_eq!(kbc.read(COMMAND, &mut fx) & 1, 0);
    kbc.write(COMMAND, 0xae, &mut fx);
    assert_eq!(kbc.read(DATA, &mut fx), 0x1e);
}

#[test]
fn data_for_the_keyboard_enables_it() {
    let (mut kbc, mut fx) = kbc();
    kbc.write(COMMAND, 0xad, &mut fx);
    fx.from_device.push_back((Ps2Port::Keyboard, 0xfa));
    kbc.write(DATA, 0xf4, &mut fx);
    assert_eq!(fx.to_device, [(Ps2Port::Keyboard, 0xf4)]);
    assert_eq!(kbc.read(DATA, &mut fx), 0xfa);
}

#[test]
fn the_self_test_empties_the_buffer() {
    let (mut kbc, mut fx) = kbc();
    fx.from_device.push_back((Ps2Port::Keyboard, 0x1c));
    kbc.poll(&mut fx);
    kbc.write(COMMAND, 0xaa, &mut fx);
    assert_eq!(kbc.read(DATA, &mut fx), 0x55);
}

proptest! {
    #[test]
    fn random_accesses_keep_the_lines_honest(ops in proptest::collection::vec((0u8..5, any::<u8>()), 0..200)) {
        let (mut kbc, mut fx) = kbc();
        for (op, value) in ops {
            match op {
                0 => kbc.write(DATA, value, &mut fx),
                1 => kbc.write(COMMAND, value, &mut fx),
                2 => { kbc.read(DATA, &mut fx); }
                3 => fx.from_device.push_back((Ps2Port::Keyboard, value)),
                _ => { fx.from_device.push_back((Ps2Port::Aux, value)); kbc.poll(&mut fx); }
            }
            let source = kbc.output.map(|output| output.source);
            prop_assert_eq!(kbc.keyboard_irq.is_active(), source == Some(Ps2Port::Keyboard) && kbc.mode() & 1 != 0);
            prop_assert_eq!(kbc.aux_irq.is_active(), source == Some(Ps2Port::Aux) && kbc.mode() & 2 != 0);
        }
    }
}
