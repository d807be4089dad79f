//! The interrupt command register: interrupts from processor to processor (SDM 11.6.1).

use super::{FIRST_LEGAL_VECTOR, Lapic, Mode, error};
use crate::bus::apic::{ApicBus, ApicMessage, Delivery, Destination, Trigger, VcpuBus};

const LOGICAL: u64 = 1 << 11;
const ASSERT: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const DELIVERY_SHIFT: u32 = 8;
const SHORTHAND_SHIFT: u32 = 18;
/// Everything but delivery status and the reserved bits of the low half.
const WRITABLE_LOW: u64 = 0x000c_cfff;
const DESTINATION: u64 = 0xffff_ffff << 32;
const XAPIC_DESTINATION: u64 = 0xff << 56;

impl Lapic {
    /// Bits of an x2APIC ICR write that must be zero.
    pub(super) const fn icr_reserved(value: u64) -> u64 {
        // Bit 12, delivery status, does not exist in x2APIC mode but software may write it.
        const DELIVERY_STATUS: u64 = 1 << 12;
        value & !(WRITABLE_LOW | DESTINATION | DELIVERY_STATUS)
    }

    pub(super) const fn set_icr_high(&mut self, value: u32) {
        self.icr = self.icr & !DESTINATION | (value as u64) << 32 & XAPIC_DESTINATION;
    }

    pub(super) fn set_icr_low(&mut self, value: u32, fx: &mut (impl ApicBus + VcpuBus)) {
        self.set_icr(self.icr & DESTINATION | u64::from(value), fx);
    }

    /// Writes the whole register, which sends.
    pub(super) fn set_icr(&mut self, value: u64, fx: &mut (impl ApicBus + VcpuBus)) {
        self.icr = value & (WRITABLE_LOW | DESTINATION);
        let Some(message) = self.compose() else {
            return;
        };
        self.dispatch(message, fx);
    }

    /// The message that the register describes; `None` for reserved combinations and for INIT
    /// level de-assert, which does nothing on current processors.
    fn compose(&self) -> Option<ApicMessage> {
        let icr = self.icr;
        let delivery =
            Delivery::decode((icr >> DELIVERY_SHIFT) as u32).filter(|delivery| *delivery != Delivery::ExtInt)?;
        if delivery == Delivery::Init && icr & LEVEL != 0 && icr & ASSERT == 0 {
            return None;
        }
        let destination = match icr >> SHORTHAND_SHIFT & 3 {
            0 => self.icr_destination(),
            1 => Destination::Physical(self.id),
            2 => Destination::All,
            _ => Destination::AllBut(self.id),
        };
        Some(ApicMessage {
            destination,
            delivery,
            vector: icr as u8,
            // Level-triggered IPIs have no source that an EOI could reach: all are edges.
            trigger: Trigger::Edge,
        })
    }

    fn icr_destination(&self) -> Destination {
        let logical = self.icr & LOGICAL != 0;
        if self.base.mode() == Mode::X2Apic {
            Destination::from_32bit((self.icr >> 32) as u32, logical)
        } else {
            Destination::from_8bit((self.icr >> 56) as u8, logical)
        }
    }

    fn dispatch(&mut self, message: ApicMessage, fx: &mut (impl ApicBus + VcpuBus)) {
        let by_vector = matches!(message.delivery, Delivery::Fixed | Delivery::LowestPriority);
        if by_vector && message.vector < FIRST_LEGAL_VECTOR {
            self.report(error::SEND_ILLEGAL_VECTOR, fx);
            return;
        }
        match message.destination {
            Destination::Physical(id) if id == self.id => {
                self.deliver(&message, fx);
            }
            // The bus cannot reach this local APIC while it is in use; and INIT resets it last.
            Destination::All if message.delivery != Delivery::LowestPriority => {
                let others = ApicMessage { destination: Destination::AllBut(self.id), ..message };
                fx.send(others);
                self.deliver(&message, fx);
            }
            _ => fx.send(message),
        }
    }
}
