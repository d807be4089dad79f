//! The devices at the other end of the PS/2 cables.

pub mod keyboard;
pub mod mouse;
mod queue;
