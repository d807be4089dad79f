//! The error number of the running context.

use core::ffi::c_int;

use runtime::sys::utcb::library_words;

/// Index of the error number in [`library_words`].
const WORD: usize = 0;

/// Where the running context has its error number.
#[unsafe(no_mangle)]
extern "C" fn __errno_location() -> *mut c_int {
    // SAFETY: the words stay as long as the context. No reference is made.
    unsafe { (&raw mut (*library_words())[WORD]).cast() }
}

/// Sets the error number and returns -1, as C functions do that fail.
pub(crate) fn fail<T: From<i8>>(error: c_int) -> T {
    // SAFETY: the word is this context's own.
    unsafe { *__errno_location() = error };
    T::from(-1)
}
