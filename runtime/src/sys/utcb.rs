//! The UTCB of the running execution context, found from the stack pointer.
//!
//! A context made by this crate runs on a stack whose slot ends with its UTCB; the first thread runs on a stack of the
//! image and has its UTCB at a fixed address. So no register or thread-local variable is needed.

use core::mem::MaybeUninit;

use abi::state::ArchState;
use abi::utcb::Utcb;
#[cfg(any(kilonova, test))]
use abi::{PAGE_SIZE, session::initial};

/// Index in [`Utcb::user`] of the pointer to what the context runs: its handler or closure.
pub(super) const USER_CONTEXT: usize = 0;
/// Index in [`Utcb::user`] of the flag that [`with`] is in progress.
const USER_BUSY: usize = 1;
/// Index in [`Utcb::user`] of the first of the [`library_words`].
const USER_LIBRARY: usize = 2;
/// Number of [`library_words`].
pub const LIBRARY_WORDS: usize = 4;

/// Address of the UTCB that belongs to a stack pointer.
#[cfg(any(kilonova, test))]
#[inline(always)]
const fn address_for(stack_pointer: u64) -> u64 {
    if stack_pointer < initial::STACK_BASE {
        initial::UTCB
    } else {
        (stack_pointer | (initial::STACK_SLOT_SIZE - 1)) - (PAGE_SIZE - 1)
    }
}

/// The UTCB of the running context.
#[cfg(kilonova)]
#[inline(always)]
pub(super) fn current() -> *mut Utcb {
    let stack_pointer: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rsp", out(reg) stack_pointer, options(nomem, nostack, preserves_flags));
    }
    address_for(stack_pointer) as *mut Utcb
}

/// Without a kernel there is none: each look finds an empty one.
#[cfg(not(kilonova))]
pub(super) fn current() -> *mut Utcb {
    alloc::boxed::Box::leak(alloc::boxed::Box::new(empty()))
}

/// Accesses the UTCB of the running context. `access` must not call: what it holds would change below it.
///
/// # Panics
/// If `access` comes here again.
#[inline]
pub fn with<R>(access: impl FnOnce(&mut Utcb) -> R) -> R {
    let utcb = current();
    // SAFETY: the page is mapped as long as the context lives, and no other context looks for it here. The flag makes
    // this the only reference in this context.
    let utcb = unsafe { &mut *utcb };
    assert!(core::mem::replace(&mut utcb.user[USER_BUSY], 1) == 0, "nested access to the UTCB");
    let result = access(utcb);
    utcb.user[USER_BUSY] = 0;
    result
}

/// Accesses the state that an event has delivered to the running context, and from which the reply is taken. `access`
/// must not call.
///
/// # Panics
/// If `access` comes here again.
#[inline]
pub fn with_state<R>(access: impl FnOnce(&mut ArchState) -> R) -> R {
    with(|utcb| {
        let state = (&raw mut utcb.words).cast::<ArchState>();
        // SAFETY: the state lies at the start of the words and is not longer (checked in `abi::utcb`), it consists of
        // integers, and nobody else uses the words as long as `with` lends them.
        access(unsafe { &mut *state })
    })
}

/// Words of the running context for a C library, which has no thread-local variables of its own. Zero at first.
/// They stay where they are as long as the context lives.
#[must_use]
pub fn library_words() -> *mut [u64; LIBRARY_WORDS] {
    let utcb = current();
    // SAFETY: the page is mapped as long as the context lives. No reference is made.
    unsafe { (&raw mut (*utcb).user).cast::<u64>().add(USER_LIBRARY).cast() }
}

/// A UTCB without content.
#[cfg(not(kilonova))]
pub(crate) fn empty() -> Utcb {
    Utcb {
        words: [0; abi::message::MAX_WORDS],
        caps: [abi::message::CapItem::default(); abi::message::MAX_CAPS],
        window_base: abi::cap::Sel::NONE.0,
        window_count: 0,
        user: [0; 38],
    }
}

/// Runs `action`, which may call, and leaves the UTCB as it was before, except for the receive window. For what
/// must not disturb a message in the making, such as the growth of the heap.
pub fn preserved<R>(action: impl FnOnce() -> R) -> R {
    let utcb = current();
    // Not as a `Utcb`, whose alignment would take several pages of a stack that may be as small as the first thread's.
    const WORDS: usize = size_of::<Utcb>() / size_of::<u64>();
    let mut saved = MaybeUninit::<[u64; WORDS]>::uninit();
    // SAFETY: as in `with`. A reference held by an interrupted `with` of this context sees the same content before and
    // after, but for the window, which `with`'s callers leave to the naming of capabilities.
    unsafe {
        utcb.cast::<[u64; WORDS]>().copy_to_nonoverlapping(saved.as_mut_ptr(), 1);
        (*utcb).user[USER_BUSY] = 0;
        let result = action();
        let window = ((*utcb).window_base, (*utcb).window_count);
        utcb.cast::<[u64; WORDS]>().copy_from_nonoverlapping(saved.as_ptr(), 1);
        ((*utcb).window_base, (*utcb).window_count) = window;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_thread_has_its_utcb_where_core_puts_it() {
        assert_eq!(address_for(initial::IMAGE_BASE + 8), initial::UTCB);
    }

    proptest! {
        #[test]
        fn a_stack_pointer_in_a_slot_finds_the_last_page(slot in 0..initial::STACK_SLOTS,
                                                         depth in PAGE_SIZE..initial::STACK_SLOT_SIZE) {
            let end = initial::STACK_BASE + (slot + 1) * initial::STACK_SLOT_SIZE;
            prop_assert_eq!(address_for(end - depth), end - PAGE_SIZE);
        }
    }
}
