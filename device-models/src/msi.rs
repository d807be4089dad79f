//! Message signalled interrupts: a device's write to the interrupt address range is a message to a
//! local APIC (Intel SDM vol. 3A, 11.11).

use crate::bus::apic::{ApicMessage, Delivery, Destination, Trigger};
use crate::bus::mmio::{Gpa, GpaRange};

/// First address of the interrupt range.
pub const MSI_BASE: Gpa = Gpa(0xfee0_0000);
/// Size of the interrupt range in bytes.
pub const MSI_BYTES: u64 = 0x10_0000;

const ADDRESS_LOGICAL: u64 = 1 << 2;
const ADDRESS_REDIRECT: u64 = 1 << 3;
const ADDRESS_DESTINATION_SHIFT: u32 = 12;
const DATA_DELIVERY_SHIFT: u32 = 8;
const DATA_LEVEL: u32 = 1 << 15;

/// The addresses at which a device's write is a message.
#[must_use]
pub const fn range() -> Option<GpaRange> {
    GpaRange::new(MSI_BASE, MSI_BYTES)
}

/// Decodes a device's 32-bit write of `data` to `address`; `None` outside the interrupt range and
/// for reserved delivery modes.
#[must_use]
pub fn decode(address: Gpa, data: u32) -> Option<ApicMessage> {
    if address.0 & !(MSI_BYTES - 1) != MSI_BASE.0 {
        return None;
    }
    let logical = address.0 & ADDRESS_LOGICAL != 0;
    let redirect = address.0 & ADDRESS_REDIRECT != 0;
    let delivery = match Delivery::decode(data >> DATA_DELIVERY_SHIFT)? {
        Delivery::StartUp => return None,
        // The redirection hint asks for one processor out of the logical set.
        Delivery::Fixed if logical && redirect => Delivery::LowestPriority,
        delivery => delivery,
    };
    Some(ApicMessage {
        destination: Destination::from_8bit((address.0 >> ADDRESS_DESTINATION_SHIFT) as u8, logical),
        delivery,
        vector: data as u8,
        trigger: if data & DATA_LEVEL != 0 { Trigger::Level } else { Trigger::Edge },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::apic::LapicId;

    #[test]
    fn decodes_destination_and_vector() {
        let message = decode(Gpa(0xfee0_3000), 0x4041).unwrap();
        assert_eq!(message.destination, Destination::Physical(LapicId(3)));
        assert_eq!((message.vector, message.delivery), (0x41, Delivery::Fixed));
        assert_eq!(message.trigger, Trigger::Edge);
    }

    #[test]
    fn logical_needs_no_redirection_hint() {
        // What a kernel with flat logical destinations writes.
        let message = decode(Gpa(0xfee0_1004), 0x41).unwrap();
        assert_eq!(message.destination, Destination::Logical(1));
        assert_eq!(message.delivery, Delivery::Fixed);
        let message = decode(Gpa(0xfee0_100c), 0x41).unwrap();
        assert_eq!(message.delivery, Delivery::LowestPriority);
    }

    #[test]
    fn other_addresses_and_reserved_modes_are_no_messages() {
        assert_eq!(decode(Gpa(0xfec0_0000), 0x41), None);
        assert_eq!(decode(Gpa(0x1_fee0_0000), 0x41), None);
        assert_eq!(decode(Gpa(0xfee0_0000), 0x341), None);
        assert_eq!(decode(Gpa(0xfee0_0000), 0x641), None, "start-up is for the ICR");
    }
}
