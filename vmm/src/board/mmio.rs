//! Memory accesses of the guest outside RAM.

use std::fmt;

use device_models::bus::mmio::{FLOATING, Gpa, MmioAccess, MmioSize};
use device_models::lapic::{Lapic, Mode};
use device_models::time::Tsc;

use super::Board;

/// A model that decodes memory. Local APICs are not here: each CPU sees its own at the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MmioDevice {
    IoApic,
    PciHostBridge,
}

impl fmt::Display for MmioDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MmioDevice::IoApic => "<ioapic>",
            MmioDevice::PciHostBridge => "<pcihostbridge>",
        })
    }
}

/// Bytes of a local APIC's register page.
const LAPIC_PAGE: u64 = 4096;

/// The access to the register page, if it is one.
#[inline]
fn lapic_access(lapic: &Lapic, gpa: Gpa, size: MmioSize) -> Option<MmioAccess> {
    let base = lapic.base();
    let offset = gpa.0.checked_sub(base.address().0)?;
    let inside = offset <= LAPIC_PAGE - size.bytes();
    (inside && base.mode() == Mode::XApic).then_some(MmioAccess { offset, size })
}

impl Board {
    /// Virtual CPU `vcpu` reads; what nobody decodes reads as all ones. The value has no bits beyond `size`.
    pub fn mmio_read(&mut self, now: Tsc, vcpu: usize, gpa: Gpa, size: MmioSize) -> u64 {
        let Self { memory, models, wires, .. } = self;
        let value = if let Some(lapic) = models.lapics.get_mut(vcpu)
            && let Some(access) = lapic_access(lapic, gpa, size)
        {
            let before = lapic.deadline();
            let value = lapic.mmio_read(now, access, wires);
            models.deadlines.replace(before, lapic.deadline());
            value
        } else {
            match memory.lookup(gpa, size) {
                Some((MmioDevice::IoApic, access)) => {
                    models.ioapic.as_mut().map_or(FLOATING, |ioapic| ioapic.read(access))
                }
                Some((MmioDevice::PciHostBridge, access)) => {
                    models.bridge.as_mut().map_or(FLOATING, |bridge| bridge.mmio_read(access, wires))
                }
                None => FLOATING,
            }
        };
        self.settle();
        value & size.mask()
    }

    /// Virtual CPU `vcpu` writes; what nobody decodes is lost.
    pub fn mmio_write(&mut self, now: Tsc, vcpu: usize, gpa: Gpa, size: MmioSize, value: u64) {
        let Self { memory, models, wires, .. } = self;
        if let Some(lapic) = models.lapics.get_mut(vcpu)
            && let Some(access) = lapic_access(lapic, gpa, size)
        {
            let before = lapic.deadline();
            lapic.mmio_write(now, access, value, wires);
            models.deadlines.replace(before, lapic.deadline());
        } else {
            match memory.lookup(gpa, size) {
                Some((MmioDevice::IoApic, access)) => {
                    if let Some(ioapic) = &mut models.ioapic {
                        ioapic.write(access, value, wires);
                    }
                }
                Some((MmioDevice::PciHostBridge, access)) => {
                    if let Some(bridge) = &mut models.bridge {
                        bridge.mmio_write(access, value, wires);
                    }
                }
                None => {}
            }
        }
        self.settle();
    }
}
