//! The gate of address line 20. The board has one for all who switch it.

/// Leads to the gate.
pub trait A20Bus {
    /// The line is to be passed (`true`) or forced to 0.
    fn set_a20(&mut self, passed: bool);

    /// Whether the line is passed.
    fn a20(&self) -> bool;
}
