//! Everything that needs `unsafe`: the measured instructions themselves.
//!
//! A loop takes a stamp, the low half of the time stamp counter, at the beginning of each iteration, so the difference of
//! two neighbours is one operation with two instructions of loop control and what taking the stamp costs.
//! The latter is found by timing a loop around nothing and subtracted; the former stays, as in the figures of others.

pub mod events;
pub mod handlers;
pub mod interrupts;
pub mod loops;
pub mod pages;
pub mod stack;

use abi::hypercall::Args;
use abi::status::Status;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Operations before the first that counts: caches, tables and pools have what they need then.
pub const WARM_UP: usize = 64;
/// Operations that count.
pub const SAMPLES: usize = 1000;
/// Operations of a loop: the last one only ends the one before it.
pub const ITERATIONS: usize = WARM_UP + SAMPLES + 1;
/// Instructions of loop control in each sample.
pub const LOOP: u64 = 2;

/// Stamps of the measurement in progress.
static STAMPS: [AtomicU32; ITERATIONS] = [const { AtomicU32::new(0) }; ITERATIONS];
/// Address of the next stamp and end of the stamps, for handlers, which have no registers of their own.
static CURSOR: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);
/// Where the calibration of handlers' stamps puts the cursor that they would move.
static SCRATCH: AtomicU64 = AtomicU64::new(0);

/// Differences of neighbouring stamps, without the warm-up.
pub fn intervals() -> impl Iterator<Item = u64> {
    let later = STAMPS.iter().skip(WARM_UP + 1);
    STAMPS.iter().skip(WARM_UP).zip(later).map(|(from, to)| {
        // Ordering: the thread that took the stamps has ended, which its semaphore orders.
        u64::from(to.load(Relaxed).wrapping_sub(from.load(Relaxed)))
    })
}

/// Stamps that are durations themselves, without the warm-up.
pub fn durations() -> impl Iterator<Item = u64> {
    STAMPS.iter().skip(WARM_UP).take(SAMPLES).map(|stamp| u64::from(stamp.load(Relaxed)))
}

/// Makes handlers begin with the first stamp.
pub fn rewind() {
    let range = STAMPS.as_ptr_range();
    // Ordering: Release pairs with the hypercall that starts whoever takes stamps.
    END.store(range.end as u64, Release);
    CURSOR.store(range.start as u64, Release);
}

/// Whether handlers have taken all stamps.
pub fn is_complete() -> bool {
    CURSOR.load(Acquire) == END.load(Acquire)
}

/// The measured loop: `$body` once per stamp, with constants and registers for it. R12 and R13 are the loop's. Gives RAX
/// of the last operation: its status, if it was a hypercall.
macro_rules! timed {
    ([$($body:literal),* $(,)?] $($operands:tt)*) => {{
        let rax: u64;
        // SAFETY: the body consists of hypercalls that change no memory of this program, or of nothing; they clobber
        // what a `sysv64` call does. There is a stamp for each iteration.
        unsafe {
            core::arch::asm!(
                "2:",
                "rdtsc",
                "mov [r12], eax",
                "add r12, 4",
                $($body,)*
                "dec r13",
                "jnz 2b",
                $($operands)*
                inout("r12") $crate::asm::STAMPS.as_ptr() => _,
                inout("r13") $crate::asm::ITERATIONS => _,
                lateout("rax") rax,
                clobber_abi("sysv64"),
                options(nostack),
            )
        }
        rax
    }};
}
use timed;

/// Ticks of the time stamp counter for a million iterations of two instructions.
pub fn calibrate() -> u64 {
    let (start, end): (u64, u64);
    // SAFETY: touches registers only.
    unsafe {
        core::arch::asm!(
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "mov r8, rax",
            "mov ecx, 1000000",
            "2:",
            "dec ecx",
            "jnz 2b",
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            out("rax") end, out("r8") start, out("rcx") _, out("rdx") _, options(nomem, nostack),
        );
    }
    end - start
}

/// Any hypercall that is not timed and changes no memory of this program. Returns RDX.
pub fn hypercall(args: Args) -> Result<u64, Status> {
    let (rax, rdx): (u64, u64);
    // SAFETY: clobbers what a `sysv64` call does. What callers do to this task's own memory and contexts is confined to
    // `domain` and `thread`, which use addresses and stacks of theirs.
    unsafe {
        core::arch::asm!("syscall", inlateout("rdi") args.rdi => _, inlateout("rsi") args.rsi => _,
            inlateout("rdx") args.rdx => rdx, inlateout("r8") args.r8 => _, inlateout("r9") args.r9 => _,
            inlateout("r10") args.r10 => _, lateout("rax") rax, clobber_abi("sysv64"), options(nostack));
    }
    check(rax).map(|()| rdx)
}

/// What RAX says.
pub fn check(rax: u64) -> Result<(), Status> {
    Status::from_raw(rax).unwrap_or(Status::BadHypercall).ok()
}

/// [`Status::Success`] for what cannot fail.
pub const SUCCESS: u64 = Status::Success as u64;

/// Success if `rax` is the error that an operation is to end with.
pub fn expect(rax: u64, error: Status) -> u64 {
    if rax == error as u64 { SUCCESS } else { Status::BadHypercall as u64 }
}
