//! What a component with `std` links instead of a C library.
//!
//! The prebuilt `std` for `x86_64-unknown-linux-gnu` leaves some functions of the C library undefined. This crate defines
//! them on top of [`runtime`], so that a program needs neither another toolchain nor changes. On a host it is empty:
//! there the same program is linked with the host's library.
//!
//! # A program
//!
//! ```ignore
//! use runtime_libc as _;
//! fn main() { println!("hello"); }
//! ```
//!
//! `main` runs on a thread of its own with a stack of 1 MiB. When it returns, the component exits with its value.
//!
//! # A component
//!
//! ```ignore
//! #![cfg_attr(kilonova, no_main)]
//! runtime_libc::component!(construct);
//! fn construct(env: &'static runtime::Env) -> Result<(), runtime::Error> { println!("hello"); Ok(()) }
//! ```
//!
//! As [`runtime::component!`], but with `std`.
//!
//! # What works
//!
//! | of `std` | is |
//! |---|---|
//! | `println!`, `eprintln!`, panic messages | LOG, by lines |
//! | `stdin` | at its end |
//! | memory | the runtime's heap, which is also the global allocator |
//! | `thread` | threads of the CPU session, spread over its CPUs; each costs its stack, 2 MiB unless `Builder` says less |
//! | `Mutex`, `Condvar`, `park`, channels | futexes, which wait on the kernel's semaphores |
//! | `thread_local!` | with destructors at the end of threads other than `main`'s |
//! | `Instant`, `sleep` | the TSC |
//! | `SystemTime` | time since the machine's start: it has no calendar, so the clock begins at the Unix epoch |
//! | keys of `HashMap` | RDRAND; without it the TSC, which does not resist an attacker who knows the time |
//! | other random numbers | RDRAND; without it an error |
//! | `process::exit`, `abort`, panic | exit of the component, with 134 for the latter two |
//! | arguments, environment variables | none |
//! | files, network, processes, signals | errors: `ENOENT` for what is looked up by name, else `ENOSYS` |
//!
//! # `unsafe`
//!
//! Functions of the C library are unsafe by nature: they get pointers. So beside `runtime::sys` this crate is where
//! `unsafe` is allowed; programs that link it need none.
#![cfg_attr(not(test), no_std)]
#![allow(unsafe_code, reason = "the interface is that of C")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests state their expectations tersely")
)]

extern crate alloc;

#[cfg(any(kilonova, test))]
mod console;
#[cfg(any(kilonova, test))]
mod futex;
#[cfg(any(kilonova, test))]
mod key;
#[cfg(any(kilonova, test))]
mod time;

#[cfg(kilonova)]
mod absent;
#[cfg(kilonova)]
mod descriptor;
#[cfg(kilonova)]
mod errno;
#[cfg(kilonova)]
mod memory;
#[cfg(kilonova)]
mod process;
#[cfg(kilonova)]
mod random;
#[cfg(kilonova)]
mod signal;
#[cfg(kilonova)]
pub mod start;
#[cfg(kilonova)]
mod string;
#[cfg(kilonova)]
mod system;
#[cfg(kilonova)]
mod thread;
#[cfg(kilonova)]
mod unwind;

#[doc(hidden)]
pub use runtime;

/// Defines a component that uses `std`: its entry. The argument is `fn(&'static Env) -> Result<(), impl Display>`. The program
/// has to say `#![cfg_attr(kilonova, no_main)]`. On a host it makes a program that only says that it cannot run there.
#[macro_export]
macro_rules! component {
    ($construct:path) => {
        $crate::runtime::entry!(|_| $crate::runtime::startup::run(|env| {
            $crate::start::initialise(env);
            $construct(env)
        }));
        $crate::runtime::elsewhere!("a component", fn(&'static $crate::runtime::Env) -> _, $construct);
    };
}
