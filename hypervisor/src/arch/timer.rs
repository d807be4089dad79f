//! The timer of each CPU: TSC deadline where there is one, else the APIC's one-shot timer, calibrated against the ACPI PM
//! timer or the PIT.

use super::{acpi_pm, apic, cpuid, tsc, x86};
use crate::cpu::Cpu;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// APIC ticks per TSC tick as a fixed-point fraction of 2^32; 0: TSC-deadline mode.
static RATIO: AtomicU64 = AtomicU64::new(0);
/// Longest one-shot, in APIC ticks; a timer that fires early is re-armed.
const LONGEST: u64 = u32::MAX as u64;
/// How long to measure, in microseconds.
const CALIBRATION_US: u64 = 10_000;

/// Measures TSC and APIC timer frequency; on the boot CPU.
pub fn calibrate(pm_timer: Option<acpi_pm::Timer>) {
    apic::timer_one_shot();
    apic::timer_start(u32::MAX);
    let start = tsc::read();
    let us = match pm_timer {
        Some(timer) => timer.wait(CALIBRATION_US),
        None => pit_wait(CALIBRATION_US),
    };
    let ticks = tsc::read() - start;
    let apic_ticks = u64::from(u32::MAX - apic::timer_left());
    apic::timer_start(0);
    tsc::set_hz((u128::from(ticks) * 1_000_000 / u128::from(us.max(1))) as u64);
    let deadline_mode = cpuid::Flag::TSC_DEADLINE.is_set();
    let ratio = ((u128::from(apic_ticks) << 32) / u128::from(ticks.max(1))) as u64;
    RATIO.store(if deadline_mode { 0 } else { ratio.max(1) }, Relaxed);
}

/// Sets up the timer of this CPU.
pub fn init() {
    if RATIO.load(Relaxed) == 0 {
        apic::timer_deadline_mode();
    } else {
        apic::timer_one_shot();
    }
}

/// Arms the timer of this CPU for an absolute TSC value, at once if that has passed.
#[inline(never)]
pub fn arm(cpu: &'static Cpu, when: u64) {
    cpu.armed.set(when);
    let ratio = RATIO.load(Relaxed);
    if ratio == 0 {
        x86::wrmsr(x86::Msr::TscDeadline, when.max(1));
        return;
    }
    let ticks = when.saturating_sub(tsc::read());
    let apic_ticks = ((u128::from(ticks) * u128::from(ratio)) >> 32) as u64;
    apic::timer_start(apic_ticks.clamp(1, LONGEST) as u32);
}

/// PIT channel 2 (8254 data sheet; port 0x61 gates it): waits for about `us` and says how long exactly.
fn pit_wait(us: u64) -> u64 {
    const HZ: u64 = 1_193_182;
    const CHANNEL_2: u16 = 0x42;
    const COMMAND: u16 = 0x43;
    const PORT_B: u16 = 0x61;
    const MODE_0_CHANNEL_2: u8 = 0b1011_0000;
    const OUT_2: u8 = 1 << 5;
    let count = (us * HZ / 1_000_000).min(0xffff);
    x86::outb(PORT_B, x86::inb(PORT_B) & !2 | 1);
    x86::outb(COMMAND, MODE_0_CHANNEL_2);
    x86::outb(CHANNEL_2, count as u8);
    x86::outb(CHANNEL_2, (count >> 8) as u8);
    while x86::inb(PORT_B) & OUT_2 == 0 {
        core::hint::spin_loop();
    }
    count * 1_000_000 / HZ
}

/// Spins for at least `us` microseconds.
pub fn spin(us: u64) {
    let end = tsc::read() + tsc::from_us(us);
    while tsc::read() < end {
        core::hint::spin_loop();
    }
}
