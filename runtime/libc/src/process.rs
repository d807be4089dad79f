//! The program as a process: how it ends, and what it is told at its start.

use core::ffi::{c_char, c_int, c_ulong};
use core::sync::atomic::AtomicPtr;

use runtime::startup;

use crate::console;
use crate::errno::fail;

/// Exit value of a program that gives up: that of a shell for SIGABRT.
const EXIT_ABORT: c_int = 134;
/// There is one process, which needs no number.
const PID: c_int = 1;

/// No environment variables: a null pointer is an empty list.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name is C's")]
static environ: AtomicPtr<*const c_char> = AtomicPtr::new(core::ptr::null_mut());

#[unsafe(no_mangle)]
extern "C" fn getenv(_name: *const c_char) -> *mut c_char {
    core::ptr::null_mut()
}

/// Nothing is passed to programs that way.
#[unsafe(no_mangle)]
extern "C" fn getauxval(_kind: c_ulong) -> c_ulong {
    let _: c_int = fail(libc::ENOENT);
    0
}

/// Older than any that something could be expected of.
#[unsafe(no_mangle)]
extern "C" fn gnu_get_libc_version() -> *const c_char {
    c"2.0".as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn getpid() -> c_int {
    PID
}

#[unsafe(no_mangle)]
extern "C" fn getppid() -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn getuid() -> libc::uid_t {
    0
}

/// Tells the parent, and does not return even if that lets the program live.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn exit(value: c_int) -> ! {
    console::flush();
    startup::exit(value.into())
}

#[unsafe(no_mangle)]
extern "C" fn _exit(value: c_int) -> ! {
    exit(value)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn abort() -> ! {
    exit(EXIT_ABORT)
}

#[unsafe(no_mangle)]
extern "C" fn pause() -> c_int {
    runtime::semaphore::sleep_forever()
}
