//! The wires between the system control ports and channel 2 of the interval timer, which the speaker hangs on.

use crate::time::Tsc;

/// Leads to the channel.
pub trait SpeakerBus {
    /// The gate input of the channel is now `level`.
    fn speaker_gate(&mut self, now: Tsc, level: bool);

    /// Samples the output of the channel.
    fn speaker_output(&mut self, now: Tsc) -> bool;
}
