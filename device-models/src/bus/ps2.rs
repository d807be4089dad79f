//! The two PS/2 cables between the keyboard controller and its devices.

/// A connector of the keyboard controller (`ps2_port` in the configuration).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ps2Port {
    /// Port 0: the keyboard.
    Keyboard,
    /// Port 1: the auxiliary device, a mouse.
    Aux,
}

impl Ps2Port {
    /// Decodes a configuration's port number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Keyboard),
            1 => Some(Self::Aux),
            _ => None,
        }
    }
}

/// Carries bytes between the keyboard controller and the devices plugged into it.
///
/// The controller is the active side: it pulls, as it does on the wire by releasing the clock line.
/// A device with new data needs the wiring to call the controller's `poll`.
pub trait Ps2Bus {
    /// The controller sends `byte` to the device at `port`; `false` where none is plugged in.
    fn ps2_send(&mut self, port: Ps2Port, byte: u8) -> bool;

    /// The controller takes the next byte the device at `port` has for the host.
    fn ps2_take(&mut self, port: Ps2Port) -> Option<u8>;
}
