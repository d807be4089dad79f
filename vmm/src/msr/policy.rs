//! What each register does.

use super::Msr;

/// The part of the machine that owns a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// Part of the vCPU state in the control block or switched by the hypervisor: SYSENTER,
    /// SYSCALL, FS/GS bases. The hypervisor may let the guest access it without an exit.
    VcpuState,
    /// EFER: in the vCPU state, to be checked.
    Efer,
    /// The time-stamp counter.
    Tsc,
    /// Local APIC: base, x2APIC registers, TSC deadline.
    LocalApic,
}

/// Values that a stored register takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    /// Any bits of this mask.
    Mask(u64),
    /// Eight memory types of the PAT.
    PatTypes,
    /// Eight memory types of a fixed-range MTRR.
    MtrrTypes,
    /// Memory type and flags of the default type register.
    MtrrDefault,
    /// Memory type and page-aligned address.
    MtrrBase,
    /// Valid bit and page-aligned mask.
    MtrrMask,
}

/// Behaviour of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrPolicy {
    /// Somebody else's.
    Forward(Forwarded),
    /// Remembers what is written.
    Stored {
        /// Value after reset.
        reset: u64,
        /// What may be written; anything else is a #GP.
        valid: Valid,
    },
    /// Fixed value, writes raise #GP.
    Constant(u64),
    /// Fixed value, writes are dropped.
    Ignored(u64),
    /// Writes are dropped, reads raise #GP.
    WriteOnly,
    /// #GP.
    Fault,
}

/// Uncached, write-combining, write-through, write-protect, write-back.
const MTRR_TYPES: [u64; 5] = [0, 1, 4, 5, 6];
/// And "uncached minus", of the PAT only.
const PAT_UNCACHED_MINUS: u64 = 7;

impl Valid {
    /// Whether `value` may be written on a machine with this physical address width.
    pub(super) fn accepts(self, value: u64, physical_address_bits: u8) -> bool {
        const PAGE_OFFSET: u64 = 0xfff;
        /// Variable range is valid; MTRRs are enabled.
        const BIT_11: u64 = 1 << 11;
        /// Fixed ranges are enabled.
        const FIXED_ENABLE: u64 = 1 << 10;
        let bits = u32::from(physical_address_bits).clamp(32, 52);
        let address = ((1 << bits) - 1) & !PAGE_OFFSET;
        let types_in_bytes = |extra: Option<u64>| {
            let known = |kind: u64| MTRR_TYPES.contains(&kind) || Some(kind) == extra;
            value.to_le_bytes().into_iter().all(|kind| known(kind.into()))
        };
        match self {
            Valid::Mask(mask) => value & !mask == 0,
            Valid::PatTypes => types_in_bytes(Some(PAT_UNCACHED_MINUS)),
            Valid::MtrrTypes => types_in_bytes(None),
            Valid::MtrrDefault => MTRR_TYPES.contains(&(value & !(BIT_11 | FIXED_ENABLE))),
            Valid::MtrrBase => MTRR_TYPES.contains(&(value & !address)),
            Valid::MtrrMask => value & !(address | BIT_11) == 0,
        }
    }
}

/// Reset value of the PAT (APM2 7.8.1).
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// Values with a reason of their own.
mod value {
    /// Fast strings on; branch trace and PEBS unavailable (SDM4, IA32_MISC_ENABLE).
    pub(super) const MISC_ENABLE: u64 = 1 | 1 << 11 | 1 << 12;
    /// Locked, without VMX.
    pub(super) const FEATURE_CONTROL: u64 = 1;
    /// 8 variable ranges, fixed ranges, write-combining.
    pub(super) const MTRR_CAP: u64 = 8 | 1 << 8 | 1 << 10;
    /// TscFreqSel: the TSC counts at the P0 frequency. Linux calls it a firmware bug otherwise.
    pub(super) const HWCR: u64 = 1 << 24;
    /// LFENCE is serialising (DE_CFG bit 1).
    pub(super) const DE_CFG: u64 = 1 << 1;
    /// SVM disabled and locked.
    pub(super) const VM_CR: u64 = 1 << 3 | 1 << 4;
    /// A microcode level that no erratum check takes for an early one.
    pub(super) const PATCH_LEVEL: u64 = 0x0100_0065;
}

