//! The machine this tool runs on: its programs, files and packages.

pub mod apt;
pub mod command;
pub mod packages;
