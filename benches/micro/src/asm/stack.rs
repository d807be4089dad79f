//! Stacks and the entry of threads.

use crate::thread;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a thread runs. It returns a status.
pub type Body = fn() -> u64;

/// Words of a stack.
const WORDS: usize = 2048;

#[repr(C, align(16))]
struct Stack([AtomicU64; WORDS]);

static STACKS: [Stack; 2] = [const { Stack([const { AtomicU64::new(0) }; WORDS]) }; 2];

/// Stack and instruction pointer of a thread that runs `body`.
pub fn prepare(index: u64, body: Body) -> (u64, u64) {
    let [first, second] = &STACKS;
    let Stack(words) = if index == 0 { first } else { second };
    let [.., top, _] = words;
    // The kernel's stores to the new context order it.
    top.store(body as usize as u64, Relaxed);
    // As after a call: 8 modulo 16.
    let sp = words.as_ptr_range().end as u64 - 2 * 8 - 8;
    (sp, enter as *const () as u64)
}

/// RDI is the stack pointer.
extern "sysv64" fn enter(sp: u64) -> ! {
    // SAFETY: `prepare` put a function of this type there.
    let body: Body = unsafe { core::mem::transmute(((sp + 8) as *const u64).read()) };
    thread::done(body())
}
