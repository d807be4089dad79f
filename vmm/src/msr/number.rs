//! Numbers of model-specific registers (APM2 appendix A, SDM4 chapter 2).

/// A model-specific register by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Msr(pub u32);

#[expect(missing_docs, reason = "the manuals' names")]
impl Msr {
    pub const TSC: Msr = Msr(0x10);
    pub const PLATFORM_ID: Msr = Msr(0x17);
    pub const APIC_BASE: Msr = Msr(0x1b);
    pub const EBL_CR_POWERON: Msr = Msr(0x2a);
    pub const FEATURE_CONTROL: Msr = Msr(0x3a);
    pub const PATCH_LOADER_INTEL: Msr = Msr(0x79);
    pub const PATCH_LEVEL: Msr = Msr(0x8b);
    pub const PLATFORM_INFO: Msr = Msr(0xce);
    pub const MTRR_CAP: Msr = Msr(0xfe);
    pub const SYSENTER_CS: Msr = Msr(0x174);
    pub const SYSENTER_ESP: Msr = Msr(0x175);
    pub const SYSENTER_EIP: Msr = Msr(0x176);
    pub const MCG_CAP: Msr = Msr(0x179);
    pub const MCG_STATUS: Msr = Msr(0x17a);
    pub const PERF_STATUS: Msr = Msr(0x198);
    pub const MISC_ENABLE: Msr = Msr(0x1a0);
    pub const DEBUG_CTL: Msr = Msr(0x1d9);
    pub const LAST_BRANCH_FROM: Msr = Msr(0x1db);
    pub const LAST_EXCEPTION_TO: Msr = Msr(0x1de);
    pub const MTRR_PHYS_BASE_0: Msr = Msr(0x200);
    pub const MTRR_PHYS_MASK_0: Msr = Msr(0x201);
    pub const MTRR_PHYS_MASK_7: Msr = Msr(0x20f);
    pub const MTRR_FIX_64K: Msr = Msr(0x250);
    pub const MTRR_FIX_16K_80000: Msr = Msr(0x258);
    pub const MTRR_FIX_16K_A0000: Msr = Msr(0x259);
    pub const MTRR_FIX_4K_C0000: Msr = Msr(0x268);
    pub const MTRR_FIX_4K_F8000: Msr = Msr(0x26f);
    pub const PAT: Msr = Msr(0x277);
    pub const MTRR_DEF_TYPE: Msr = Msr(0x2ff);
    pub const MC0_CTL: Msr = Msr(0x400);
    pub const MC31_MISC: Msr = Msr(0x47f);
    pub const TSC_DEADLINE: Msr = Msr(0x6e0);
    pub const X2APIC_FIRST: Msr = Msr(0x800);
    pub const X2APIC_LAST: Msr = Msr(0x8ff);
    pub const EFER: Msr = Msr(0xc000_0080);
    pub const STAR: Msr = Msr(0xc000_0081);
    pub const LSTAR: Msr = Msr(0xc000_0082);
    pub const CSTAR: Msr = Msr(0xc000_0083);
    pub const SFMASK: Msr = Msr(0xc000_0084);
    pub const FS_BASE: Msr = Msr(0xc000_0100);
    pub const GS_BASE: Msr = Msr(0xc000_0101);
    pub const KERNEL_GS_BASE: Msr = Msr(0xc000_0102);
    pub const TSC_AUX: Msr = Msr(0xc000_0103);
    pub const PERF_CTL_0: Msr = Msr(0xc001_0000);
    pub const PERF_CTR_3: Msr = Msr(0xc001_0007);
    pub const SYSCFG: Msr = Msr(0xc001_0010);
    pub const HWCR: Msr = Msr(0xc001_0015);
    pub const TOP_MEM: Msr = Msr(0xc001_001a);
    pub const TOP_MEM_2: Msr = Msr(0xc001_001d);
    pub const NB_CFG: Msr = Msr(0xc001_001f);
    pub const PATCH_LOADER_AMD: Msr = Msr(0xc001_0020);
    pub const INT_PENDING: Msr = Msr(0xc001_0055);
    pub const MMIO_CFG_BASE: Msr = Msr(0xc001_0058);
    pub const PSTATE_CURRENT_LIMIT: Msr = Msr(0xc001_0061);
    pub const PSTATE_7: Msr = Msr(0xc001_006b);
    pub const SMM_MASK: Msr = Msr(0xc001_0113);
    pub const VM_CR: Msr = Msr(0xc001_0114);
    pub const LS_CFG: Msr = Msr(0xc001_1020);
    pub const IC_CFG: Msr = Msr(0xc001_1021);
    pub const DC_CFG: Msr = Msr(0xc001_1022);
    pub const CU_CFG: Msr = Msr(0xc001_1023);
    pub const DE_CFG: Msr = Msr(0xc001_1029);
    pub const BU_CFG_2: Msr = Msr(0xc001_102a);

    /// Whether the local APIC has it.
    #[inline]
    pub fn is_local_apic(self) -> bool {
        matches!(self, Msr::APIC_BASE | Msr::TSC_DEADLINE) || (Msr::X2APIC_FIRST..=Msr::X2APIC_LAST).contains(&self)
    }

    /// All fixed-range MTRRs.
    pub const MTRR_FIXED: [Msr; 11] = [
        Msr::MTRR_FIX_64K,
        Msr::MTRR_FIX_16K_80000,
        Msr::MTRR_FIX_16K_A0000,
        Msr::MTRR_FIX_4K_C0000,
        Msr(0x269),
        Msr(0x26a),
        Msr(0x26b),
        Msr(0x26c),
        Msr(0x26d),
        Msr(0x26e),
        Msr::MTRR_FIX_4K_F8000,
    ];
}
