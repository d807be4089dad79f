//! Memory, from the runtime's heap. Rust code uses that directly; these are for C's interface.

use alloc::alloc::{GlobalAlloc, Layout};
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

use runtime::heap::Heap;

use crate::errno::fail;

#[global_allocator]
static HEAP: Heap = Heap;

/// What lies below each block, because `free` is not told.
struct Header {
    size: usize,
    align: usize,
}

/// Least alignment: that of C's `max_align_t`, and of [`Header`].
const LEAST_ALIGN: usize = 16;

const _: () = assert!(size_of::<Header>() <= LEAST_ALIGN);

/// The header takes the alignment, so that what follows is aligned too.
fn layout(size: usize, align: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(align)?, align).ok()
}

fn allocate(size: usize, align: usize) -> *mut c_void {
    let align = align.max(LEAST_ALIGN);
    let Some(layout) = layout(size, align) else {
        return null_mut();
    };
    // SAFETY: the layout's size is at least `align`.
    let base = unsafe { HEAP.alloc(layout) };
    if base.is_null() {
        return null_mut();
    }
    // SAFETY: the header has `align` bytes, as many as a header at least, before the block.
    unsafe {
        let block = base.add(align);
        block.cast::<Header>().sub(1).write(Header { size, align });
        block.cast()
    }
}

fn or_no_memory(block: *mut c_void) -> *mut c_void {
    if block.is_null() {
        let _: c_int = fail(libc::ENOMEM);
    }
    block
}

#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    or_no_memory(allocate(size, LEAST_ALIGN))
}

#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    let Some(size) = count.checked_mul(size) else {
        return or_no_memory(null_mut());
    };
    let block = allocate(size, LEAST_ALIGN);
    if !block.is_null() {
        // SAFETY: so many bytes were just allocated.
        unsafe { block.cast::<u8>().write_bytes(0, size) };
    }
    or_no_memory(block)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    let new = allocate(size, LEAST_ALIGN);
    if !new.is_null() && !block.is_null() {
        // SAFETY: the caller got the block from here, so it has a header and as many bytes as that says.
        unsafe {
            let old = (*block.cast::<Header>().sub(1)).size;
            new.cast::<u8>().copy_from_nonoverlapping(block.cast(), old.min(size));
            free(block);
        }
    }
    or_no_memory(new)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    let block = allocate(size, align);
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's pointer is valid.
    unsafe { *out = block };
    0
}

#[unsafe(no_mangle)]
extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    if !align.is_power_of_two() {
        let _: c_int = fail(libc::EINVAL);
        return null_mut();
    }
    or_no_memory(allocate(size, align))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: the caller got the block from here, with this header.
    unsafe {
        let Header { size, align } = block.cast::<Header>().sub(1).read();
        if let Some(layout) = layout(size, align) {
            HEAP.dealloc(block.cast::<u8>().sub(align), layout);
        }
    }
}
