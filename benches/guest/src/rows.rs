//! What is measured. The names are those of `benches/limits.toml`.

use crate::console;
use crate::cpu::loops::{self, LOOP};
use crate::cpu::{has_deadline_timer, timer};
use crate::report::Report;
use bench_stats::Unit;

/// The select register of the I/O APIC (82093AA, 3.1).
const IOAPIC: u64 = 0xfec0_0000;
/// RAM that nobody has touched.
const FRESH: u64 = 64 << 20;
/// Expiries of a timer.
const EXPIRIES: usize = 200;

/// Measures everything.
pub fn all(report: &mut Report) {
    let mut timed = |name, user, body: fn()| {
        body();
        let stamp = report.stamp;
        report.row(name, user + LOOP, loops::intervals().map(|interval| interval.saturating_sub(stamp)));
    };
    timed("guest-cpuid", 2, loops::cpuid);
    timed("guest-msr-read", 2, loops::read_msr);
    timed("guest-port-out", 2, loops::port_out::<{ console::SCRATCH }>);
    timed("guest-port-in", 2, loops::port_in::<{ console::SCRATCH }>);
    timed("guest-mmio-read", 1, || loops::mmio_read(IOAPIC));
    timed("guest-mmio-write", 1, || loops::mmio_write(IOAPIC));
    timed("guest-fresh-page", 2, || loops::touch(FRESH));
    timers(report);
}

fn timers(report: &mut Report) {
    const LATE: &str = "guest-timer-late";
    const COST: &str = "guest-timer";
    const HALTED: &str = "guest-timer-halted";
    if !has_deadline_timer() {
        [LATE, COST, HALTED].iter().for_each(|name| report.skip(name, "no x2APIC or TSC deadline"));
        return;
    }
    timer::enable();
    let delay = timer::delay(report.unit);
    let _warm_up = timer::busy(delay);
    let expiries = [(); EXPIRIES].map(|()| timer::busy(delay));
    if report.unit == Unit::Instructions {
        report.row(COST, 0, expiries.iter().map(|expiry| expiry.cost));
    } else {
        report.skip(COST, "the time stamp counter does not count instructions");
    }
    report.row(LATE, 1, expiries.iter().map(|expiry| expiry.late));
    report.row(HALTED, 1, [(); EXPIRIES].map(|()| timer::halted(delay)).into_iter());
}
