//! Ports that swallow writes and read a constant, such as the POST code port.

use crate::bus::port::{Lanes, PortAccess, PortClaims};
use core::num::NonZeroU16;
use core::ops::RangeInclusive;

/// A range of ports without a device.
#[derive(Clone, Copy, Debug)]
pub struct NullIo {
    io_base: u16,
    size: NonZeroU16,
    value: u32,
}

impl NullIo {
    /// `size` ports from `io_base`; every read gives the low bytes of `value`.
    #[must_use]
    pub const fn new(io_base: u16, size: NonZeroU16, value: u32) -> Self {
        Self { io_base, size, value }
    }

    /// Reads a port.
    #[must_use]
    pub const fn read(&self, access: PortAccess) -> u32 {
        self.value & access.size.mask()
    }
}

impl PortClaims for NullIo {
    const LANES: Lanes = Lanes::Wide;

    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        [self.io_base..=self.io_base.saturating_add(self.size.get() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::port::PortSize;

    #[test]
    fn reads_its_constant_and_claims_its_size() {
        let model = NullIo::new(0xfffe, NonZeroU16::new(9).unwrap(), 0xaabb_ccdd);
        let size = PortSize::Word;
        assert_eq!(model.read(PortAccess { port: 0xffff, size }), 0xccdd);
        let ports: std::vec::Vec<u16> = model.ports().into_iter().flatten().collect();
        assert_eq!(ports, [0xfffe, 0xffff]);
    }
}
