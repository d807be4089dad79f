//! FADT: the registers of the fixed hardware (ACPI 6.5, 5.2.9).

use crate::word::{u8_at, u32_at, u64_at};

/// What tells it from other tables.
pub const SIGNATURE: &[u8] = b"FACP";

/// Byte offsets.
mod offset {
    pub const PM1A_CONTROL: usize = 64;
    pub const PM1B_CONTROL: usize = 68;
    pub const PM_TIMER: usize = 76;
    pub const FLAGS: usize = 112;
    pub const RESET_REGISTER: usize = 116;
    pub const RESET_ADDRESS: usize = RESET_REGISTER + 4;
    pub const RESET_VALUE: usize = 128;
}

/// There is a reset register (table 5.10).
const FLAG_RESET: u32 = 1 << 10;
/// Address space id of I/O ports (5.2.3.2).
const SPACE_IO: u8 = 1;

/// What the kernel needs of it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fadt {
    /// Ports of PM1a and PM1b control; 0 if there is none.
    pub pm1_control: [u16; 2],
    /// Port of the PM timer; 0 if there is none.
    pub pm_timer: u16,
    /// Port and value of the reset register, if it is in I/O space.
    pub reset: Option<(u16, u8)>,
}

impl Fadt {
    /// Reads a FADT. What it is too short for is not there.
    #[must_use]
    pub fn parse(table: &[u8]) -> Self {
        let port = |at| u32_at(table, at).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        Self {
            pm1_control: [port(offset::PM1A_CONTROL), port(offset::PM1B_CONTROL)],
            pm_timer: port(offset::PM_TIMER),
            reset: reset(table),
        }
    }
}

/// Old, short tables have no reset register.
fn reset(table: &[u8]) -> Option<(u16, u8)> {
    let there = u32_at(table, offset::FLAGS)? & FLAG_RESET != 0 && u8_at(table, offset::RESET_REGISTER)? == SPACE_IO;
    let port = u16::try_from(u64_at(table, offset::RESET_ADDRESS)?).ok()?;
    there.then_some((port, u8_at(table, offset::RESET_VALUE)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    #[test]
    fn registers_are_where_the_table_says() {
        let mut table = vec![0; 129];
        table[64..66].copy_from_slice(&0x604u16.to_le_bytes());
        table[76..78].copy_from_slice(&0x608u16.to_le_bytes());
        table[112..116].copy_from_slice(&FLAG_RESET.to_le_bytes());
        table[116] = SPACE_IO;
        table[120..122].copy_from_slice(&0xcf9u16.to_le_bytes());
        table[128] = 0xf;
        let expected = Fadt { pm1_control: [0x604, 0], pm_timer: 0x608, reset: Some((0xcf9, 0xf)) };
        assert_eq!(Fadt::parse(&table), expected);
        // Shorter than the reset register, as on one emulator.
        assert_eq!(Fadt::parse(&table[..116]), Fadt { reset: None, ..expected });
        // In memory.
        table[116] = 0;
        assert_eq!(Fadt::parse(&table), Fadt { reset: None, ..expected });
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..140)) {
            let _ = Fadt::parse(&bytes);
        }
    }
}
