//! The end.

use super::port;

/// PM1a control register, as the machine's FADT has it, and its bits (ACPI 6.5, 4.8.3.2.1): SLP_TYP 5 (soft off), SLP_EN.
const PM1A_CONTROL: u16 = 0x604;
const SOFT_OFF: u16 = 5 << 10 | 1 << 13;

/// Switches the machine off.
pub fn off() -> ! {
    port::write_word(PM1A_CONTROL, SOFT_OFF);
    loop {
        super::instruction::wait_for_ever();
    }
}
