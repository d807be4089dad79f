use super::*;
use crate::recorder::{Recorder, clock};
use proptest::prelude::*;

const CONTROL: u16 = 0x43;

fn pit() -> (Pit, Recorder) {
    (Pit::new(0x40, IrqLine(0), clock()), Recorder::default())
}

/// An instant inside oscillator tick `tick`.
fn at(tick: u64) -> Tsc {
    clock().rate(PIT_HZ).when(tick)
}

fn program(pit: &mut Pit, fx: &mut Recorder, tick: u64, control: u8, count: u16) {
    let port = 0x40 + u16::from(control >> 6);
    let [low, high] = count.to_le_bytes();
    pit.write(at(tick), CONTROL, control, fx);
    pit.write(at(tick), port, low, fx);
    pit.write(at(tick), port, high, fx);
}

fn count(pit: &mut Pit, fx: &mut Recorder, tick: u64, channel: u8) -> u16 {
    pit.write(at(tick), CONTROL, channel << 6, fx);
    let port = 0x40 + u16::from(channel);
    // Time passes between latch and read.
    u16::from_le_bytes([pit.read(at(tick + 5), port), pit.read(at(tick + 9), port)])
}

fn rises(fx: &Recorder) -> usize {
    fx.irqs.iter().filter(|(_, active)| *active).count()
}

#[test]
fn mode_0_interrupts_once_at_terminal_count() {
    let (mut pit, mut fx) = pit();
    program(&mut pit, &mut fx, 100, 0x30, 1000);
    assert_eq!(count(&mut pit, &mut fx, 101, 0), 1000);
    assert_eq!(count(&mut pit, &mut fx, 601, 0), 500);
    let due = pit.deadline().unwrap();
    assert_eq!(due, at(1101));
    pit.expire(Tsc(due.0 - 3), &mut fx);
    assert_eq!(rises(&fx), 0);
    pit.expire(due, &mut fx);
    assert_eq!((rises(&fx), pit.deadline()), (1, None));
    assert_eq!(count(&mut pit, &mut fx, 1102, 0), 0xffff, "counting goes on");
}

#[test]
fn mode_2_gives_one_edge_per_period_and_one_for_years_missed() {
    let (mut pit, mut fx) = pit();
    program(&mut pit, &mut fx, 0, 0x34, 1193);
    fx.irqs.clear();
    for period in 1..=1000 {
        let due = pit.deadline().unwrap();
        assert_eq!(due, at(1 + period * 1193));
        pit.expire(due, &mut fx);
    }
    assert_eq!(rises(&fx), 1000);
    assert_eq!(fx.irqs.len(), 2000, "each rise has its fall");
    let years = at(1 << 45);
    pit.expire(years, &mut fx);
    assert_eq!(rises(&fx), 1001);
    assert!(pit.deadline().unwrap() > years);
}

#[test]
fn mode_2_takes_a_new_count_at_the_end_of_the_period() {
    let (mut pit, mut fx) = pit();
    program(&mut pit, &mut fx, 0, 0x34, 1000);
    pit.write(at(500), 0x40, 0x10, &mut fx);
    pit.write(at(500), 0x40, 0x00, &mut fx);
    assert_eq!(pit.deadline(), Some(at(1001)));
    assert_eq!(count(&mut pit, &mut fx, 501, 0), 500);
    pit.expire(at(1001), &mut fx);
    assert_eq!(pit.deadline(), Some(at(1017)));
}

#[test]
fn mode_3_is_high_for_the_longer_half() {
    let (mut pit, mut fx) = pit();
    pit.set_speaker_gate(at(0), true);
    program(&mut pit, &mut fx, 0, 0xb6, 5);
    let wave: std::vec::Vec<bool> = (1..=10).map(|t| pit.speaker_output(at(t))).collect();
    assert_eq!(wave, [true, true, true, false, false, true, true, true, false, false]);
}

#[test]
fn gate_stops_mode_0_and_triggers_mode_1() {
    let (mut pit, mut fx) = pit();
    program(&mut pit, &mut fx, 0, 0xb0, 100);
    assert_eq!(count(&mut pit, &mut fx, 50, 2), 100);
    pit.set_speaker_gate(at(50), true);
    pit.set_speaker_gate(at(80), false);
    assert_eq!(count(&mut pit, &mut fx, 500, 2), 70);
    pit.set_speaker_gate(at(500), true);
    assert!(!pit.speaker_output(at(569)));
    assert!(pit.speaker_output(at(570)));

    program(&mut pit, &mut fx, 1000, 0xb2, 10);
    assert!(pit.speaker_output(at(1005)), "waits for the trigger");
    pit.set_speaker_gate(at(1010), false);
    pit.set_speaker_gate(at(1020), true);
    assert!(!pit.speaker_output(at(1021)));
    assert!(pit.speaker_output(at(1031)));
}

