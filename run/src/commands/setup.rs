//! `./x setup`: everything that any command may need of the host.

use crate::error::Result;
use crate::host::packages::{self, Purpose};
use crate::toolchain::Toolchain;

/// Installs what is missing and finds out how ring 0 is compiled.
pub fn execute() -> Result<()> {
    packages::ensure(&Purpose::EVERYDAY)?;
    Toolchain::ring0()?;
    eprintln!("setup: complete");
    Ok(())
}
