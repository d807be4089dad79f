//! Kernel memory: the pool, pages, objects, and page tables.
//!
//! Together with `arch` the only home of `unsafe`. The argument for its soundness rests on three facts:
//!
//! 1. Memory of the pool is mapped for good, writable and not executable, in every address space of the kernel
//!    ([`direct`]), and is accessed through atomics only. So reading or writing a [`Page`] that somebody
//!    else has since allocated is a logic error, never undefined behaviour.
//! 2. The pool has two parts for good: object slots and data pages ([`pool`]). What once was a slot
//!    always is one, so the identity word that every lookup compares is never under control of a user.
//! 3. A slot changes its type only after all CPUs have passed a quiescent state ([`crate::smp`]), and is
//!    zeroed before; zero is a valid value of every field of every object.

pub mod addr;
pub mod bitmap;
pub mod buddy;
pub mod direct;
pub mod lock;
pub mod object;
pub mod page;
pub mod pool;
pub mod ptab;

pub use addr::{PAGE, Phys};
pub use bitmap::Bitmap;
pub use object::{Link, Object, Weak};
pub use page::Page;

/// Sets the pool up in test memory.
#[cfg(test)]
pub fn testing_pool(base: Phys, size: u64) {
    // SAFETY: leaked memory of the test process, used by nobody else; the "direct map" is the identity there.
    unsafe { pool::init(base, size) };
}
