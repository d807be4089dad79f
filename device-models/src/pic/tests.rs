use super::*;
use crate::recorder::Recorder;
use proptest::prelude::*;

const CMD: u16 = 0x20;
const DATA: u16 = 0x21;
const EOI: u8 = 0x20;

fn master(icw4: u8) -> (Pic, Recorder) {
    let mut pic = Pic::new(CMD, 0x4d0, IrqLine(0), None);
    let mut fx = Recorder::default();
    for (port, value) in [(CMD, 0x11), (DATA, 0x30), (DATA, 0x04), (DATA, icw4)] {
        pic.write(port, value, &mut fx);
    }
    (pic, fx)
}

fn pulse(pic: &mut Pic, fx: &mut Recorder, line: u8) {
    pic.set_line(IrqLine(line), false, fx);
    pic.set_line(IrqLine(line), true, fx);
}

#[test]
fn fixed_priority_and_nesting() {
    let (mut pic, mut fx) = master(0x01);
    pulse(&mut pic, &mut fx, 5);
    assert_eq!(fx.intr, [true]);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x35));
    pulse(&mut pic, &mut fx, 6);
    assert_eq!(fx.intr, [true, false], "6 waits for 5");
    pulse(&mut pic, &mut fx, 3);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x33));
    pic.write(CMD, EOI, &mut fx);
    pic.write(CMD, 0x0b, &mut fx);
    assert_eq!(pic.read(CMD, &mut fx), 1 << 5, "EOI ended the innermost");
    pic.write(CMD, 0x65, &mut fx);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x36));
}

#[test]
fn request_gone_is_spurious_and_sets_nothing_in_service() {
    let (mut pic, mut fx) = master(0x01);
    pulse(&mut pic, &mut fx, 4);
    pic.set_line(IrqLine(4), false, &mut fx);
    assert_eq!(fx.intr, [true, false]);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x37));
    pic.write(CMD, 0x0b, &mut fx);
    assert_eq!(pic.read(CMD, &mut fx), 0);
}

#[test]
fn edge_needs_a_new_edge_and_level_does_not() {
    let (mut pic, mut fx) = master(0x01);
    pic.write(0x4d0, 0xff, &mut fx);
    assert_eq!(pic.read(0x4d0, &mut fx), 0xf8, "0, 1, 2 stay edge");
    pulse(&mut pic, &mut fx, 0);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x30));
    pic.write(CMD, EOI, &mut fx);
    assert_eq!(fx.intr.last(), Some(&false));
    pulse(&mut pic, &mut fx, 5);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x35));
    assert_eq!(fx.intr.last(), Some(&false));
    pic.write(CMD, EOI, &mut fx);
    assert_eq!(fx.intr.last(), Some(&true), "still high");
    pic.set_line(IrqLine(5), false, &mut fx);
    assert_eq!(fx.intr.last(), Some(&false));
}

#[test]
fn auto_eoi_leaves_nothing_in_service_and_can_rotate() {
    let (mut pic, mut fx) = master(0x03);
    pic.write(CMD, 0x80, &mut fx);
    pulse(&mut pic, &mut fx, 0);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x30));
    pulse(&mut pic, &mut fx, 0);
    pulse(&mut pic, &mut fx, 7);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x37), "0 is now lowest");
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x30));
}

#[test]
fn rotate_on_eoi_and_set_priority() {
    let (mut pic, mut fx) = master(0x01);
    pulse(&mut pic, &mut fx, 3);
    pic.acknowledge(&mut fx);
    pic.write(CMD, 0xa0, &mut fx);
    pulse(&mut pic, &mut fx, 3);
    pulse(&mut pic, &mut fx, 4);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x34));
    pic.write(CMD, EOI, &mut fx);
    pic.write(CMD, 0xc2, &mut fx);
    pulse(&mut pic, &mut fx, 4);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x33));
}

#[test]
fn special_mask_lets_lower_levels_through() {
    let (mut pic, mut fx) = master(0x01);
    pulse(&mut pic, &mut fx, 3);
    pic.acknowledge(&mut fx);
    pulse(&mut pic, &mut fx, 6);
    assert_eq!(fx.intr.last(), Some(&false));
    pic.write(DATA, 1 << 3, &mut fx);
    pic.write(CMD, 0x68, &mut fx);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x36));
}

