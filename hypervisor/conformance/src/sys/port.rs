//! I/O ports.

/// Reads a byte.
pub fn input(port: u16) -> u8 {
    let value;
    // SAFETY: the devices that the checks use (serial line, PIT, RTC) do not access memory.
    unsafe { core::arch::asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a byte.
pub fn output(port: u16, value: u8) {
    // SAFETY: as `input`.
    unsafe { core::arch::asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}
