//! I/O APICs (82093AA data sheet; ACPI 6.5, 5.2.12.3 for their interrupt numbers).

use super::mmio::Window;
use crate::mem::Phys;
use crate::mem::lock::Lock;
use abi::status::Status;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Most I/O APICs.
pub const MAX: usize = 16;
const SELECT: u64 = 0x00;
const DATA: u64 = 0x10;
const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;
const ENTRY_LOW: u32 = 1 << 13;
const ENTRY_LEVEL: u32 = 1 << 15;
const ENTRY_MASKED: u32 = 1 << 16;
const DESTINATION_SHIFT: u32 = 24;

struct IoApic {
    /// Virtual address of its registers.
    window: AtomicU64,
    /// First global system interrupt, and how many.
    first: AtomicU64,
    count: AtomicU64,
}

static ALL: [IoApic; MAX] =
    [const { IoApic { window: AtomicU64::new(0), first: AtomicU64::new(0), count: AtomicU64::new(0) } }; MAX];
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Register select and data are two accesses.
static LOCK: Lock = Lock::new();

impl IoApic {
    fn read(&self, register: u32) -> u32 {
        let window = Window::from_addr(self.window.load(Relaxed));
        window.write(SELECT, register);
        window.read(DATA)
    }

    fn write(&self, register: u32, value: u32) {
        let window = Window::from_addr(self.window.load(Relaxed));
        window.write(SELECT, register);
        window.write(DATA, value);
    }
}

/// Adds an I/O APIC found at boot, all pins masked.
///
/// # Errors
/// `OutOfMemory` if there are too many or it cannot be mapped.
pub fn add(phys: Phys, first: u32) -> Result<(), Status> {
    let apic = ALL.get(COUNT.load(Relaxed)).ok_or(Status::OutOfMemory)?;
    apic.window.store(Window::map(phys)?.addr() + (phys.0 & 0xfff), Relaxed);
    apic.first.store(u64::from(first), Relaxed);
    let pins = (apic.read(VERSION) >> 16 & 0xff) + 1;
    apic.count.store(u64::from(pins), Relaxed);
    for pin in 0..pins {
        apic.write(REDIRECTION + pin * 2, ENTRY_MASKED);
    }
    COUNT.fetch_add(1, Relaxed);
    Ok(())
}

fn find(gsi: u32) -> Option<(&'static IoApic, u32)> {
    ALL[..COUNT.load(Relaxed)].iter().find_map(|apic| {
        let pin = u64::from(gsi).checked_sub(apic.first.load(Relaxed))?;
        (pin < apic.count.load(Relaxed)).then_some((apic, REDIRECTION + pin as u32 * 2))
    })
}

/// Whether a global system interrupt exists.
pub fn exists(gsi: u32) -> bool {
    find(gsi).is_some()
}

/// One more than the highest global system interrupt.
pub fn gsi_count() -> u32 {
    let end = |apic: &IoApic| (apic.first.load(Relaxed) + apic.count.load(Relaxed)) as u32;
    ALL[..COUNT.load(Relaxed)].iter().map(end).max().unwrap_or(0)
}

/// Has `change` change the entry of a global system interrupt, if it exists, alone.
fn change(gsi: u32, change: impl FnOnce(&IoApic, u32)) {
    if let Some((apic, entry)) = find(gsi) {
        let _guard = LOCK.lock();
        change(apic, entry);
    }
}

/// Routes a global system interrupt to a CPU, unmasked.
pub fn route(gsi: u32, vector: u8, destination: u8, level: bool, low: bool) {
    let mode = if level { ENTRY_LEVEL } else { 0 } | if low { ENTRY_LOW } else { 0 };
    change(gsi, |apic, entry| {
        apic.write(entry, ENTRY_MASKED);
        apic.write(entry + 1, u32::from(destination) << DESTINATION_SHIFT);
        apic.write(entry, mode | u32::from(vector));
    });
}

/// Masks a global system interrupt, if it is still routed there.
pub fn unroute(gsi: u32, vector: u8, apic_id: u64) {
    change(gsi, |apic, entry| {
        let value = apic.read(entry);
        let destination = apic.read(entry + 1) >> DESTINATION_SHIFT;
        if value as u8 == vector && u64::from(destination) == apic_id {
            apic.write(entry, value | ENTRY_MASKED);
        }
    });
}

/// Masks or unmasks a global system interrupt.
pub fn mask(gsi: u32, masked: bool) {
    change(gsi, |apic, entry| {
        let value = apic.read(entry);
        apic.write(entry, if masked { value | ENTRY_MASKED } else { value & !ENTRY_MASKED });
    });
}
