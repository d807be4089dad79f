//! Random numbers, from the processor.

use core::arch::x86_64::{__cpuid, _rdrand64_step};
use core::ffi::{c_uint, c_void};

use runtime::sys::tsc;

use crate::errno::fail;

/// CPUID.01H:ECX: the processor has RDRAND.
const FEATURE_LEAF: u32 = 1;
const FEATURE_RDRAND: u32 = 1 << 30;
/// How often RDRAND may fail in a row, Intel SDM volume 1, 7.3.17.1.
const ATTEMPTS: u32 = 10;

#[target_feature(enable = "rdrand")]
fn rdrand() -> Option<u64> {
    let mut value = 0;
    (0..ATTEMPTS).any(|_| _rdrand64_step(&mut value) == 1).then_some(value)
}

fn hardware() -> Option<u64> {
    if __cpuid(FEATURE_LEAF).ecx & FEATURE_RDRAND == 0 {
        return None;
    }
    // SAFETY: the processor has the instruction.
    unsafe { rdrand() }
}

/// A number that differs from call to call, made from the TSC by the finaliser of SplitMix64. Whoever knows the time
/// can guess it.
fn guessable() -> u64 {
    let mixed = tsc::now().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Fills the buffer. Only with `GRND_INSECURE`, which `std` passes for hash maps, is a guessable number good enough.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(buffer: *mut c_void, size: usize, flags: c_uint) -> isize {
    let mut done = 0;
    while done < size {
        let value = match hardware() {
            Some(value) => value,
            None if flags & libc::GRND_INSECURE != 0 => guessable(),
            None => return fail(libc::ENOSYS),
        };
        let bytes = value.to_ne_bytes();
        let length = bytes.len().min(size - done);
        // SAFETY: the caller's buffer has `size` bytes.
        unsafe { buffer.cast::<u8>().add(done).copy_from_nonoverlapping(bytes.as_ptr(), length) };
        done += length;
    }
    size as isize
}
