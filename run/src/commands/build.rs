//! `./x build`: compile scenarios without running them.

use crate::boot::product::Products;
use crate::error::Result;
use crate::scenario::{self, Scenario};

/// Compiles the programs of one scenario, or of all.
pub fn execute(name: Option<&str>) -> Result<()> {
    let scenarios = match name {
        Some(name) => vec![Scenario::load(name)?],
        None => scenario::all()?,
    };
    Products::build(&scenarios.iter().collect::<Vec<_>>()).map(|_| ())
}
