//! Port accesses of the guest.

use std::fmt;

use device_models::bus::port::{FLOATING, PortAccess};
use device_models::time::Tsc;

use super::wires::ScpWires;
use super::{Board, Models, Wires};

/// A model that decodes ports. What a machine has several of is numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortDevice {
    NullIo(u8),
    Pic(u8),
    Pit,
    Scp,
    Kbc,
    Rtc,
    Serial(u8),
    PciHostBridge,
    PmTimer,
    AcpiPm,
    Reset,
}

impl fmt::Display for PortDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            PortDevice::NullIo(_) => "<nullio>",
            PortDevice::Pic(_) => "<pic>",
            PortDevice::Pit => "<pit>",
            PortDevice::Scp => "<scp>",
            PortDevice::Kbc => "<kbc>",
            PortDevice::Rtc => "<rtc>",
            PortDevice::Serial(_) => "<serial>",
            PortDevice::PciHostBridge => "<pcihostbridge>",
            PortDevice::PmTimer => "<pmtimer>",
            PortDevice::AcpiPm => "the ACPI fixed hardware",
            PortDevice::Reset => "the reset control register",
        };
        f.write_str(name)
    }
}

impl Board {
    /// IN: the value has no bits beyond the access size.
    #[inline]
    pub fn port_read(&mut self, now: Tsc, access: PortAccess) -> u32 {
        let Self { ports, models, wires, .. } = self;
        let value =
            ports.read(access, |device, access| models.port_read(wires, now, device, access).unwrap_or(FLOATING));
        self.settle();
        value
    }

    /// OUT.
    #[inline]
    pub fn port_write(&mut self, now: Tsc, access: PortAccess, value: u32) {
        let Self { ports, models, wires, .. } = self;
        ports.write(access, value, |device, access, value| {
            // A device in the table exists.
            let _claimed = models.port_write(wires, now, device, access, value);
        });
        self.settle();
    }
}

impl Models {
    fn port_read(&mut self, wires: &mut Wires, now: Tsc, device: PortDevice, access: PortAccess) -> Option<u32> {
        let port = access.port;
        Some(match device {
            PortDevice::Serial(index) => {
                let uart = self.uarts.get_mut(usize::from(index))?;
                let before = uart.deadline();
                let value = uart.read(now, port, wires);
                if uart.deadline() != before {
                    self.deadlines.touch();
                }
                value.into()
            }
            PortDevice::PmTimer => self.pm_timer.as_ref()?.read(now, access),
            PortDevice::Pic(index) => self.pics.get_mut(usize::from(index))?.read(port, wires).into(),
            PortDevice::Pit => self.pit.as_mut()?.read(now, port).into(),
            PortDevice::Scp => {
                let mut ends = ScpWires { wires, pit: self.pit.as_mut() };
                self.scp.as_mut()?.read(now, port, &mut ends).into()
            }
            PortDevice::Kbc => {
                let (kbc, mut ends) = self.kbc(wires)?;
                kbc.read(port, &mut ends).into()
            }
            PortDevice::Rtc => {
                self.deadlines.touch();
                self.rtc.as_mut()?.read(now, port, wires).into()
            }
            PortDevice::PciHostBridge => self.bridge.as_mut()?.read(access, wires),
            PortDevice::AcpiPm => {
                self.deadlines.touch();
                self.acpi_pm.as_mut()?.read(now, access, wires)
            }
            PortDevice::Reset => self.reset.read().into(),
            PortDevice::NullIo(index) => self.nullio.get(usize::from(index))?.read(access),
        })
    }

    fn port_write(
        &mut self,
        wires: &mut Wires,
        now: Tsc,
        device: PortDevice,
        access: PortAccess,
        value: u32,
    ) -> Option<()> {
        let (port, byte) = (access.port, value as u8);
        match device {
            PortDevice::Serial(index) => {
                let uart = self.uarts.get_mut(usize::from(index))?;
                let before = uart.deadline();
                uart.write(now, port, byte, wires);
                if uart.deadline() != before {
                    self.deadlines.touch();
                }
            }
            PortDevice::Pic(index) => {
                self.pics.get_mut(usize::from(index))?.write(port, byte, wires);
            }
            PortDevice::Pit => {
                self.deadlines.touch();
                self.pit.as_mut()?.write(now, port, byte, wires);
            }
            // The gate of counter 2 drives no interrupt.
            PortDevice::Scp => {
                let mut ends = ScpWires { wires, pit: self.pit.as_mut() };
                self.scp.as_mut()?.write(now, port, byte, &mut ends);
            }
            PortDevice::Kbc => {
                let (kbc, mut ends) = self.kbc(wires)?;
                kbc.write(port, byte, &mut ends);
            }
            PortDevice::Rtc => {
                self.deadlines.touch();
                self.rtc.as_mut()?.write(now, port, byte, wires);
            }
            PortDevice::PciHostBridge => {
                self.bridge.as_mut()?.write(access, value, wires);
            }
            PortDevice::AcpiPm => {
                self.deadlines.touch();
                self.acpi_pm.as_mut()?.write(now, access, value, wires);
            }
            PortDevice::Reset => self.reset.write(byte, wires),
            PortDevice::NullIo(_) | PortDevice::PmTimer => {}
        }
        Some(())
    }
}
