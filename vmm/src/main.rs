//! The virtual-machine monitor as a component: one virtual machine, from a configuration and sessions.
#![cfg_attr(kilonova, no_main)]
#![forbid(unsafe_code)]

mod component;

runtime_libc::component!(component::construct);
