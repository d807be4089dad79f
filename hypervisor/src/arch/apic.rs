//! Local APIC in xAPIC or x2APIC mode (SDM vol. 3, chapter 11).

use super::cpuid;
use super::mmio::Window;
use super::x86::{self, Msr};
use crate::mem::Phys;
use abi::status::Status;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The kernel's interrupt vectors.
pub mod vector {
    /// Another CPU wants something.
    pub const REMOTE: u8 = 0xf0;
    /// Timer.
    pub const TIMER: u8 = 0xf1;
    /// Spurious.
    pub const SPURIOUS: u8 = 0xff;
}

/// Registers: xAPIC byte offsets; x2APIC MSRs are 0x800 + offset / 16 (SDM vol. 3, table 11-6).
mod reg {
    pub const ID: u64 = 0x20;
    pub const TPR: u64 = 0x80;
    pub const EOI: u64 = 0xb0;
    pub const SVR: u64 = 0xf0;
    pub const ICR_LOW: u64 = 0x300;
    pub const ICR_HIGH: u64 = 0x310;
    pub const LVT_TIMER: u64 = 0x320;
    pub const LVT_LINT0: u64 = 0x350;
    pub const LVT_LINT1: u64 = 0x360;
    pub const TIMER_INITIAL: u64 = 0x380;
    pub const TIMER_CURRENT: u64 = 0x390;
    pub const TIMER_DIVIDE: u64 = 0x3e0;
}

const SVR_ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
const LVT_TSC_DEADLINE: u32 = 2 << 17;
const ICR_PENDING: u32 = 1 << 12;
/// Fixed delivery, physical destination, edge, asserted.
const ICR_FIXED: u32 = 1 << 14;
const ICR_INIT: u32 = 5 << 8 | 1 << 14;
const ICR_STARTUP: u32 = 6 << 8 | 1 << 14;
const DIVIDE_BY_1: u32 = 0b1011;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2: u64 = 1 << 10;
const BASE_ADDR: u64 = 0x000f_ffff_ffff_f000;
/// Addresses of interrupt messages (SDM vol. 3, 11.11.1): the first, and how many.
pub const MSI_RANGE: (u64, u64) = (0xfee0_0000, 0x10_0000);
const MSI_DESTINATION_SHIFT: u32 = 12;
/// A destination that is all CPUs (SDM vol. 3, 11.6.2.1).
const BROADCAST: u8 = 0xff;

/// Virtual address of the register page; 0 in x2APIC mode.
static WINDOW: AtomicU64 = AtomicU64::new(0);

/// The MSR that a register is in x2APIC mode.
const fn msr(reg: u64) -> u32 {
    Msr::X2Apic as u32 + (reg >> 4) as u32
}

fn read(reg: u64) -> u32 {
    match WINDOW.load(Relaxed) {
        0 => x86::rdmsr_at(msr(reg)) as u32,
        page => Window::from_addr(page).read(reg),
    }
}

#[inline(always)]
fn write(reg: u64, value: u32) {
    match WINDOW.load(Relaxed) {
        0 => x86::wrmsr_at(msr(reg), u64::from(value)),
        page => Window::from_addr(page).write(reg, value),
    }
}

/// Physical address of the register page.
pub fn base() -> Phys {
    Phys(x86::rdmsr(Msr::ApicBase) & BASE_ADDR)
}

/// Whether the chosen mode is x2APIC.
pub fn is_x2apic() -> bool {
    WINDOW.load(Relaxed) == 0
}

/// Chooses the mode, on the boot CPU.
///
/// # Errors
/// `OutOfMemory` if the registers cannot be mapped.
pub fn choose() -> Result<(), Status> {
    if !cpuid::Flag::X2APIC.is_set() {
        WINDOW.store(Window::map(base())?.addr(), Relaxed);
    }
    Ok(())
}

/// Enables the APIC of this CPU in the chosen mode.
pub fn init() {
    let mode = if is_x2apic() { BASE_ENABLE | BASE_X2 } else { BASE_ENABLE };
    x86::wrmsr(Msr::ApicBase, x86::rdmsr(Msr::ApicBase) | mode);
    write(reg::TPR, 0);
    write(reg::LVT_LINT0, LVT_MASKED);
    write(reg::LVT_LINT1, LVT_MASKED);
    write(reg::SVR, SVR_ENABLE | u32::from(vector::SPURIOUS));
    write(reg::TIMER_DIVIDE, DIVIDE_BY_1);
    write(reg::LVT_TIMER, LVT_MASKED);
}

/// Id of this CPU's APIC.
pub fn id() -> u64 {
    let id = read(reg::ID);
    u64::from(if is_x2apic() { id } else { id >> 24 })
}

/// Acknowledges the interrupt in service.
#[inline(always)]
pub fn eoi() {
    write(reg::EOI, 0);
}

fn command(apic_id: u64, low: u32) {
    if is_x2apic() {
        // Whoever is interrupted must find what it is interrupted for.
        x86::fence_before_wrmsr();
        x86::wrmsr_at(msr(reg::ICR_LOW), apic_id << 32 | u64::from(low));
        return;
    }
    while read(reg::ICR_LOW) & ICR_PENDING != 0 {
        core::hint::spin_loop();
    }
    write(reg::ICR_HIGH, (apic_id as u32) << 24);
    write(reg::ICR_LOW, low);
}

/// Interrupts another CPU.
pub fn send_ipi(apic_id: u64, vector: u8) {
    command(apic_id, ICR_FIXED | u32::from(vector));
}

/// Resets another CPU.
pub fn send_init(apic_id: u64) {
    command(apic_id, ICR_INIT);
}

/// Starts another CPU in real mode at page `page`.
pub fn send_startup(apic_id: u64, page: u8) {
    command(apic_id, ICR_STARTUP | u32::from(page));
}

/// A CPU as devices and I/O APICs name it, in eight bits: without interrupt remapping they do not reach those with larger ids.
///
/// # Errors
/// `BadCpu`.
pub fn destination(apic_id: u64) -> Result<u8, Status> {
    u8::try_from(apic_id).ok().filter(|&id| id != BROADCAST).ok_or(Status::BadCpu)
}

/// Address and data of a message that interrupts a CPU.
pub fn message(destination: u8, vector: u8) -> (u64, u64) {
    (MSI_RANGE.0 | u64::from(destination) << MSI_DESTINATION_SHIFT, u64::from(vector))
}

/// Makes the timer one-shot, counting APIC ticks.
pub fn timer_one_shot() {
    write(reg::LVT_TIMER, u32::from(vector::TIMER));
}

/// Makes the timer fire at a TSC value.
pub fn timer_deadline_mode() {
    write(reg::LVT_TIMER, u32::from(vector::TIMER) | LVT_TSC_DEADLINE);
}

/// Starts the one-shot timer; 0 stops it.
#[inline(always)]
pub fn timer_start(ticks: u32) {
    write(reg::TIMER_INITIAL, ticks);
}

/// Ticks left of the one-shot timer.
pub fn timer_left() -> u32 {
    read(reg::TIMER_CURRENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_reach_those_cpus_only_whose_ids_have_eight_bits() {
        assert_eq!(destination(0x12).map(|id| message(id, 0x41)), Ok((0xfee1_2000, 0x41)));
        assert_eq!(destination(0xfe), Ok(0xfe));
        for id in [0xff, 0x100, 0x112, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(destination(id), Err(Status::BadCpu), "{id:#x} is another CPU, or all of them");
        }
    }
}
