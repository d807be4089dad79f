//! Where accesses outside guest RAM go.

use vm_memory::GuestAddress;

/// Width of one bus access or integer operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Width {
    /// 8 bits.
    Byte = 1,
    /// 16 bits.
    Word = 2,
    /// 32 bits.
    Dword = 4,
    /// 64 bits.
    Qword = 8,
}

impl Width {
    /// The width of `bytes` bytes, if an integer operand can have it.
    pub fn from_bytes(bytes: usize) -> Option<Width> {
        match bytes {
            1 => Some(Width::Byte),
            2 => Some(Width::Word),
            4 => Some(Width::Dword),
            8 => Some(Width::Qword),
            _ => None,
        }
    }

    /// Number of bytes.
    pub fn bytes(self) -> u8 {
        self as u8
    }

    /// Number of bits.
    pub fn bits(self) -> u32 {
        u32::from(self.bytes()) * 8
    }

    /// All bits of a value of this width.
    pub fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// The most significant bit.
    pub fn sign(self) -> u64 {
        1 << (self.bits() - 1)
    }

    /// Sign-extends the low bits of `value` to 64 bits.
    pub fn sign_extend(self, value: u64) -> u64 {
        let shift = 64 - self.bits();
        (((value << shift) as i64) >> shift) as u64
    }
}

/// Devices of the virtual machine. Accesses arrive in program order, one per device access of the
/// guest's instruction; those that cross a page come as naturally sized pieces.
pub trait Bus {
    /// Reads device memory. What nobody claims reads as all ones.
    fn read(&mut self, address: GuestAddress, width: Width) -> u64;
    /// Writes device memory. Bits of `value` above `width` are clear.
    fn write(&mut self, address: GuestAddress, width: Width, value: u64);
    /// Reads an I/O port, for INS.
    fn port_read(&mut self, port: u16, width: Width) -> u64;
    /// Writes an I/O port, for OUTS.
    fn port_write(&mut self, port: u16, width: Width, value: u64);
}
