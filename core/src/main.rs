//! Core, the root task: connects the services of the library with the kernel.
#![cfg_attr(kilonova, no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

mod machine;
mod start;

runtime::root_task!(start::main);
