//! Content of the pages in the window of [`memory`](crate::memory).

use crate::memory::{LARGE, WINDOW};
use abi::PAGE_SIZE;

/// Copies a page of this task to page `index` of the window. Returns that page's number.
pub fn copy(page: u64, index: u64) -> u64 {
    let to = WINDOW + index % LARGE;
    // SAFETY: the source is a page of the image, the target one of the window, which is mapped and nobody else's.
    unsafe {
        let (from, to) = ((page * PAGE_SIZE) as *const u8, (to * PAGE_SIZE) as *mut u8);
        core::ptr::copy_nonoverlapping(from, to, PAGE_SIZE as usize);
    }
    to
}
