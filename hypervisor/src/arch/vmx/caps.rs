//! What this CPU's VMX can do, and the controls that follow (SDM vol. 3, chapter 25.6 and appendix A).

use super::ept::capability;
use super::state::{CR0_PE, CR0_PG};
use crate::arch::virt::exception::CR4_MCE;
use crate::arch::x86::{self, Msr};
use abi::hip::VcpuAbsence;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Pin-based controls (SDM vol. 3, table 25-5).
pub mod pin {
    pub const INTERRUPT: u32 = 1 << 0;
    pub const NMI: u32 = 1 << 3;
    pub const VIRTUAL_NMIS: u32 = 1 << 5;
    pub const PREEMPTION_TIMER: u32 = 1 << 6;
    pub const NEEDED: u32 = INTERRUPT | NMI | VIRTUAL_NMIS;
}

/// Primary processor-based controls (SDM vol. 3, table 25-6).
pub mod primary {
    pub const INTERRUPT_WINDOW: u32 = 1 << 2;
    pub const TSC_OFFSET: u32 = 1 << 3;
    pub const HLT: u32 = 1 << 7;
    pub const INVLPG: u32 = 1 << 9;
    pub const MWAIT: u32 = 1 << 10;
    pub const RDPMC: u32 = 1 << 11;
    pub const RDTSC: u32 = 1 << 12;
    pub const CR3_LOAD: u32 = 1 << 15;
    pub const CR8_LOAD: u32 = 1 << 19;
    pub const CR8_STORE: u32 = 1 << 20;
    pub const NMI_WINDOW: u32 = 1 << 22;
    pub const MOV_DR: u32 = 1 << 23;
    pub const IO_BITMAPS: u32 = 1 << 25;
    pub const MSR_BITMAPS: u32 = 1 << 28;
    pub const MONITOR: u32 = 1 << 29;
    pub const PAUSE: u32 = 1 << 30;
    pub const SECONDARY: u32 = 1 << 31;
    /// What keeps the hypervisor in control, whatever the VMM wants. CR8 belongs to the VMM's interrupt controller; DR0 to
    /// DR3 are not switched unless they have to be.
    pub const ALWAYS: u32 =
        TSC_OFFSET | MWAIT | RDPMC | CR8_LOAD | CR8_STORE | MOV_DR | IO_BITMAPS | MSR_BITMAPS | MONITOR | SECONDARY;
    /// What the VMM may wish.
    pub const OPTIONAL: u32 = INTERRUPT_WINDOW | HLT | INVLPG | RDTSC | CR3_LOAD | NMI_WINDOW | PAUSE;
}

/// Secondary processor-based controls (SDM vol. 3, table 25-7).
pub mod secondary {
    pub const EPT: u32 = 1 << 1;
    pub const RDTSCP: u32 = 1 << 3;
    pub const VPID: u32 = 1 << 5;
    pub const WBINVD: u32 = 1 << 6;
    pub const UNRESTRICTED: u32 = 1 << 7;
    pub const INVPCID: u32 = 1 << 12;
    /// WBINVD, and WBNOINVD, would take the caches from everybody else, for milliseconds in which nothing interrupts it.
    pub const NEEDED: u32 = EPT | WBINVD | UNRESTRICTED;
    /// Instructions that raise #UD in guests without these.
    pub const INSTRUCTIONS: u32 = RDTSCP | INVPCID;
}

/// VM-exit controls (SDM vol. 3, table 25-13).
pub mod exit {
    const SAVE_DEBUG: u32 = 1 << 2;
    const HOST_64: u32 = 1 << 9;
    const SAVE_PAT: u32 = 1 << 18;
    const LOAD_PAT: u32 = 1 << 19;
    const SAVE_EFER: u32 = 1 << 20;
    const LOAD_EFER: u32 = 1 << 21;
    pub const NEEDED: u32 = SAVE_DEBUG | HOST_64 | SAVE_PAT | LOAD_PAT | SAVE_EFER | LOAD_EFER;
}

/// VM-entry controls (SDM vol. 3, table 25-15).
pub mod entry {
    const LOAD_DEBUG: u32 = 1 << 2;
    pub const LONG_MODE: u32 = 1 << 9;
    const LOAD_PAT: u32 = 1 << 14;
    const LOAD_EFER: u32 = 1 << 15;
    pub const NEEDED: u32 = LOAD_DEBUG | LOAD_PAT | LOAD_EFER;
    pub const OPTIONAL: u32 = LONG_MODE;
}

/// A capability MSR: the low half has the controls that must be 1, the high half those that may be 1 (SDM vol. 3,
/// appendix A.3).
#[derive(Clone, Copy, Debug)]
struct Allowed(u64);

impl Allowed {
    /// Whether this control may be 1.
    fn has(self, control: u32) -> bool {
        self.0 >> 32 & u64::from(control) != 0
    }

    /// Controls with all of `needed` and what of `wanted` there is. `None` if `needed` cannot be had, or if one of
    /// `optional`, which must be free to be 0 or 1, is not.
    fn adjust(self, needed: u32, wanted: u32, optional: u32) -> Option<u32> {
        let (must, may) = (self.0 as u32, (self.0 >> 32) as u32);
        let possible = may & (needed | optional) == needed | optional && must & optional == 0;
        possible.then_some(must | needed | wanted & may)
    }
}

