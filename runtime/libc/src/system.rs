//! What programs ask the system about itself, and raw system calls.

use core::ffi::{c_int, c_long, c_uint};
use core::slice;

use abi::PAGE_SIZE;
use runtime::sys::utcb::library_words;

use crate::errno::fail;
use crate::{futex, random, thread, time};

/// What `sched_yield` waits, so that threads of lower priority run too.
const YIELD_NS: u64 = 1000;

#[unsafe(no_mangle)]
extern "C" fn sysconf(name: c_int) -> c_long {
    match name {
        libc::_SC_PAGESIZE => PAGE_SIZE as c_long,
        libc::_SC_NPROCESSORS_ONLN | libc::_SC_NPROCESSORS_CONF => thread::cpus().into(),
        _ => fail(libc::EINVAL),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sched_getaffinity(_thread: libc::pid_t, size: usize, set: *mut libc::cpu_set_t) -> c_int {
    // SAFETY: the caller's set has so many bytes.
    let bytes = unsafe { slice::from_raw_parts_mut(set.cast::<u8>(), size) };
    bytes.fill(0);
    for cpu in 0..thread::cpus() {
        if let Some(byte) = bytes.get_mut((cpu / u8::BITS) as usize) {
            *byte |= 1 << (cpu % u8::BITS);
        }
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn sched_yield() -> c_int {
    time::sleep_ns(YIELD_NS);
    0
}

/// Number of the running context: that of the page with its words.
#[unsafe(no_mangle)]
extern "C" fn gettid() -> libc::pid_t {
    (library_words().addr() / PAGE_SIZE as usize) as libc::pid_t
}

/// The system calls that `std` makes without a function of its own.
unsafe extern "C" fn syscall_of_fixed_arguments(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    _e: usize,
    f: usize,
) -> c_long {
    match number {
        // SAFETY: the caller passes what futex(2) says.
        libc::SYS_futex => unsafe {
            futex::futex(a as *const _, b as c_int, c as u32, d as *const libc::timespec, f as u32)
        },
        // SAFETY: the caller passes what getrandom(2) says.
        libc::SYS_getrandom => unsafe { random::getrandom(a as *mut _, b, c as c_uint) as c_long },
        libc::SYS_gettid => gettid().into(),
        _ => fail(libc::ENOSYS),
    }
}

// The C function is variadic, which Rust cannot define. Its arguments are where those of the function above are; of those
// that were not passed, some registers and a word of the caller's stack are read and not used.
core::arch::global_asm!(
    ".pushsection .text.syscall,\"ax\",@progbits",
    ".globl syscall",
    ".type syscall,@function",
    "syscall:",
    "jmp {syscall}",
    ".popsection",
    syscall = sym syscall_of_fixed_arguments,
);