#[test]
fn poll_acknowledges() {
    let (mut pic, mut fx) = master(0x01);
    pic.write(CMD, 0x0c, &mut fx);
    assert_eq!(pic.read(CMD, &mut fx), 0);
    pulse(&mut pic, &mut fx, 6);
    pic.write(CMD, 0x0c, &mut fx);
    assert_eq!(pic.read(CMD, &mut fx), 0x86);
    pic.write(CMD, 0x0b, &mut fx);
    assert_eq!(pic.read(CMD, &mut fx), 1 << 6);
}

#[test]
fn cascade_gives_an_edge_per_slave_request() {
    let (mut pic, mut fx) = master(0x01);
    let mut slave = Pic::new(0xa0, 0x4d1, IrqLine(8), Some(CASCADE_LINE));
    for (port, value) in [(0xa0, 0x11), (0xa1, 0x38), (0xa1, 0x02), (0xa1, 0x01)] {
        slave.write(port, value, &mut fx);
    }
    fx.irqs.clear();
    pulse(&mut slave, &mut fx, 8);
    pulse(&mut slave, &mut fx, 12);
    assert_eq!(fx.irqs, [(CASCADE_LINE, true)]);
    pic.set_line(CASCADE_LINE, true, &mut fx);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Cascade(CASCADE_LINE));
    fx.irqs.clear();
    assert_eq!(slave.acknowledge(&mut fx), Acknowledge::Vector(0x38));
    slave.write(0xa0, EOI, &mut fx);
    assert_eq!(fx.irqs, [(CASCADE_LINE, false), (CASCADE_LINE, true)]);
}

#[test]
fn int_falls_between_two_requests() {
    let mut slave = Pic::new(0xa0, 0x4d1, IrqLine(8), Some(CASCADE_LINE));
    let mut fx = Recorder::default();
    for (port, value) in [(0xa0, 0x11), (0xa1, 0x38), (0xa1, 0x02), (0xa1, 0x03)] {
        slave.write(port, value, &mut fx);
    }
    pulse(&mut slave, &mut fx, 8);
    pulse(&mut slave, &mut fx, 9);
    fx.irqs.clear();
    slave.acknowledge(&mut fx);
    assert_eq!(fx.irqs, [(CASCADE_LINE, false), (CASCADE_LINE, true)]);
}

#[test]
fn special_fully_nested_mode_lets_the_slave_interrupt_itself() {
    for (icw4, nested) in [(0x01, false), (0x11, true)] {
        let (mut pic, mut fx) = master(icw4);
        pulse(&mut pic, &mut fx, 2);
        pic.acknowledge(&mut fx);
        pulse(&mut pic, &mut fx, 2);
        assert_eq!(fx.intr.last(), Some(&nested));
    }
}

#[test]
fn special_fully_nested_mode_keeps_lower_levels_out() {
    let (mut pic, mut fx) = master(0x11);
    pulse(&mut pic, &mut fx, 2);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Cascade(IrqLine(2)));
    pulse(&mut pic, &mut fx, 3);
    assert_eq!(fx.intr.last(), Some(&false), "3 waits for the slave at 2");
    pulse(&mut pic, &mut fx, 2);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Cascade(IrqLine(2)));
    pulse(&mut pic, &mut fx, 1);
    assert_eq!(pic.acknowledge(&mut fx), Acknowledge::Vector(0x31));
}

#[test]
fn masked_edge_stays_pending() {
    let (mut pic, mut fx) = master(0x01);
    pic.write(DATA, 0xff, &mut fx);
    pulse(&mut pic, &mut fx, 4);
    assert!(fx.intr.is_empty());
    pic.write(DATA, 0, &mut fx);
    assert_eq!(fx.intr, [true]);
    assert_eq!(pic.read(DATA, &mut fx), 0);
}

proptest! {
    #[test]
    fn int_output_always_tells_whether_a_level_is_pending(ops in proptest::collection::vec((0u8..5, any::<u8>()), 0..200)) {
        let (mut pic, mut fx) = master(0x01);
        for (op, value) in ops {
            match op {
                0 => pic.write(CMD, value, &mut fx),
                1 => pic.write(DATA, value, &mut fx),
                2 => pic.set_line(IrqLine(value & 7), value & 8 != 0, &mut fx),
                3 => { pic.read(if value & 1 == 0 { CMD } else { 0x4d0 }, &mut fx); }
                _ => { pic.acknowledge(&mut fx); }
            }
            let driven = fx.intr.last().copied().unwrap_or(false);
            prop_assert_eq!(driven, pic.pending().is_some());
            prop_assert!(pic.lowest < 8);
            prop_assert_eq!(pic.irr & !pic.lines, 0, "no request without a line");
        }
    }
}
