//! Bytes that leave serial ports.

/// The host's name of a serial line (`host_serial` in the configuration).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostSerial(pub u32);

/// Carries transmitted bytes to the host. Received bytes enter by a model's `receive`.
pub trait SerialBus {
    /// The guest transmitted `byte` on `line`.
    fn transmit(&mut self, line: HostSerial, byte: u8);
}
