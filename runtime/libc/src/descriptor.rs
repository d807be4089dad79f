//! File descriptors: standard input, which is at its end, standard output and standard error.

use core::ffi::{c_int, c_void};
use core::slice;

use crate::console;
use crate::errno::fail;
use crate::time;

const fn is_open(descriptor: c_int) -> bool {
    matches!(descriptor, libc::STDIN_FILENO | libc::STDOUT_FILENO | libc::STDERR_FILENO)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, buffer: *const c_void, size: usize) -> isize {
    // SAFETY: the caller's buffer has so many bytes.
    let bytes = unsafe { bytes(buffer, size) };
    if usize::try_from(descriptor).is_ok_and(|descriptor| console::write(descriptor, bytes)) {
        return size as isize;
    }
    fail(libc::EBADF)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn writev(descriptor: c_int, parts: *const libc::iovec, count: c_int) -> isize {
    let Ok(count) = usize::try_from(count) else {
        return fail(libc::EINVAL);
    };
    let mut written = 0;
    for index in 0..count {
        // SAFETY: the caller's array has so many entries, each a valid buffer.
        let result = unsafe {
            let part = parts.add(index).read();
            write(descriptor, part.iov_base, part.iov_len)
        };
        if result < 0 {
            return result;
        }
        written += result;
    }
    written
}

/// # Safety
/// The buffer has so many bytes, or none.
unsafe fn bytes<'a>(buffer: *const c_void, size: usize) -> &'a [u8] {
    if size == 0 {
        return &[];
    }
    // SAFETY: the C program that has called `write` or `writev` gives a buffer of so many bytes, which it does not change
    // meanwhile (POSIX); a null pointer comes with no bytes, and does not get here.
    unsafe { slice::from_raw_parts(buffer.cast(), size) }
}

fn read_nothing(descriptor: c_int) -> isize {
    if descriptor == libc::STDIN_FILENO { 0 } else { fail(libc::EBADF) }
}

#[unsafe(no_mangle)]
extern "C" fn read(descriptor: c_int, _buffer: *mut c_void, _size: usize) -> isize {
    read_nothing(descriptor)
}

#[unsafe(no_mangle)]
extern "C" fn readv(descriptor: c_int, _parts: *const libc::iovec, _count: c_int) -> isize {
    read_nothing(descriptor)
}

#[unsafe(no_mangle)]
extern "C" fn lseek64(descriptor: c_int, _offset: i64, _whence: c_int) -> i64 {
    fail(if is_open(descriptor) { libc::ESPIPE } else { libc::EBADF })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fstat64(descriptor: c_int, status: *mut libc::stat64) -> c_int {
    if !is_open(descriptor) {
        return fail(libc::EBADF);
    }
    // SAFETY: the caller's pointer is valid, and zero is valid for every field.
    unsafe {
        status.write_bytes(0, 1);
        (*status).st_mode = libc::S_IFIFO;
    }
    0
}

/// The standard descriptors stay open.
#[unsafe(no_mangle)]
extern "C" fn close(descriptor: c_int) -> c_int {
    if is_open(descriptor) { 0 } else { fail(libc::EBADF) }
}

/// Only the queries, which take no third argument.
extern "C" fn fcntl_of_fixed_arguments(descriptor: c_int, command: c_int) -> c_int {
    match command {
        _ if !is_open(descriptor) => fail(libc::EBADF),
        libc::F_GETFD => 0,
        libc::F_GETFL if descriptor == libc::STDIN_FILENO => libc::O_RDONLY,
        libc::F_GETFL => libc::O_WRONLY,
        _ => fail(libc::EINVAL),
    }
}

// The C function is variadic, which Rust cannot define; its fixed arguments are where those above are.
core::arch::global_asm!(
    ".pushsection .text.fcntl,\"ax\",@progbits",
    ".globl fcntl",
    ".type fcntl,@function",
    "fcntl:",
    "jmp {fcntl}",
    ".popsection",
    fcntl = sym fcntl_of_fixed_arguments,
);

#[unsafe(no_mangle)]
unsafe extern "C" fn poll(entries: *mut libc::pollfd, count: libc::nfds_t, timeout_ms: c_int) -> c_int {
    let mut ready = 0;
    for index in 0..count as usize {
        // SAFETY: the caller's array has so many entries.
        let entry = unsafe { &mut *entries.add(index) };
        entry.revents = match entry.fd {
            libc::STDIN_FILENO => entry.events & libc::POLLIN,
            libc::STDOUT_FILENO | libc::STDERR_FILENO => entry.events & libc::POLLOUT,
            // An entry to be ignored.
            fd if fd < 0 => 0,
            _ => libc::POLLNVAL,
        };
        ready += c_int::from(entry.revents != 0);
    }
    // What is not ready now never will be.
    match u64::try_from(timeout_ms) {
        _ if ready > 0 => {}
        Ok(timeout_ms) => time::sleep_ns(timeout_ms.saturating_mul(1_000_000)),
        Err(_) => runtime::semaphore::sleep_forever(),
    }
    ready
}
