//! PCI configuration transactions.

use super::port::PortSize;

/// Bus, device and function number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf(u16);

impl Bdf {
    /// Function `function` (0..=7) of device `device` (0..=31) on bus `bus`; excess bits are ignored.
    #[must_use]
    pub const fn new(bus: u8, device: u8, function: u8) -> Self {
        Self((bus as u16) << 8 | ((device as u16) & 0x1f) << 3 | (function as u16) & 7)
    }

    /// From the 16-bit form that requester identifiers and address registers use.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The bus number.
    #[must_use]
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The device number.
    #[must_use]
    pub const fn device(self) -> u8 {
        (self.0 >> 3) as u8 & 0x1f
    }

    /// The function number.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.0 as u8 & 7
    }
}

/// One configuration access. It never crosses a dword.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConfigAccess {
    /// The function addressed.
    pub bdf: Bdf,
    /// Byte offset in its configuration space, 0..=4095.
    pub offset: u16,
    /// Operand size; `offset` is a multiple of it.
    pub size: PortSize,
}

/// Carries configuration accesses from the host bridge to the other functions.
pub trait PciBus {
    /// Reads; `None` where no such function exists.
    fn config_read(&mut self, access: ConfigAccess) -> Option<u32>;

    /// Writes; nothing happens where no such function exists.
    fn config_write(&mut self, access: ConfigAccess, value: u32);
}