const fn stored(reset: u64, valid: Valid) -> MsrPolicy {
    MsrPolicy::Stored { reset, valid }
}

const ANY: Valid = Valid::Mask(u64::MAX);

/// The policy for `msr`.
pub fn policy(msr: Msr) -> MsrPolicy {
    match msr {
        Msr::TSC => MsrPolicy::Forward(Forwarded::Tsc),
        Msr::EFER => MsrPolicy::Forward(Forwarded::Efer),
        _ if msr.is_local_apic() => MsrPolicy::Forward(Forwarded::LocalApic),
        // Guests that see it have the instructions that read it hidden, or write 0.
        Msr::TSC_AUX => stored(0, Valid::Mask(u32::MAX as u64)),
        Msr::PAT => stored(PAT_RESET, Valid::PatTypes),
        Msr::MTRR_CAP => MsrPolicy::Constant(value::MTRR_CAP),
        Msr::MTRR_DEF_TYPE => stored(0, Valid::MtrrDefault),
        // No error banks: nothing to enable or report.
        Msr::MCG_CAP => MsrPolicy::Constant(0),
        Msr::MCG_STATUS => stored(0, ANY),
        Msr::MISC_ENABLE => stored(value::MISC_ENABLE, ANY),
        Msr::FEATURE_CONTROL => MsrPolicy::Constant(value::FEATURE_CONTROL),
        // Intel code clears the level before it reads it.
        Msr::PATCH_LEVEL => MsrPolicy::Ignored(value::PATCH_LEVEL),
        Msr::PATCH_LOADER_INTEL | Msr::PATCH_LOADER_AMD => MsrPolicy::WriteOnly,
        Msr::PLATFORM_ID | Msr::PLATFORM_INFO => MsrPolicy::Constant(0),
        Msr::EBL_CR_POWERON | Msr::PERF_STATUS | Msr::DEBUG_CTL => MsrPolicy::Ignored(0),
        _ => range_policy(msr),
    }
}

fn range_policy(msr: Msr) -> MsrPolicy {
    if in_range(msr, Msr::SYSENTER_CS, Msr::SYSENTER_EIP)
        || in_range(msr, Msr::STAR, Msr::SFMASK)
        || in_range(msr, Msr::FS_BASE, Msr::KERNEL_GS_BASE)
    {
        MsrPolicy::Forward(Forwarded::VcpuState)
    } else if in_range(msr, Msr::MTRR_PHYS_BASE_0, Msr::MTRR_PHYS_MASK_7) {
        let is_mask = msr.0 & 1 == 1;
        stored(0, if is_mask { Valid::MtrrMask } else { Valid::MtrrBase })
    } else if Msr::MTRR_FIXED.contains(&msr) {
        stored(0, Valid::MtrrTypes)
    } else if in_range(msr, Msr::MC0_CTL, Msr::MC31_MISC)
        || in_range(msr, Msr::LAST_BRANCH_FROM, Msr::LAST_EXCEPTION_TO)
    {
        MsrPolicy::Ignored(0)
    } else {
        amd_policy(msr)
    }
}

fn amd_policy(msr: Msr) -> MsrPolicy {
    match msr {
        Msr::HWCR => stored(value::HWCR, ANY),
        Msr::SYSCFG => stored(0, ANY),
        Msr::DE_CFG => stored(value::DE_CFG, ANY),
        Msr::VM_CR => MsrPolicy::Constant(value::VM_CR),
        Msr::TOP_MEM | Msr::TOP_MEM_2 | Msr::NB_CFG | Msr::INT_PENDING => MsrPolicy::Ignored(0),
        Msr::MMIO_CFG_BASE | Msr::SMM_MASK => MsrPolicy::Ignored(0),
        Msr::LS_CFG | Msr::IC_CFG | Msr::DC_CFG | Msr::CU_CFG | Msr::BU_CFG_2 => stored(0, ANY),
        _ if in_range(msr, Msr::PERF_CTL_0, Msr::PERF_CTR_3)
            || in_range(msr, Msr::PSTATE_CURRENT_LIMIT, Msr::PSTATE_7) =>
        {
            MsrPolicy::Ignored(0)
        }
        _ => MsrPolicy::Fault,
    }
}

fn in_range(msr: Msr, first: Msr, last: Msr) -> bool {
    (first..=last).contains(&msr)
}
