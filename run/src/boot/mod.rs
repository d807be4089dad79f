//! From a scenario to what a machine boots.

pub mod image;
pub mod overrides;
pub mod product;
pub mod stage;
