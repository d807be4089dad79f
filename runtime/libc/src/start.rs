//! From the runtime's entry to `main`, or to a component's `construct`.

use alloc::format;
use core::ffi::{c_char, c_int};
use core::ptr::null;

use runtime::{Env, Error, startup};

use crate::{process, thread};

/// Bytes of the stack that `main` runs on.
const MAIN_STACK: usize = 1 << 20;

/// An entry of the image's list of constructors.
type Constructor = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

// A component defines `kilonova_main` itself and has no `main`. A program has no `kilonova_main`, so it gets this one.
core::arch::global_asm!(
    ".pushsection .text.kilonova_main,\"ax\",@progbits",
    ".weak main",
    ".weak kilonova_main",
    ".type kilonova_main,@function",
    "kilonova_main:",
    "jmp {program}",
    ".popsection",
    program = sym program,
);

extern "C" fn program() -> ! {
    startup::run(start_main)
}

fn start_main(env: &'static Env) -> Result<(), Error> {
    initialise(env);
    let started = thread::spawn("main", MAIN_STACK, || {
        unsafe extern "C" {
            fn main(argc: c_int, argv: *const *const c_char) -> c_int;
        }
        let arguments = [null()];
        // SAFETY: the compiler made it for the program's `main`; the list of no arguments ends with a null pointer.
        process::exit(unsafe { main(0, arguments.as_ptr()) })
    });
    started
        .map(|_running| ())
        .ok_or_else(|| Error::input(format!("cannot start main with {MAIN_STACK} bytes of stack")))
}

/// Prepares what `std` needs, before anything of it is used: what [`component!`](crate::component!) does before
/// `construct`.
pub fn initialise(env: &'static Env) {
    thread::initialise(env.spawner());
    unsafe extern "C" {
        safe static __init_array_start: [Constructor; 0];
        safe static __init_array_end: [Constructor; 0];
    }
    let mut next = __init_array_start.as_ptr();
    while next != __init_array_end.as_ptr() {
        // SAFETY: the linker script puts the list between the two symbols. Constructors run once, before the program, as
        // they expect.
        unsafe {
            (*next)(0, &null(), &null());
            next = next.add(1);
        }
    }
}
