//! Signals, which are never delivered: each is as if it was ignored.

use core::ffi::c_int;

use crate::errno::fail;

#[unsafe(no_mangle)]
extern "C" fn signal(_number: c_int, handler: libc::sighandler_t) -> libc::sighandler_t {
    if is_handler(handler) {
        let _: c_int = fail(libc::ENOSYS);
        return libc::SIG_ERR;
    }
    libc::SIG_IGN
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(_number: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
    // SAFETY: the caller's pointers are null or valid, and zero is valid for every field of the structure.
    unsafe {
        if !new.is_null() && is_handler((*new).sa_sigaction) {
            return fail(libc::ENOSYS);
        }
        if !old.is_null() {
            old.write_bytes(0, 1);
            (*old).sa_sigaction = libc::SIG_IGN;
        }
    }
    0
}

const fn is_handler(handler: libc::sighandler_t) -> bool {
    handler != libc::SIG_DFL && handler != libc::SIG_IGN
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sigemptyset(set: *mut libc::sigset_t) -> c_int {
    // SAFETY: the caller's pointer is valid, and zero is valid for it.
    unsafe { set.write_bytes(0, 1) };
    0
}

/// No set is ever looked at.
#[unsafe(no_mangle)]
extern "C" fn sigaddset(_set: *mut libc::sigset_t, _number: c_int) -> c_int {
    0
}