/// Basic information (SDM vol. 3, appendix A.1): revision in bits 30:0; bit 55: there are MSRs for the true controls.
const BASIC_TRUE_CONTROLS: u64 = 1 << 55;
const BASIC_REVISION: u64 = 0x7fff_ffff;
/// Miscellaneous information (appendix A.6): the preemption timer counts down when this bit of the TSC changes.
const MISC_TIMER: u64 = 0x1f;

// Controls and capabilities of all CPUs, read on the boot CPU.
static REVISION: AtomicU64 = AtomicU64::new(0);
static PIN: AtomicU64 = AtomicU64::new(0);
static PRIMARY: AtomicU64 = AtomicU64::new(0);
static SECONDARY: AtomicU64 = AtomicU64::new(0);
static EXIT: AtomicU64 = AtomicU64::new(0);
static ENTRY: AtomicU64 = AtomicU64::new(0);
static EPT: AtomicU64 = AtomicU64::new(0);
static TIMER: AtomicU64 = AtomicU64::new(0);
static CR0: AtomicU64 = AtomicU64::new(0);
static CR4: AtomicU64 = AtomicU64::new(0);

/// A set of controls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Controls {
    /// Pin-based.
    pub pin: u32,
    /// Primary processor-based, without the optional ones.
    pub primary: u32,
    /// Secondary processor-based.
    pub secondary: u32,
    /// VM-exit.
    pub exit: u32,
    /// VM-entry, for a guest that is not in long mode.
    pub entry: u32,
}

/// Reads a capability MSR for the true controls if there is one, else the plain one.
fn allowed(has_true: bool, true_msr: Msr, msr: Msr) -> Allowed {
    Allowed(x86::rdmsr(if has_true { true_msr } else { msr }))
}

/// Reads this CPU's capabilities.
///
/// # Errors
/// What is missing.
pub fn read() -> Result<(), VcpuAbsence> {
    let basic = x86::rdmsr(Msr::VmxBasic);
    let has_true = basic & BASIC_TRUE_CONTROLS != 0;
    let primary = allowed(has_true, Msr::VmxTruePrimary, Msr::VmxPrimary);
    let secondary = if primary.has(primary::SECONDARY) { x86::rdmsr(Msr::VmxSecondary) } else { 0 };
    let has_ept = Allowed(secondary).has(secondary::EPT);
    // Without EPT there may be no such register.
    let ept = if has_ept { x86::rdmsr(Msr::VmxEptVpid) } else { 0 };
    let controls = choose(
        allowed(has_true, Msr::VmxTruePin, Msr::VmxPin),
        primary,
        Allowed(secondary),
        allowed(has_true, Msr::VmxTrueExit, Msr::VmxExit),
        allowed(has_true, Msr::VmxTrueEntry, Msr::VmxEntry),
        ept,
    )?;
    REVISION.store(basic & BASIC_REVISION, Relaxed);
    PIN.store(u64::from(controls.pin), Relaxed);
    PRIMARY.store(u64::from(controls.primary), Relaxed);
    SECONDARY.store(u64::from(controls.secondary), Relaxed);
    EXIT.store(u64::from(controls.exit), Relaxed);
    ENTRY.store(u64::from(controls.entry), Relaxed);
    EPT.store(ept, Relaxed);
    TIMER.store(x86::rdmsr(Msr::VmxMisc) & MISC_TIMER, Relaxed);
    CR0.store(x86::rdmsr(Msr::VmxCr0Fixed0) & !(CR0_PE | CR0_PG), Relaxed);
    CR4.store(x86::rdmsr(Msr::VmxCr4Fixed0) | CR4_MCE, Relaxed);
    Ok(())
}

fn choose(
    pin: Allowed,
    primary: Allowed,
    secondary: Allowed,
    exit: Allowed,
    entry: Allowed,
    ept: u64,
) -> Result<Controls, VcpuAbsence> {
    use capability as cap;
    let tables = cap::FOUR_LEVELS | cap::WRITE_BACK | cap::INVEPT;
    let invept = ept & (cap::INVEPT_SINGLE | cap::INVEPT_ALL) != 0;
    if !secondary.has(secondary::EPT) || ept & tables != tables || !invept {
        return Err(VcpuAbsence::Ept);
    }
    if !secondary.has(secondary::UNRESTRICTED) {
        return Err(VcpuAbsence::UnrestrictedGuest);
    }
    let invvpid = cap::INVVPID | cap::INVVPID_ALL;
    let mut wanted = secondary::INSTRUCTIONS;
    if ept & invvpid == invvpid {
        wanted |= secondary::VPID;
    }
    let adjusted = || {
        Some(Controls {
            pin: pin.adjust(pin::NEEDED, pin::PREEMPTION_TIMER, 0)?,
            primary: primary.adjust(primary::ALWAYS, 0, primary::OPTIONAL)?,
            secondary: secondary.adjust(secondary::NEEDED, wanted, 0)?,
            exit: exit.adjust(exit::NEEDED, 0, 0)?,
            entry: entry.adjust(entry::NEEDED, 0, entry::OPTIONAL)?,
        })
    };
    adjusted().ok_or(VcpuAbsence::Control)
}

