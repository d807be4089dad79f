//! Loops around one operation each.
//!
//! A stamp, the low half of the time stamp counter, is taken at the beginning of each iteration, so the difference of two
//! neighbours is one operation with two instructions of loop control and what taking the stamp costs. The latter is found by
//! timing a loop around nothing and subtracted; the former stays, as in the figures of others.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Operations before the first that counts.
const WARM_UP: usize = 64;
/// Operations that count.
pub const SAMPLES: usize = 1000;
/// Operations of a loop: the last one only ends the one before it.
pub const ITERATIONS: usize = WARM_UP + SAMPLES + 1;
/// Instructions of loop control in each sample.
pub const LOOP: u64 = 2;

static STAMPS: [AtomicU32; ITERATIONS] = [const { AtomicU32::new(0) }; ITERATIONS];

/// Differences of neighbouring stamps, without the warm-up.
pub fn intervals() -> impl Iterator<Item = u64> {
    let later = STAMPS.iter().skip(WARM_UP + 1);
    let stamp = |stamp: &AtomicU32| stamp.load(Relaxed);
    STAMPS.iter().skip(WARM_UP).zip(later).map(move |(from, to)| u64::from(stamp(to).wrapping_sub(stamp(from))))
}

/// The measured loop: `$body` once per stamp. RBX is `$rbx` at the beginning and the body's own. RDI and RSI are the loop's.
macro_rules! timed {
    ($rbx:expr; $($body:literal),*) => {
        // SAFETY: the body clobbers no other registers than these, and accesses memory at RBX only, where callers have
        // devices or RAM that nothing is in. There is a stamp for each iteration.
        unsafe {
            core::arch::asm!(
                "xchg rbx, {rbx}",
                "2:",
                "rdtsc",
                "mov [rdi], eax",
                "add rdi, 4",
                $($body,)*
                "dec rsi",
                "jnz 2b",
                "mov rbx, {rbx}",
                rbx = inout(reg) $rbx as u64 => _,
                inout("rdi") STAMPS.as_ptr() => _,
                inout("rsi") ITERATIONS => _,
                out("rax") _, out("rcx") _, out("rdx") _,
                options(nostack),
            )
        }
    };
}

/// Nothing.
pub fn nothing() {
    timed!(0;);
}

/// CPUID leaf 1. RBX gets lost, which the loop does not need.
pub fn cpuid() {
    timed!(0; "mov eax, 1", "cpuid");
}

/// RDMSR of a register that the VMM owns: the base of the local APIC.
pub fn read_msr() {
    timed!(0; "mov ecx, 0x1b", "rdmsr");
}

/// OUT of a byte.
pub fn port_out<const PORT: u16>() {
    timed!(PORT; "mov edx, ebx", "out dx, al");
}

/// IN of a byte.
pub fn port_in<const PORT: u16>() {
    timed!(PORT; "mov edx, ebx", "in al, dx");
}

/// Read of a 32-bit device register.
pub fn mmio_read(address: u64) {
    timed!(address; "mov eax, [rbx]");
}

/// Write of a 32-bit device register.
pub fn mmio_write(address: u64) {
    timed!(address; "mov [rbx], eax");
}

/// First access to each of [`ITERATIONS`] pages from `address` on.
pub fn touch(address: u64) {
    timed!(address; "mov [rbx], eax", "add rbx, 4096");
}

/// Ticks of a loop of ten thousand iterations of two instructions: few, so that some loop is not interrupted by the host.
pub fn calibrate() -> u64 {
    let start = super::timestamp();
    // SAFETY: touches a register only.
    unsafe {
        core::arch::asm!("2:", "dec {counter:e}", "jnz 2b", counter = inout(reg) 10_000 => _, options(nomem, nostack));
    }
    super::timestamp() - start
}
