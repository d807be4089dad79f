//! Strings. The memory functions are the runtime's.

use core::ffi::{c_char, c_int};

// In assembly, because a compiler would turn a loop that looks for a byte into a call of itself.
// SysV ABI: RDI and RSI are the arguments, RAX the result; the direction flag is clear.
core::arch::global_asm!(
    ".pushsection .text.strlen,\"ax\",@progbits",
    // size_t strlen(const char *text)
    ".globl strlen",
    ".type strlen,@function",
    "strlen:",
    "mov rsi, -1",
    // size_t strnlen(const char *text, size_t limit)
    ".globl strnlen",
    ".type strnlen,@function",
    "strnlen:",
    "mov rax, rsi",
    "mov rcx, rsi",
    "jrcxz 2f",
    "mov r8, rsi",
    "xor eax, eax",
    "repne scasb",
    "mov rax, r8",
    "sub rax, rcx",
    // The terminator does not count, if there was one before the limit.
    "cmp byte ptr [rdi - 1], 0",
    "jne 2f",
    "dec rax",
    "2:",
    "ret",
    ".popsection",
);

/// Words for the errors of this crate.
const MESSAGES: &[(c_int, &[u8])] = &[
    (libc::ENOENT, b"No such file or directory"),
    (libc::EBADF, b"Bad file descriptor"),
    (libc::EAGAIN, b"Resource temporarily unavailable"),
    (libc::ENOMEM, b"Cannot allocate memory"),
    (libc::EINVAL, b"Invalid argument"),
    (libc::ENOTTY, b"Inappropriate ioctl for device"),
    (libc::ESPIPE, b"Illegal seek"),
    (libc::ENOSYS, b"Function not implemented"),
    (libc::ENOTSOCK, b"Socket operation on non-socket"),
    (libc::ETIMEDOUT, b"Timed out"),
];

#[unsafe(no_mangle)]
unsafe extern "C" fn __xpg_strerror_r(error: c_int, buffer: *mut c_char, size: usize) -> c_int {
    let message = MESSAGES.iter().find(|(number, _)| *number == error).map_or(&b"Unknown error"[..], |(_, text)| text);
    let Some(room) = size.checked_sub(1) else {
        return libc::ERANGE;
    };
    let length = message.len().min(room);
    // SAFETY: the caller's buffer has `size` bytes, which is more than `length`.
    unsafe {
        buffer.cast::<u8>().copy_from_nonoverlapping(message.as_ptr(), length);
        *buffer.add(length) = 0;
    }
    if length < message.len() { libc::ERANGE } else { 0 }
}

/// Reasons of `getaddrinfo`, which has one.
#[unsafe(no_mangle)]
extern "C" fn gai_strerror(_error: c_int) -> *const c_char {
    c"no name service".as_ptr()
}
