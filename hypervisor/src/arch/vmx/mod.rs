//! Intel VMX with EPT (SDM vol. 3, chapters 24 to 29).
//!
//! | file | holds |
//! |---|---|
//! | `caps` | what the CPU can do, and the controls that follow |
//! | `vmcs` | fields, and the instructions that reach them |
//! | `setup` | a new vCPU's control structure, and the host state in it |
//! | `state` | where the structure, the frame or the MSR area keep a vCPU's state |
//! | `event` | injected and interrupted events, exits in the form of the ABI |
//! | `world` | what happens right before an entry and right after an exit |
//! | `flush` | INVEPT and INVVPID |
//! | `segment`, `ept` | formats |

mod caps;
pub mod ept;
mod event;
mod flush;
mod segment;
mod setup;
mod state;
mod vmcs;
mod world;

pub use setup::init as set_up;
pub use state::{Vmcs, release};
pub use world::{ENTRY_LAUNCH, entry_failed, exit, prepare};

use super::cpuid;
use super::x86::{self, Msr};
use crate::cpu::Cpu;
use crate::frame::MSRS;
use crate::mem::Page;
use abi::hip::VcpuAbsence;

const CR4_VMXE: u64 = 1 << 13;
/// IA32_FEATURE_CONTROL (SDM vol. 3, 24.7).
const FEATURE_LOCKED: u64 = 1 << 0;
const FEATURE_VMX: u64 = 1 << 2;

/// Looks for VMX with EPT and unrestricted guest, on the boot CPU.
///
/// # Errors
/// Why it cannot be used.
pub fn detect() -> Result<(), VcpuAbsence> {
    if !cpuid::Flag::VMX.is_set() {
        return Err(VcpuAbsence::Hardware);
    }
    if !permitted() {
        return Err(VcpuAbsence::Firmware);
    }
    caps::read()?;
    ept::enable(caps::ept());
    Ok(())
}

/// Whether the firmware permits VMX on this CPU; if it has not decided, we do.
fn permitted() -> bool {
    let control = x86::rdmsr(Msr::FeatureControl);
    let decided = decide(control);
    if decided != control {
        x86::wrmsr(Msr::FeatureControl, decided);
    }
    decided & FEATURE_VMX != 0
}

/// What IA32_FEATURE_CONTROL is to be: once locked, it stays what it is until the next reset.
const fn decide(control: u64) -> u64 {
    if control & FEATURE_LOCKED != 0 { control } else { control | FEATURE_VMX | FEATURE_LOCKED }
}

/// Enters VMX operation on this CPU. `region` is the processor's page; `msrs` holds the MSRs that exits load. False if the firmware
/// does not permit it here.
pub fn init(cpu: &'static Cpu, region: Page, msrs: Page) -> bool {
    if !permitted() {
        return false;
    }
    for (i, msr) in MSRS.into_iter().enumerate() {
        let value = if msr == Msr::Cstar as u32 { 0 } else { x86::rdmsr_at(msr) };
        msrs.write(2 * i, u64::from(msr));
        msrs.write(2 * i + 1, value);
    }
    cpu.host_control.set(msrs.phys().0);
    region.write(0, caps::revision());
    x86::write_cr4(x86::read_cr4() | CR4_VMXE);
    let at = region.phys().0;
    // SAFETY: VMX is permitted and enabled; the region is ours for good and begins with the revision identifier. CR0 has PE, PG
    // and NE set (`features::init`), which is all that VMX wants.
    unsafe { core::arch::asm!("vmxon [{}]", in(reg) &at, options(nostack)) };
    cpu.vmcs.set(vmcs::NONE);
    // Whoever used VMX before us may have left translations.
    flush::everything();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_firmware_has_locked_stays() {
        assert_eq!(decide(FEATURE_LOCKED), FEATURE_LOCKED, "off");
        assert_eq!(decide(FEATURE_LOCKED | FEATURE_VMX), FEATURE_LOCKED | FEATURE_VMX);
        assert_eq!(decide(0), FEATURE_LOCKED | FEATURE_VMX);
    }
}