/// The controls of every vCPU.
pub fn controls() -> Controls {
    let half = |word: &AtomicU64| word.load(Relaxed) as u32;
    Controls {
        pin: half(&PIN),
        primary: half(&PRIMARY),
        secondary: half(&SECONDARY),
        exit: half(&EXIT),
        entry: half(&ENTRY),
    }
}

/// Revision identifier: first word of VMXON region and control structures.
pub fn revision() -> u64 {
    REVISION.load(Relaxed)
}

/// Ticks of the TSC per tick of the preemption timer, as a shift.
pub fn preemption_timer_shift() -> u64 {
    TIMER.load(Relaxed)
}

/// Bits of CR0 that must be 1 in VMX operation (SDM vol. 3, appendix A.7), even in unrestricted guests, which need neither PE nor PG.
pub fn cr0_fixed() -> u64 {
    CR0.load(Relaxed)
}

/// Bits of CR4 that must be 1, and [`CR4_MCE`].
pub fn cr4_fixed() -> u64 {
    CR4.load(Relaxed)
}

/// EPT and VPID capabilities ([`capability`]).
pub fn ept() -> u64 {
    EPT.load(Relaxed)
}

/// Whether translations are tagged with a VPID.
pub fn has_vpid() -> bool {
    controls().secondary & secondary::VPID != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capability MSRs of a Skylake-X as an emulator has them: true controls, and EPT and VPID.
    const SKYLAKE: [u64; 6] = [
        0x0000_007f_0000_0016,
        0xf7f9_fffe_0400_6172,
        0x0217_7fff_0000_0000,
        0x007f_ffff_0003_6dfb,
        0x0000_ffff_0000_11fb,
        0x0000_0f01_0633_4141,
    ];

    fn chosen(msrs: [u64; 6]) -> Result<Controls, VcpuAbsence> {
        let [pin, primary, secondary, exit, entry, ept] = msrs;
        let allowed = [pin, primary, secondary, exit, entry].map(Allowed);
        let [pin, primary, secondary, exit, entry] = allowed;
        choose(pin, primary, secondary, exit, entry, ept)
    }

    #[test]
    fn controls_keep_what_must_be_and_have_what_is_needed() {
        let found = chosen(SKYLAKE).unwrap();
        for (control, msr, needed) in [
            (found.pin, SKYLAKE[0], pin::NEEDED),
            (found.primary, SKYLAKE[1], primary::ALWAYS),
            (found.secondary, SKYLAKE[2], secondary::NEEDED | secondary::VPID),
            (found.exit, SKYLAKE[3], exit::NEEDED),
            (found.entry, SKYLAKE[4], entry::NEEDED),
        ] {
            let (must, may) = (msr as u32, (msr >> 32) as u32);
            assert_eq!(control & must, must);
            assert_eq!(control & !may, 0);
            assert_eq!(control & needed, needed);
        }
        assert_eq!(found.primary & primary::OPTIONAL, 0);
        assert_eq!(found.entry & entry::LONG_MODE, 0);
    }

    #[test]
    fn without_what_is_needed_there_are_no_controls() {
        for (index, bit) in [
            (0, pin::VIRTUAL_NMIS),
            (1, primary::MSR_BITMAPS),
            (1, primary::INTERRUPT_WINDOW),
            (2, secondary::WBINVD),
            (3, 1 << 21),
        ] {
            let mut msrs = SKYLAKE;
            msrs[index] &= !(u64::from(bit) << 32);
            assert_eq!(chosen(msrs), Err(VcpuAbsence::Control), "{index} {bit:#x}");
        }
        let mut msrs = SKYLAKE;
        // The plain capability MSR: exits at every load of CR3 could not be turned off.
        msrs[1] |= u64::from(primary::CR3_LOAD);
        assert_eq!(chosen(msrs), Err(VcpuAbsence::Control));
    }

    #[test]
    fn what_old_processors_lack_is_told() {
        for (bit, why) in
            [(secondary::EPT, VcpuAbsence::Ept), (secondary::UNRESTRICTED, VcpuAbsence::UnrestrictedGuest)]
        {
            let mut msrs = SKYLAKE;
            msrs[2] &= !(u64::from(bit) << 32);
            assert_eq!(chosen(msrs), Err(why));
        }
    }

    #[test]
    fn tags_are_used_only_if_they_can_be_flushed() {
        let mut msrs = SKYLAKE;
        msrs[5] &= !capability::INVVPID_ALL;
        assert_eq!(chosen(msrs).unwrap().secondary & secondary::VPID, 0);
        msrs = SKYLAKE;
        msrs[2] &= !(u64::from(secondary::VPID) << 32);
        assert_eq!(chosen(msrs).unwrap().secondary & secondary::VPID, 0);
        msrs = SKYLAKE;
        msrs[5] &= !capability::INVEPT;
        assert_eq!(chosen(msrs), Err(VcpuAbsence::Ept));
    }
}
