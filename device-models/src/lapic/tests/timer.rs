//! The timer in its three modes.

use super::*;

#[test]
fn one_shot_and_divider() {
    let mut bench = Bench::new();
    bench.set(LVT_TIMER, 0xec);
    bench.set(DIVIDE, 0x3);
    bench.set_at(Tsc(1000), INITIAL, 100);
    assert_eq!(bench.lapic.deadline(), Some(Tsc(1000 + 1600)));
    assert_eq!(bench.get_at(Tsc(1000), CURRENT), 100);
    assert_eq!(bench.get_at(Tsc(1016), CURRENT), 99);
    assert_eq!(bench.get_at(Tsc(2599), CURRENT), 1);
    assert_eq!(bench.lapic.pending(), None);
    assert_eq!(bench.get_at(Tsc(2600), CURRENT), 0, "reading sees the expiry");
    assert_eq!(bench.lapic.acknowledge(), Some(0xec));
    bench.lapic.expire(Tsc(9999), &mut bench.fx);
    assert_eq!((bench.lapic.pending(), bench.lapic.deadline()), (None, None));
    for (value, divisor) in [(0xb, 1), (0, 2), (8, 32), (0xa, 128)] {
        bench.set(DIVIDE, value);
        bench.set(INITIAL, 1);
        assert_eq!(bench.lapic.deadline(), Some(Tsc(divisor)));
    }
}

#[test]
fn periodic_keeps_its_phase_and_skips_what_was_missed() {
    let mut bench = Bench::new();
    bench.set(LVT_TIMER, 0x2_00ec);
    bench.set(DIVIDE, 0xb);
    bench.set(INITIAL, 1000);
    bench.lapic.expire(Tsc(1003), &mut bench.fx);
    assert_eq!(bench.lapic.deadline(), Some(Tsc(2000)));
    bench.lapic.expire(Tsc(1 << 60), &mut bench.fx);
    let next = bench.lapic.deadline().unwrap();
    assert!(next > Tsc(1 << 60) && next <= Tsc((1 << 60) + 1000) && next.0.is_multiple_of(1000));
    bench.set_at(next, INITIAL, 0);
    assert_eq!(bench.lapic.deadline(), None);
}

#[test]
fn masked_timer_counts_without_interrupt() {
    let mut bench = Bench::new();
    bench.set(LVT_TIMER, 0x1_00ec);
    bench.set(INITIAL, 10);
    bench.lapic.expire(Tsc(20), &mut bench.fx);
    assert_eq!((bench.lapic.pending(), bench.get_at(Tsc(20), CURRENT)), (None, 0));
}

#[test]
fn tsc_deadline() {
    let mut bench = Bench::new();
    bench.wrmsr(T0, MSR_TSC_DEADLINE, 500).unwrap();
    assert_eq!(bench.rdmsr(MSR_TSC_DEADLINE), Ok(0), "not in this mode");
    bench.set(LVT_TIMER, 0x4_00ec);
    bench.set(INITIAL, 77);
    assert_eq!(bench.lapic.deadline(), None, "the initial count has no effect");
    bench.wrmsr(T0, MSR_TSC_DEADLINE, 500).unwrap();
    assert_eq!(bench.rdmsr(MSR_TSC_DEADLINE), Ok(500));
    bench.lapic.expire(Tsc(500), &mut bench.fx);
    assert_eq!(bench.rdmsr(MSR_TSC_DEADLINE), Ok(0));
    assert_eq!(bench.lapic.acknowledge(), Some(0xec));
    bench.set(EOI, 0);
    bench.wrmsr(Tsc(600), MSR_TSC_DEADLINE, 500).unwrap();
    assert_eq!(bench.lapic.pending(), Some(0xec), "a past deadline fires at once");
}

#[test]
fn changing_to_tsc_deadline_mode_disarms() {
    let mut bench = Bench::new();
    bench.set(INITIAL, 1000);
    bench.set(LVT_TIMER, 0x4_00ec);
    assert_eq!((bench.lapic.deadline(), bench.get(INITIAL)), (None, 0));
}
