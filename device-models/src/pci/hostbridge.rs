//! PCI Express host bridge: configuration mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2) and the
//! enhanced mechanism (PCI Express 3.0, 7.2.2) onto one set of functions.

use super::config::{ConfigSpace, Identity};
use crate::bus::mmio::{self, Gpa, GpaRange, MmioAccess, MmioSize};
use crate::bus::pci::{Bdf, ConfigAccess, PciBus};
use crate::bus::port::{self, Lanes, PortAccess, PortClaims, PortSize};
use core::num::NonZeroU16;
use core::ops::RangeInclusive;

/// The data ports, from the address port.
const DATA_OFFSET: u16 = 4;
const DATA_BYTES: u16 = 4;
/// Number of its ports: address and data.
pub const CONFIG_PORTS: u16 = DATA_OFFSET + DATA_BYTES;

const ADDRESS_ENABLE: u32 = 1 << 31;
const ADDRESS_BDF_SHIFT: u32 = 8;
const ADDRESS_REGISTER: u32 = 0xfc;
const ADDRESS_WRITABLE: u32 = ADDRESS_ENABLE | 0x00ff_fffc;

/// ECAM: 4 KiB of registers per function, 1 MiB per bus.
const ECAM_FUNCTION_SHIFT: u32 = 12;
const ECAM_BUS_SHIFT: u32 = 20;
/// Bytes of the registers of one bus.
pub const ECAM_BUS_BYTES: u64 = 1 << ECAM_BUS_SHIFT;
const ECAM_REGISTER: u64 = (1 << ECAM_FUNCTION_SHIFT) - 1;
const BUSES: u16 = 256;

/// A generic PCI Express host bridge: drivers and firmware attach nothing to it.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    revision: 0,
    class: 0x06_0000,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

/// The host bridge: the configuration mechanisms, and function 0 of device 0 of its first bus.
#[derive(Debug)]
pub struct HostBridge {
    first_bus: u8,
    buses: u16,
    io_base: u16,
    mem_base: Gpa,
    address: u32,
    function: ConfigSpace,
}

impl HostBridge {
    /// A bridge to `bus_count` buses from `bus_num` (what exceeds bus 255 is cut off), its address
    /// port at `io_base`, the registers of the first bus at `mem_base`.
    #[must_use]
    pub fn new(bus_num: u8, bus_count: NonZeroU16, io_base: u16, mem_base: Gpa) -> Self {
        Self {
            first_bus: bus_num,
            buses: bus_count.get().min(BUSES - u16::from(bus_num)),
            io_base,
            mem_base,
            address: 0,
            function: ConfigSpace::new(&IDENTITY),
        }
    }

    /// The addresses of the enhanced configuration mechanism.
    #[must_use]
    pub const fn range(&self) -> Option<GpaRange> {
        GpaRange::new(self.mem_base, (self.buses as u64) << ECAM_BUS_SHIFT)
    }

    /// Reads a port.
    #[inline]
    pub fn read(&mut self, access: PortAccess, fx: &mut impl PciBus) -> u32 {
        if access.port != self.io_base {
            return match self.decode_data(access) {
                Some(config) => self.config_read(config, fx),
                None => port::FLOATING,
            };
        }
        // Narrower accesses to the address port are ordinary I/O, and nobody is there.
        if access.size == PortSize::Dword { self.address } else { port::FLOATING }
    }

    /// Writes a port.
    #[inline]
    pub fn write(&mut self, access: PortAccess, value: u32, fx: &mut impl PciBus) {
        if access.port != self.io_base {
            if let Some(config) = self.decode_data(access) {
                self.config_write(config, value, fx);
            }
        } else if access.size == PortSize::Dword {
            self.address = value & ADDRESS_WRITABLE;
        }
    }

    /// Reads the enhanced configuration space.
    pub fn mmio_read(&mut self, access: MmioAccess, fx: &mut impl PciBus) -> u64 {
        match self.decode_ecam(access) {
            Some(config) => u64::from(self.config_read(config, fx)) & access.size.mask(),
            None => mmio::FLOATING & access.size.mask(),
        }
    }

    /// Writes the enhanced configuration space.
    pub fn mmio_write(&mut self, access: MmioAccess, value: u64, fx: &mut impl PciBus) {
        if let Some(config) = self.decode_ecam(access) {
            self.config_write(config, value as u32, fx);
        }
    }

    fn decode_data(&self, access: PortAccess) -> Option<ConfigAccess> {
        let lane = access.port.wrapping_sub(self.io_base.wrapping_add(DATA_OFFSET));
        let selected = self.address & ADDRESS_ENABLE != 0 && lane < DATA_BYTES;
        selected.then_some(())?;
        self.checked(ConfigAccess {
            bdf: Bdf::from_bits((self.address >> ADDRESS_BDF_SHIFT) as u16),
            offset: (self.address & ADDRESS_REGISTER) as u16 + lane,
            size: access.size,
        })
    }

