//! Functions for what this system does not have. They fail, whatever their arguments are.
//!
//! In assembly, because one body serves functions of any signature, variadic ones too.

use core::ffi::{c_int, c_long, c_void};

use crate::errno::fail;

extern "C" fn fail_number(error: c_int) -> c_long {
    fail(error)
}

extern "C" fn fail_pointer(error: c_int) -> *mut c_void {
    let _: c_int = fail(error);
    core::ptr::null_mut()
}

/// For functions that return the error itself.
extern "C" fn return_error(error: c_int) -> c_int {
    error
}

/// `body: error, names..;` defines functions that do `body(error)`.
macro_rules! absent {
    ($($body:ident($error:ident): $($name:ident)*;)*) => {
        $($(absent!(@one $body $error stringify!($name));)*)*
    };
    (@one $body:ident $error:ident $name:expr) => {
        core::arch::global_asm!(
            concat!(".pushsection .text.", $name, ",\"ax\",@progbits"),
            concat!(".globl ", $name),
            concat!(".type ", $name, ",@function"),
            concat!($name, ":"),
            "mov edi, {error}",
            "jmp {body}",
            ".popsection",
            error = const libc::$error,
            body = sym $body,
        );
    };
}

absent! {
    // No name leads to a file.
    fail_number(ENOENT): chdir chmod chown chroot fstatat64 lchown linkat lstat64 mkdir mkfifo open open64
        openat64 readlink rename rmdir stat64 symlink unlink unlinkat utimensat;
    fail_pointer(ENOENT): getcwd opendir realpath;
    // No descriptor but those of `descriptor` is open.
    fail_number(EBADF): closedir copy_file_range dirfd fchmod fchown fdatasync flock fsync ftruncate64 futimens pread64
        preadv pwrite64 pwritev sendfile64 splice;
    fail_pointer(EBADF): fdopendir readdir64;
    fail_number(ENOTTY): ioctl;
    // No more than those can be opened.
    fail_number(ENOSYS): dup dup2 pipe2;
    // No network.
    fail_number(ENOSYS): socket socketpair;
    fail_number(ENOTSOCK): accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmsg send
        sendmsg sendto setsockopt shutdown;
    return_error(EAI_FAIL): getaddrinfo;
    // Frees what `getaddrinfo` made.
    return_error(ENOSYS): freeaddrinfo;
    fail_number(ENOSYS): __res_init gethostname;
    // No processes but this one, no users.
    fail_number(ENOSYS): execvp fork kill pidfd_getpid setgid setgroups setpgid setsid setuid waitid waitpid;
    return_error(ENOSYS): getpwuid_r pidfd_spawnp posix_spawn_file_actions_addchdir
        posix_spawn_file_actions_addchdir_np posix_spawn_file_actions_adddup2 posix_spawn_file_actions_destroy
        posix_spawn_file_actions_init posix_spawnattr_destroy posix_spawnattr_init posix_spawnattr_setflags
        posix_spawnattr_setpgroup posix_spawnattr_setsigdefault posix_spawnp;
    // No environment to change.
    fail_number(ENOSYS): setenv unsetenv;
    // Memory comes from the heap.
    fail_number(ENOSYS): mmap64 mprotect munmap;
    // Signals are never delivered.
    fail_number(ENOSYS): sigaltstack;
    // Threads cannot be looked at.
    return_error(ENOSYS): pthread_getattr_np pthread_attr_getstack pthread_attr_getguardsize pthread_setname_np;
    // No dynamic linker.
    fail_pointer(ENOSYS): dlsym;
}
