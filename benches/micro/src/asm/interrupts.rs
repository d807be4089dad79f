//! Latencies: what is measured begins on one thread, or at a time, and ends on another thread.

use super::{ITERATIONS, STAMPS};
use crate::selectors;
use abi::hypercall::{Number, rdi};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// When the interrupt was raised.
static RAISED: AtomicU32 = AtomicU32::new(0);
/// Port whose value 2 raises the interrupt: the interrupt enable register of a UART, "transmitter empty".
static ENABLE: AtomicU64 = AtomicU64::new(0);

/// Interrupt identification register, behind the interrupt enable register; reading it ends the interrupt.
const IIR: u64 = 1;
const TRANSMITTER_EMPTY: u32 = 2;

/// Sets the port that raises the interrupt.
pub fn use_port(enable: u16) {
    ENABLE.store(u64::from(enable), Relaxed);
}

/// Raises the interrupt for ever; runs with a lower priority than [`wait`].
pub fn raise() -> u64 {
    // SAFETY: the port is that of a UART that this task owns.
    unsafe {
        core::arch::asm!("2:", "mov rdx, [rip + {port}]", "mov ecx, edx", "rdtsc", "mov [rip + {raised}], eax",
            "mov edx, ecx", "mov al, {value}", "out dx, al", "jmp 2b",
            port = sym ENABLE, raised = sym RAISED, value = const TRANSMITTER_EMPTY, options(noreturn));
    }
}

/// Waits for the interrupt and takes the time since it was raised: on the way are RDTSC to OUT, five instructions, the
/// kernel, and RDTSC.
pub fn wait() {
    // The stamp that would only end the operation before it is one more operation here.
    // SAFETY: as in `raise`; the stamps fit the iterations.
    unsafe {
        core::arch::asm!(
            "2:",
            "mov edi, {down}",
            "xor esi, esi",
            "syscall",
            "rdtsc",
            "sub eax, [rip + {raised}]",
            "mov [r12], eax",
            "add r12, 4",
            "mov rdx, [rip + {port}]",
            "xor eax, eax",
            "out dx, al",
            "add edx, {iir}",
            "in al, dx",
            "dec r13",
            "jnz 2b",
            down = const rdi(Number::SmDown, 0, selectors::LINE),
            raised = sym RAISED,
            port = sym ENABLE,
            iir = const IIR,
            inout("r12") STAMPS.as_ptr() => _,
            inout("r13") ITERATIONS => _,
            clobber_abi("sysv64"),
            options(nostack),
        );
    }
}

/// Waits until deadlines `DELAY` ticks ahead and takes the time by which the thread runs later than that: on the way are
/// the kernel and three instructions.
pub fn expire<const DELAY: u64>() {
    // SAFETY: hypercalls that change no memory; the stamps fit the iterations.
    unsafe {
        core::arch::asm!(
            "2:",
            "rdtsc",
            "shl rdx, 32",
            "lea r14, [rax + rdx + {delay}]",
            "mov rsi, r14",
            "mov edi, {down}",
            "syscall",
            "rdtsc",
            "sub eax, r14d",
            "mov [r12], eax",
            "add r12, 4",
            "dec r13",
            "jnz 2b",
            delay = const DELAY,
            down = const rdi(Number::SmDown, 0, selectors::NEVER),
            inout("r12") STAMPS.as_ptr() => _,
            inout("r13") ITERATIONS => _,
            out("r14") _,
            clobber_abi("sysv64"),
            options(nostack),
        );
    }
}