    fn decode_ecam(&self, access: MmioAccess) -> Option<ConfigAccess> {
        let size = match access.size {
            MmioSize::Byte => PortSize::Byte,
            MmioSize::Word => PortSize::Word,
            MmioSize::Dword => PortSize::Dword,
            MmioSize::Qword => return None,
        };
        let function = u16::try_from(access.offset >> ECAM_FUNCTION_SHIFT).ok()?;
        self.checked(ConfigAccess {
            bdf: Bdf::from_bits(function.checked_add(u16::from(self.first_bus) << 8)?),
            offset: (access.offset & ECAM_REGISTER) as u16,
            size,
        })
    }

    /// Lets through what is aligned and on one of the bridge's buses.
    fn checked(&self, access: ConfigAccess) -> Option<ConfigAccess> {
        let bus = u16::from(access.bdf.bus()).checked_sub(u16::from(self.first_bus))?;
        let aligned = access.offset.is_multiple_of(access.size.bytes());
        (aligned && bus < self.buses).then_some(access)
    }

    const fn bdf(&self) -> Bdf {
        Bdf::new(self.first_bus, 0, 0)
    }

    fn config_read(&self, access: ConfigAccess, fx: &mut impl PciBus) -> u32 {
        if access.bdf == self.bdf() {
            return self.function.read(access);
        }
        fx.config_read(access).unwrap_or(port::FLOATING)
    }

    fn config_write(&mut self, access: ConfigAccess, value: u32, fx: &mut impl PciBus) {
        if access.bdf == self.bdf() {
            self.function.write(access, value);
        } else {
            fx.config_write(access, value);
        }
    }
}

impl PortClaims for HostBridge {
    const LANES: Lanes = Lanes::Wide;

    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        let data = self.io_base.saturating_add(DATA_OFFSET);
        [self.io_base..=self.io_base, data..=data.saturating_add(DATA_BYTES - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Recorder;
    use proptest::prelude::*;

    fn bridge() -> (HostBridge, Recorder) {
        let buses = NonZeroU16::new(0x10).unwrap();
        let bridge = HostBridge::new(0, buses, 0xcf8, Gpa(0xe000_0000));
        (bridge, Recorder::default())
    }

    const fn at(port: u16, size: PortSize) -> PortAccess {
        PortAccess { port, size }
    }

    #[test]
    fn the_probe_for_mechanism_1_succeeds() {
        let (mut bridge, mut fx) = bridge();
        let address = at(0xcf8, PortSize::Dword);
        bridge.write(address, 0x8000_0000, &mut fx);
        assert_eq!(bridge.read(address, &mut fx), 0x8000_0000);
        assert_eq!(bridge.read(at(0xcfc, PortSize::Dword), &mut fx), 0x0008_1b36);
        bridge.write(address, 0x8000_0008, &mut fx);
        assert_eq!(bridge.read(at(0xcfe, PortSize::Word), &mut fx), 0x0600);
        bridge.write(address, 0x8000_0800, &mut fx);
        assert_eq!(bridge.read(at(0xcfc, PortSize::Dword), &mut fx), u32::MAX);
        bridge.write(address, 0, &mut fx);
        assert_eq!(bridge.read(at(0xcfc, PortSize::Dword), &mut fx), u32::MAX, "disabled");
    }

    #[test]
    fn both_mechanisms_reach_the_same_function() {
        let (mut bridge, mut fx) = bridge();
        let ecam = |offset| MmioAccess { offset, size: MmioSize::Word };
        bridge.mmio_write(ecam(4), 0x6, &mut fx);
        bridge.write(at(0xcf8, PortSize::Dword), 0x8000_0004, &mut fx);
        assert_eq!(bridge.read(at(0xcfc, PortSize::Word), &mut fx), 0x6);
        bridge.mmio_write(ecam(0x0021_9150), 7, &mut fx);
        let (access, value) = fx.config_writes[0];
        assert_eq!((access.bdf, access.offset, value), (Bdf::new(2, 3, 1), 0x150, 7));
        assert_eq!(bridge.mmio_read(ecam(0x8000), &mut fx), 0xffff);
        assert_eq!(bridge.range(), GpaRange::new(Gpa(0xe000_0000), 16 << 20));
    }

    proptest! {
        #[test]
        fn nothing_unaligned_or_off_the_buses_gets_through(address: u32, port in 0xcf8u16..0xd04, size in 0usize..3, offset: u64) {
            let (mut bridge, mut fx) = bridge();
            let size = [PortSize::Byte, PortSize::Word, PortSize::Dword][size];
            bridge.write(at(0xcf8, PortSize::Dword), address | ADDRESS_ENABLE, &mut fx);
            bridge.write(at(port, size), 1, &mut fx);
            bridge.mmio_write(MmioAccess { offset, size: MmioSize::Dword }, 1, &mut fx);
            bridge.mmio_write(MmioAccess { offset: offset >> 40, size: MmioSize::Dword }, 1, &mut fx);
            for (access, _) in fx.config_writes {
                prop_assert!(access.offset % access.size.bytes() == 0 && access.offset < 4096);
                prop_assert!(access.bdf.bus() < 0x10 && access.bdf != Bdf::new(0, 0, 0));
            }
        }
    }
}
