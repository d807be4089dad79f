//! Single wires between chips of the board that carry no data.

use crate::time::Tsc;

/// Carries chip-to-chip signals.
pub trait SidebandBus {
    /// Address line 20 is to be passed (`true`) or forced to 0. The board has one gate for all who switch it.
    fn set_a20(&mut self, passed: bool);

    /// Whether address line 20 is passed.
    fn a20(&self) -> bool;

    /// The gate input of interval timer channel 2 is now `level`.
    fn speaker_gate(&mut self, now: Tsc, level: bool);

    /// Samples the output of interval timer channel 2.
    fn speaker_output(&mut self, now: Tsc) -> bool;
}
