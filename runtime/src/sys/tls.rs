//! Thread-local storage of programs that use `std`: a copy of the image's TLS template per context, found through FS.
//!
//! The layout is variant II of the ELF TLS specification for x86-64: the block ends at the thread pointer, where a pointer to
//! itself lies. Programs without thread-local variables have an empty template and never touch FS.

/// Size of what follows the thread pointer: the pointer to itself, and words that C code expects to exist (the stack
/// protector's canary is at 40).
#[cfg(any(kilonova, test))]
const CONTROL_SIZE: usize = 64;

/// Size of a block and where in it the template and the thread pointer are.
#[cfg(any(kilonova, test))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct BlockLayout {
    size: usize,
    align: usize,
    template: usize,
    thread_pointer: usize,
}

#[cfg(any(kilonova, test))]
impl BlockLayout {
    /// For a template of `template_size` bytes, initialised and zero ones.
    const fn new(template_size: usize, align: usize) -> Self {
        let align = if align < 16 { 16 } else { align };
        let thread_pointer = template_size.next_multiple_of(align);
        Self { size: thread_pointer + CONTROL_SIZE, align, template: thread_pointer - template_size, thread_pointer }
    }
}

/// The template, as the linker script describes it.
#[cfg(kilonova)]
#[repr(C)]
struct TlsLayout {
    start: *const u8,
    /// Bytes with an initial value.
    data_size: usize,
    /// All bytes.
    size: usize,
    align: usize,
}

// SAFETY: never written.
#[cfg(kilonova)]
unsafe impl Sync for TlsLayout {}

/// Gives the running context its thread-local variables. They live as long as the component.
#[cfg(kilonova)]
pub(super) fn install() {
    use alloc::alloc::{Layout, alloc_zeroed, handle_alloc_error};

    unsafe extern "C" {
        #[allow(improper_ctypes, reason = "the linker script defines it")]
        safe static __tls_layout: TlsLayout;
    }
    let template = &__tls_layout;
    if template.size == 0 {
        return;
    }
    let block = BlockLayout::new(template.size.next_multiple_of(template.align), template.align);
    let Ok(layout) = Layout::from_size_align(block.size, block.align) else {
        return;
    };
    // SAFETY: the block has room for the template at `template` and for a pointer at `thread_pointer`. FS is this
    // context's own.
    unsafe {
        let base = alloc_zeroed(layout);
        if base.is_null() {
            handle_alloc_error(layout);
        }
        core::ptr::copy_nonoverlapping(template.start, base.add(block.template), template.data_size);
        let thread_pointer = base.add(block.thread_pointer);
        thread_pointer.cast::<*mut u8>().write(thread_pointer);
        core::arch::asm!("wrfsbase {}", in(reg) thread_pointer, options(nostack, preserves_flags));
    }
}

/// The host's threads have theirs.
#[cfg(not(kilonova))]
pub(super) const fn install() {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_template_ends_at_the_aligned_thread_pointer(size in 0_usize..10_000, align_log in 0_u32..8) {
            let align = 1 << align_log;
            let size = size.next_multiple_of(align);
            let block = BlockLayout::new(size, align);
            prop_assert_eq!(block.template + size, block.thread_pointer);
            prop_assert!(block.thread_pointer.is_multiple_of(block.align) && block.align >= align);
            prop_assert!(block.template.is_multiple_of(align));
            prop_assert_eq!(block.size, block.thread_pointer + CONTROL_SIZE);
        }
    }
}
