//! Thread-local storage of programs that use `std`: a copy of the image's TLS template per context, found through FS.
//!
//! The layout is variant II of the ELF TLS specification for x86-64: the block ends at the thread pointer, where a pointer to
//! itself lies. Programs without thread-local variables have an empty template and never touch FS.

#[cfg(kilonova)]
use alloc::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

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

#[cfg(kilonova)]
impl TlsLayout {
    /// The block for this template; `None` if there are no thread-local variables.
    fn block(&self) -> Option<(BlockLayout, Layout)> {
        if self.size == 0 {
            return None;
        }
        let block = BlockLayout::new(self.size.next_multiple_of(self.align), self.align);
        Some((block, Layout::from_size_align(block.size, block.align).ok()?))
    }
}

#[cfg(kilonova)]
unsafe extern "C" {
    #[allow(improper_ctypes, reason = "the linker script defines it")]
    safe static __tls_layout: TlsLayout;
}

/// Gives the running context its thread-local variables, until [`remove`] or for ever.
#[cfg(kilonova)]
pub(super) fn install() {
    let template = &__tls_layout;
    let Some((block, layout)) = template.block() else {
        return;
    };
    // SAFETY: the block has room for the template at `template` and for a pointer at `thread_pointer`. It is this
    // context's own.
    unsafe {
        let base = alloc_zeroed(layout);
        if base.is_null() {
            handle_alloc_error(layout);
        }
        core::ptr::copy_nonoverlapping(template.start, base.add(block.template), template.data_size);
        let thread_pointer = base.add(block.thread_pointer);
        thread_pointer.cast::<*mut u8>().write(thread_pointer);
        // An address of this program is one that the kernel accepts.
        let _set = super::syscall::set_fs_base(thread_pointer as u64);
    }
}

/// Takes the thread-local variables from the running context, which [`install`] gave it and which does not look at them
/// again. Their destructors have run.
#[cfg(kilonova)]
pub(super) fn remove() {
    let Some((block, layout)) = __tls_layout.block() else {
        return;
    };
    let thread_pointer: *mut u8;
    // SAFETY: `install` put the pointer to itself there, into the block that it allocated with this layout.
    unsafe {
        core::arch::asm!("mov {}, fs:[0]", out(reg) thread_pointer, options(nostack, preserves_flags, readonly));
        dealloc(thread_pointer.sub(block.thread_pointer), layout);
    }
}

/// The host's threads have theirs.
#[cfg(not(kilonova))]
pub(super) const fn install() {}

/// The host's threads keep theirs.
#[cfg(not(kilonova))]
pub(super) const fn remove() {}

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