#[test]
fn a_low_gate_ends_a_periodic_mode_until_it_rises() {
    let (mut pit, mut fx) = pit();
    pit.set_speaker_gate(at(0), true);
    program(&mut pit, &mut fx, 0, 0xb6, 100);
    pit.write(at(10), 0x42, 200, &mut fx);
    pit.write(at(10), 0x42, 0, &mut fx);
    pit.set_speaker_gate(at(60), false);
    assert!((60..1000).all(|tick| pit.speaker_output(at(tick))));
    pit.set_speaker_gate(at(2_000_000), true);
    assert!(pit.speaker_output(at(2_000_100)));
    assert!(!pit.speaker_output(at(2_000_101)), "the new count");
}

#[test]
fn an_interrupt_that_is_due_survives_reprogramming() {
    let (mut pit, mut fx) = pit();
    program(&mut pit, &mut fx, 0, 0x30, 1000);
    program(&mut pit, &mut fx, 5000, 0x30, 1000);
    assert_eq!(fx.irqs, [(IrqLine(0), true), (IrqLine(0), false)]);
}

#[test]
fn mode_4_strobes_for_one_tick() {
    let (mut pit, mut fx) = pit();
    program(&mut pit, &mut fx, 0, 0x38, 10);
    fx.irqs.clear();
    assert_eq!(pit.deadline(), Some(at(12)));
    pit.expire(at(12), &mut fx);
    assert_eq!((rises(&fx), pit.deadline()), (1, None));
    pit.set_speaker_gate(at(20), true);
    program(&mut pit, &mut fx, 20, 0xb8, 10);
    let low: std::vec::Vec<u64> = (20..60).filter(|tick| !pit.speaker_output(at(*tick))).collect();
    assert_eq!(low, [31]);
}

#[test]
fn read_back_latches_status_before_count() {
    let (mut pit, mut fx) = pit();
    program(&mut pit, &mut fx, 0, 0x34, 1000);
    pit.write(at(0), CONTROL, 0xc2, &mut fx);
    pit.write(at(200), CONTROL, 0xc2, &mut fx);
    let port = 0x40;
    assert_eq!(pit.read(at(300), port), 0xf4, "output high, null count at tick 0");
    assert_eq!(u16::from_le_bytes([pit.read(at(300), port), pit.read(at(301), port)]), 1000, "the first latch holds");
}

#[test]
fn bcd_counts_in_decimal() {
    let (mut pit, mut fx) = pit();
    program(&mut pit, &mut fx, 0, 0x35, 0x1000);
    assert_eq!(pit.deadline(), Some(at(1001)));
    assert_eq!(count(&mut pit, &mut fx, 2, 0), 0x999);
    program(&mut pit, &mut fx, 0, 0x35, 0);
    assert_eq!(pit.deadline(), Some(at(10_001)));
}

proptest! {
    #[test]
    fn random_accesses_leave_the_deadline_ahead(ops in proptest::collection::vec((0u8..5, any::<u8>(), 0u64..1 << 50), 0..100)) {
        let (mut pit, mut fx) = pit();
        let mut now = Tsc(0);
        for (op, value, delta) in ops {
            now = now.after(if value & 1 == 0 { delta } else { delta % 5000 });
            match op {
                0 => pit.write(now, CONTROL, value, &mut fx),
                1 => pit.write(now, 0x40 + u16::from(value & 3), value, &mut fx),
                2 => { pit.read(now, 0x40 + u16::from(value & 3)); }
                3 => pit.set_speaker_gate(now, value & 2 != 0),
                _ => { pit.speaker_output(now); }
            }
            pit.expire(now, &mut fx);
            if let Some(due) = pit.deadline() {
                prop_assert!(due > now);
            }
        }
    }
}

#[test]
fn each_count_of_a_periodic_mode_ends_its_period() {
    let (mut pit, mut fx) = pit();
    pit.set_speaker_gate(at(0), true);
    program(&mut pit, &mut fx, 0, 0xb4, 100);
    let write = |pit: &mut Pit, fx: &mut Recorder, tick, count: u16| {
        count.to_le_bytes().into_iter().for_each(|byte| pit.write(at(tick), 0x42, byte, fx));
    };
    // Nobody looks between the two: from 101 on the period is 1000, from 1101 on 10.
    write(&mut pit, &mut fx, 50, 1000);
    write(&mut pit, &mut fx, 150, 10);
    assert_eq!(count(&mut pit, &mut fx, 201, 2), 900);
    assert_eq!(count(&mut pit, &mut fx, 1104, 2), 7);
}
