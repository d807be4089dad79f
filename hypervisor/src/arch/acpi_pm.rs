//! ACPI fixed hardware that the kernel uses: PM timer, sleep control, reset register (ACPI 6.5, 4.8).

use super::x86;
use acpi_reader::fadt::Fadt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// PM timer.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    port: u16,
}

impl Timer {
    /// Ticks per second.
    const HZ: u64 = 3_579_545;
    const MASK: u32 = 0xff_ffff;

    /// Waits for at least `us` microseconds (below 4 s) and says how long exactly.
    pub fn wait(self, us: u64) -> u64 {
        let start = x86::inl(self.port);
        let want = us * Self::HZ / 1_000_000;
        loop {
            let passed = u64::from(x86::inl(self.port).wrapping_sub(start) & Self::MASK);
            if passed >= want {
                return passed * 1_000_000 / Self::HZ;
            }
        }
    }
}

/// Ports of the sleep control registers (PM1a, PM1b; 16 bits each), and port and value of reset: `value << 16 | port`.
static PM1_CONTROL: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static RESET: AtomicU64 = AtomicU64::new(0);

/// SLP_EN and the shift of SLP_TYP in PM1 control (ACPI 6.5, table 4.19).
const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE_SHIFT: u16 = 10;
const SLEEP_MASK: u16 = 0x3c00;
/// Keyboard controller: pulse the reset line.
const KBC_COMMAND: u16 = 0x64;
const KBC_RESET: u8 = 0xfe;

/// Remembers the registers that the FADT names. The PM timer, if there is one.
pub fn init(fadt: &Fadt) -> Option<Timer> {
    for (register, port) in PM1_CONTROL.iter().zip(fadt.pm1_control) {
        register.store(u64::from(port), Relaxed);
    }
    RESET.store(fadt.reset.map_or(0, |(port, value)| u64::from(value) << 16 | u64::from(port)), Relaxed);
    (fadt.pm_timer != 0).then_some(Timer { port: fadt.pm_timer })
}

/// Enters a sleep state. Returns if the machine does not.
pub fn sleep(type_a: u8, type_b: u8) {
    for (port, sleep_type) in PM1_CONTROL.iter().zip([type_a, type_b]) {
        let port = port.load(Relaxed) as u16;
        if port != 0 {
            let value = x86::inw(port) & !SLEEP_MASK;
            x86::outw(port, value | u16::from(sleep_type & 7) << SLEEP_TYPE_SHIFT | SLEEP_ENABLE);
        }
    }
}

/// Resets the machine. Returns if it does not.
pub fn reset() {
    let reset = RESET.load(Relaxed);
    if reset != 0 {
        x86::outb(reset as u16, (reset >> 16) as u8);
        super::timer::spin(1000);
    }
    x86::outb(KBC_COMMAND, KBC_RESET);
    super::timer::spin(100_000);
}
