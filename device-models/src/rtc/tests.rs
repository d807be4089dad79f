use super::*;
use crate::recorder::{Recorder, at_us, clock};
use proptest::prelude::*;

/// 2024-02-29 13:59:58, a Thursday.
const START: i64 = 1_709_215_198;
const LINE: IrqLine = IrqLine(8);

struct Bench {
    rtc: Rtc,
    fx: Recorder,
}

impl Bench {
    fn new() -> Self {
        let memory = CmosMemory { below_4g: 256 << 20, above_4g: 1 << 30 };
        Self { rtc: Rtc::new(0x70, LINE, UnixSeconds(START), memory, clock()), fx: Recorder::default() }
    }
    fn get(&mut self, us: u64, index: u8) -> u8 {
        self.rtc.write(at_us(us), 0x70, index | 0x80, &mut self.fx);
        self.rtc.read(at_us(us), 0x71, &mut self.fx)
    }
    fn set(&mut self, us: u64, index: u8, value: u8) {
        self.rtc.write(at_us(us), 0x70, index, &mut self.fx);
        self.rtc.write(at_us(us), 0x71, value, &mut self.fx);
    }
    fn time(&mut self, us: u64) -> [u8; 8] {
        [0x32, 9, 8, 7, 6, 4, 2, 0].map(|index| self.get(us, index))
    }
}

#[test]
fn shows_the_wall_clock_in_bcd() {
    let mut bench = Bench::new();
    assert_eq!(bench.time(500_000), [0x20, 0x24, 0x02, 0x29, 5, 0x13, 0x59, 0x58]);
    assert_eq!(bench.time(2_000_100), [0x20, 0x24, 0x02, 0x29, 5, 0x14, 0x00, 0x00]);
    bench.set(2_100_000, 0xb, 0x04);
    assert_eq!(bench.time(2_100_000), [20, 24, 2, 29, 5, 0x82, 0, 0], "binary, 2 pm");
    assert_eq!(bench.get(0, 0xd), 0x80);
}

#[test]
fn setting_the_clock_under_set_and_divider_reset() {
    let mut bench = Bench::new();
    let t = 1_300_000;
    bench.set(t, 0xb, 0x82);
    bench.set(t, 0xa, 0x76);
    for (index, value) in [(0x32, 0x19), (9, 0x99), (8, 0x12), (7, 0x31), (4, 0x23), (2, 0x59), (0, 0x59)] {
        bench.set(t, index, value);
    }
    bench.set(t, 0xb, 0x02);
    bench.set(t, 0xa, 0x26);
    assert_eq!(bench.get(t + 400_000, 0), 0x59);
    assert_eq!(bench.time(t + 600_000)[..4], [0x20, 0x00, 0x01, 0x01]);
}

#[test]
fn update_in_progress_precedes_the_second() {
    let mut bench = Bench::new();
    assert_eq!(bench.get(999_700, 0xa), 0x26);
    assert_eq!(bench.get(999_900, 0xa), 0xa6);
    assert_eq!(bench.get(1_000_050, 0xa), 0x26);
    bench.set(1_999_900, 0xa, 0x66);
    assert_eq!(bench.get(5_000_000, 0xa), 0x66, "held");
}

#[test]
fn periodic_interrupt_at_its_rate() {
    let mut bench = Bench::new();
    bench.set(0, 0xb, 0x42);
    for i in 1..=1024 {
        let due = bench.rtc.deadline().unwrap();
        assert!(due.0.abs_diff(at_us(i * 1_000_000 / 1024).0) < 5000);
        bench.rtc.expire(due, &mut bench.fx);
        assert_eq!(bench.rtc.deadline(), None, "until acknowledged");
        bench.rtc.write(due, 0x70, 0xc, &mut bench.fx);
        assert_eq!(bench.rtc.read(due, 0x71, &mut bench.fx) & 0xc0, 0xc0);
    }
    assert_eq!(bench.fx.irqs.len(), 2048);
}

#[test]
fn update_and_alarm_interrupts() {
    let mut bench = Bench::new();
    for (index, value) in [(5, 0x14), (3, 0xc0), (1, 0x01), (0xb, 0x22)] {
        bench.set(0, index, value);
    }
    // 14:00:01 is three seconds ahead.
    let due = bench.rtc.deadline().unwrap();
    assert!(due >= at_us(3_000_000) && due < at_us(3_000_001));
    bench.rtc.expire(due, &mut bench.fx);
    assert_eq!(bench.fx.irqs, [(LINE, true)]);
    assert_eq!(bench.get(3_000_010, 0xc), 0xf0);
    assert_eq!(bench.fx.irqs, [(LINE, true), (LINE, false)]);
    bench.set(3_100_000, 0xb, 0x12);
    let due = bench.rtc.deadline().unwrap();
    assert!(due >= at_us(4_000_000) && due < at_us(4_000_001));
}

#[test]
fn set_turns_the_update_interrupt_off() {
    let mut bench = Bench::new();
    bench.set(0, 0xb, 0x92);
    assert_eq!(bench.get(0, 0xb), 0x82);
}

#[test]
fn memory_sizes() {
    let mut bench = Bench::new();
    assert_eq!([bench.get(0, 0x15), bench.get(0, 0x16)], [0x80, 0x02]);
    assert_eq!([bench.get(0, 0x30), bench.get(0, 0x31)], [0xff, 0xff], "capped");
    assert_eq!([bench.get(0, 0x34), bench.get(0, 0x35)], [0x00, 0x0f]);
    assert_eq!([bench.get(0, 0x5b), bench.get(0, 0x5c), bench.get(0, 0x5d)], [0x00, 0x40, 0x00]);
}

proptest! {
    #[test]
    fn random_accesses_keep_the_line_honest(ops in proptest::collection::vec((0u8..4, any::<u8>(), any::<u8>(), 0u64..1 << 45), 0..100)) {
        let mut bench = Bench::new();
        let mut now = Tsc(0);
        for (op, index, value, delta) in ops {
            now = now.after(if value & 1 == 0 { delta } else { delta >> 15 });
            bench.rtc.write(now, 0x70, index % 16, &mut bench.fx);
            match op {
                0 => { bench.rtc.read(now, 0x71, &mut bench.fx); }
                1 => bench.rtc.write(now, 0x71, value, &mut bench.fx),
                _ => bench.rtc.expire(now, &mut bench.fx),
            }
            prop_assert_eq!(bench.rtc.flags & bench.rtc.enables != 0, bench.rtc.irq.is_active());
            bench.rtc.expire(now, &mut bench.fx);
            if let Some(due) = bench.rtc.deadline() {
                prop_assert!(due > now);
            }
        }
    }
}
