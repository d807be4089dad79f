//! The subcommands.

pub mod build;
pub mod image;
pub mod loc;
pub mod run;
pub mod setup;
pub mod test;
