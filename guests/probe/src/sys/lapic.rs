//! The local APIC (SDM vol. 3, chapter 11) through its page of registers.

use super::memory;

/// The page of registers.
const BASE: u64 = 0xfee0_0000;

/// Offsets of registers (SDM vol. 3, table 11-1).
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Register {
    TaskPriority = 0x80,
    EndOfInterrupt = 0xb0,
    SpuriousVector = 0xf0,
    CommandLow = 0x300,
    LvtTimer = 0x320,
    InitialCount = 0x380,
    DivideConfiguration = 0x3e0,
}

impl Register {
    /// Its address.
    pub const fn address(self) -> u64 {
        BASE + self as u64
    }
}

/// Reads a register.
pub fn read(register: Register) -> u32 {
    memory::read_dword(register.address())
}

/// Writes a register.
pub fn write(register: Register, value: u32) {
    memory::write_dword(register.address(), value);
}
