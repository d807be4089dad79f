//! The machine: the object whose capability is the authority over interrupts and power.

use crate::mem::object::Header;

/// The machine.
#[derive(Default)]
#[repr(C, align(256))]
pub struct Hw {
    header: Header,
}
