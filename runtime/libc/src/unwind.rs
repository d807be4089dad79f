//! Unwinding, which never happens: a panic ends the component. Its message comes without a backtrace.

use core::ffi::{c_int, c_void};

use crate::process::abort;

/// `_URC_END_OF_STACK` of the Itanium C++ ABI: exception handling, level I.
const END_OF_STACK: c_int = 5;

/// Visits no frame.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_visit: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// Visits no loaded object: without frames there is nothing to look up in them.
#[unsafe(no_mangle)]
extern "C" fn dl_iterate_phdr(_visit: *const c_void, _argument: *mut c_void) -> c_int {
    0
}

/// Functions for those that are being unwound.
macro_rules! unreachable_functions {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> ! {
                abort()
            }
        )*
    };
}

unreachable_functions! {
    _Unwind_FindEnclosingFunction _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetIP _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_Resume _Unwind_SetGR
    _Unwind_SetIP
}
