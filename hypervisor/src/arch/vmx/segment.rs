//! Segment attributes: the VMCS's access rights (SDM vol. 3, table 25-2) and the ABI's packed form, which is the VMCB's.

/// Type, S, DPL and P are the same in both.
const LOW: u64 = 0xff;
/// AVL, L, D/B and G: four bits higher in access rights.
const HIGH: u64 = 0xf00;
const SHIFT: u32 = 4;
const PRESENT: u64 = 1 << 7;
const UNUSABLE: u64 = 1 << 16;

/// Access rights of packed attributes: what is not present is unusable.
pub const fn access_rights(attributes: u64) -> u64 {
    let rights = attributes & LOW | (attributes & HIGH) << SHIFT;
    if attributes & PRESENT == 0 { rights | UNUSABLE } else { rights }
}

/// Packed attributes of access rights: what is unusable is not present.
pub const fn attributes(rights: u64) -> u64 {
    let packed = rights & LOW | rights >> SHIFT & HIGH;
    if rights & UNUSABLE != 0 { packed & !PRESENT } else { packed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn attributes_survive_the_round_trip(packed in 0u64..0x1000) {
            prop_assert_eq!(attributes(access_rights(packed)), packed);
        }
    }

    #[test]
    fn the_bits_are_where_the_manual_has_them() {
        // A 64-bit code segment: G and L, present, type 11 (SDM vol. 3, table 25-2; APM vol. 2, 15.5.1).
        assert_eq!(access_rights(0xa9b), 0xa09b);
        assert_eq!(attributes(0xa09b), 0xa9b);
        assert_eq!(access_rights(0), UNUSABLE);
        // Loading a null selector leaves the other bits as they are.
        assert_eq!(attributes(0xc093 | UNUSABLE), 0xc13);
    }
}
