//! What needs `unsafe`: entry, privileged instructions, interrupts, and the measured loops.

pub mod interrupt;
pub mod loops;
pub mod timer;

use crate::report;
use core::arch::{asm, global_asm, x86_64::__cpuid};

global_asm!(include_str!("../boot.s"), main = sym main);

/// Called by the entry, with the time stamp at its first instruction.
extern "sysv64" fn main(entered: u64) -> ! {
    report::run(entered);
    stop()
}

/// Time stamp counter.
#[inline]
pub fn timestamp() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Writes a byte to a port. This is all of the machine's software, and devices here do not write memory.
pub fn out8(port: u16, value: u8) {
    // SAFETY: see above.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

/// Reads a byte from a port.
pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: as for `out8`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) }
    value
}

/// Reads a model-specific register, which must exist.
pub fn read_msr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: callers name registers of the local APIC.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack)) }
    u64::from(high) << u32::BITS | u64::from(low)
}

/// Writes a model-specific register, which must exist.
pub fn write_msr(msr: u32, value: u64) {
    let (low, high) = (value as u32, (value >> u32::BITS) as u32);
    // SAFETY: callers name registers of the local APIC, which change no memory.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nomem, nostack)) }
}

/// Whether CPUID announces a local APIC with x2APIC mode and TSC deadline.
pub fn has_deadline_timer() -> bool {
    const FEATURES: u32 = 1;
    const X2APIC: u32 = 1 << 21;
    const TSC_DEADLINE: u32 = 1 << 24;
    let all = X2APIC | TSC_DEADLINE;
    __cpuid(FEATURES).ecx & all == all
}

/// How the hypervisor calls itself, or nothing on a bare machine.
pub fn hypervisor() -> [u8; 12] {
    const FEATURES: u32 = 1;
    const HYPERVISOR: u32 = 1 << 31;
    const SIGNATURE: u32 = 0x4000_0000;
    let mut name = [0; 12];
    if __cpuid(FEATURES).ecx & HYPERVISOR != 0 {
        let leaf = __cpuid(SIGNATURE);
        let words = [leaf.ebx, leaf.ecx, leaf.edx];
        for (to, from) in name.iter_mut().zip(words.iter().flat_map(|word| word.to_le_bytes())) {
            *to = from;
        }
    }
    name
}

/// The end: nothing wakes this CPU.
pub fn stop() -> ! {
    loop {
        // SAFETY: touches nothing.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}
