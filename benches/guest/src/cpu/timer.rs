//! The timer of the local APIC in its TSC-deadline mode (SDM vol. 3, 10.5.4.1), by x2APIC registers.

use super::interrupt::{HANDLED, HANDLER, VECTOR};
use super::{interrupt, read_msr, timestamp, write_msr};
use bench_stats::Unit;
use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

const APIC_BASE: u32 = 0x1b;
const APIC_BASE_ENABLE: u64 = 1 << 11;
const APIC_BASE_X2APIC: u64 = 1 << 10;
const SPURIOUS: u32 = 0x80f;
const SPURIOUS_ENABLE: u64 = 1 << 8;
const SPURIOUS_VECTOR: u64 = 0xff;
const LVT_TIMER: u32 = 0x832;
const LVT_TSC_DEADLINE: u64 = 1 << 18;
const TSC_DEADLINE: u32 = 0x6e0;

/// Ticks between asking for an interrupt and its time, where they are instructions.
const INSTRUCTIONS: u64 = 100_000;
/// The same where they are cycles: longer than it takes to get from the asking to the waiting, on an emulator too.
const CYCLES: u64 = 10_000_000;

/// Ticks between asking for an interrupt and its time.
pub const fn delay(unit: Unit) -> u64 {
    match unit {
        Unit::Instructions => INSTRUCTIONS,
        Unit::Cycles => CYCLES,
    }
}

/// An expiry.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// Ticks from its time to the handler's first instruction.
    pub late: u64,
    /// Ticks that were not spent on instructions of this program, from before asking to after the end of the interrupt. Only
    /// where a tick is an instruction.
    pub cost: u64,
}

/// Enables local APIC and timer.
pub fn enable() {
    interrupt::install();
    write_msr(APIC_BASE, read_msr(APIC_BASE) | APIC_BASE_ENABLE);
    write_msr(APIC_BASE, read_msr(APIC_BASE) | APIC_BASE_X2APIC);
    write_msr(SPURIOUS, SPURIOUS_ENABLE | SPURIOUS_VECTOR);
    write_msr(LVT_TIMER, LVT_TSC_DEADLINE | u64::from(VECTOR));
}

/// Instructions of [`busy`] outside its loop, the handler's included: RDTSC to RDTSC.
const AROUND: u64 = 8 + HANDLER;
/// Instructions of an iteration.
const ITERATION: u64 = 3;

/// Waits for an expiry while executing instructions.
pub fn busy(delay: u64) -> Expiry {
    HANDLED.store(0, Relaxed);
    let start = timestamp();
    let deadline = start + delay;
    let (low, high): (u32, u32);
    let iterations: u64;
    // SAFETY: writes the deadline register of the local APIC, and lets the one interrupt in whose handler saves all
    // registers.
    unsafe {
        asm!(
            "sti",
            "wrmsr",
            "2:",
            "inc {iterations}",
            "cmp qword ptr [rip + {handled}], 0",
            "je 2b",
            "cli",
            "rdtsc",
            handled = sym HANDLED,
            iterations = inout(reg) 0_u64 => iterations,
            in("ecx") TSC_DEADLINE,
            inout("eax") deadline as u32 => low,
            inout("edx") (deadline >> u32::BITS) as u32 => high,
        );
    }
    let elapsed = (u64::from(high) << u32::BITS | u64::from(low)) - start;
    let handled = HANDLED.load(Relaxed);
    Expiry { late: handled.saturating_sub(deadline), cost: elapsed.saturating_sub(iterations * ITERATION + AROUND) }
}

/// Waits for an expiry in HLT. Ticks from its time to the handler's first instruction.
pub fn halted(delay: u64) -> u64 {
    HANDLED.store(0, Relaxed);
    let deadline = timestamp() + delay;
    write_msr(TSC_DEADLINE, deadline);
    // SAFETY: as in `busy`. STI takes effect behind HLT, so the interrupt cannot come before it.
    unsafe { asm!("sti", "hlt", "cli") };
    HANDLED.load(Relaxed).saturating_sub(deadline)
}
