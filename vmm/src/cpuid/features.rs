//! Which host features a guest may see. Features are listed by what passes: what a later CPU adds
//! stays hidden until somebody has thought about its state.

use super::{COMPONENTS, CpuidPolicy, CpuidRegisters, HostLeaf, PKU, leaf};
use crate::state::Xcr0;

/// Bit set of the numbered bits.
const fn bits(numbers: &[u32]) -> u32 {
    let mut set = 0;
    let mut index = 0;
    while index < numbers.len() {
        set |= 1 << numbers[index];
        index += 1;
    }
    set
}

/// Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, RDRAND.
/// Not: DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, DCA.
const FEATURES_ECX: u32 = bits(&[0, 1, 9, 13, 19, 20, 22, 23, 25, 30]);
/// Leaf 1 ECX: XSAVE.
const FEATURES_ECX_XSAVE: u32 = bits(&[26]);
/// Leaf 1 ECX, with AVX: FMA, AVX, F16C.
const FEATURES_ECX_AVX: u32 = bits(&[12, 28, 29]);
const ECX_PCID: u32 = bits(&[17]);
const ECX_X2APIC: u32 = bits(&[21]);
const ECX_TSC_DEADLINE: u32 = bits(&[24]);
const ECX_HYPERVISOR: u32 = bits(&[31]);
/// Leaf 1 EDX: FPU VME DE PSE TSC MSR PAE MCE CX8 SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR
/// SSE SSE2. Not: PSN, DS, ACPI, SS, TM, PBE. HTT is set by topology.
const FEATURES_EDX: u32 = bits(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26]);
const EDX_APIC: u32 = bits(&[9]);

/// Leaf 7.0 EBX: FSGSBASE BMI1 SMEP BMI2 ERMS RDSEED ADX SMAP CLFLUSHOPT CLWB SHA.
const EXTENDED_EBX: u32 = bits(&[0, 3, 7, 8, 9, 18, 19, 20, 23, 24, 29]);
/// Leaf 7.0 EBX, with AVX: AVX2.
const EXTENDED_EBX_AVX: u32 = bits(&[5]);
const EBX_INVPCID: u32 = bits(&[10]);
/// Leaf 7.0 EBX, with AVX-512's state: its parts F, DQ, IFMA, CD, BW, VL.
const EXTENDED_EBX_AVX512: u32 = bits(&[16, 17, 21, 28, 30, 31]);
/// Leaf 7.0 ECX: UMIP.
const EXTENDED_ECX: u32 = bits(&[2]);
/// Leaf 7.0 ECX, with PKRU.
const EXTENDED_ECX_PKRU: u32 = PKU;
/// Leaf 7.0 ECX, with TSC_AUX: RDPID.
const EXTENDED_ECX_TSC_AUX: u32 = bits(&[22]);
/// Leaf 7.0 ECX, with AVX: VAES VPCLMULQDQ.
const EXTENDED_ECX_AVX: u32 = bits(&[9, 10]);
/// Leaf 7.0 ECX, with AVX-512's state: VBMI VBMI2 VNNI BITALG VPOPCNTDQ.
const EXTENDED_ECX_AVX512: u32 = bits(&[1, 6, 11, 12, 14]);
/// Leaf 7.0 EDX: FSRM. Not: speculation controls, whose MSRs are not virtualised.
const EXTENDED_EDX: u32 = bits(&[4]);

/// Leaf 8000_0001h ECX: LAHF CMP_LEGACY CR8D ABM SSE4A MISALIGNSSE 3DNOWPREFETCH TBM TOPOEXT.
/// Not: SVM, EXTAPIC, OSVW, IBS, SKINIT, WDT, LWP, performance counters, MONITORX.
const AMD_ECX: u32 = bits(&[0, 1, 4, 5, 6, 7, 8, 21, 22]);
/// Leaf 8000_0001h ECX, with AVX: XOP FMA4.
const AMD_ECX_AVX: u32 = bits(&[11, 16]);
/// Leaf 8000_0001h EDX: as leaf 1 in the low bits, SYSCALL NX MMXEXT FFXSR 1G-pages LM
/// 3DNOWEXT 3DNOW.
const AMD_EDX: u32 =
    bits(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 20, 22, 23, 24, 25, 26, 29, 30, 31]);
/// Leaf 8000_0001h EDX, with TSC_AUX: RDTSCP.
const AMD_EDX_TSC_AUX: u32 = bits(&[27]);
/// Leaf 8000_0007h EDX: invariant TSC.
const ADVANCED_POWER_EDX: u32 = bits(&[8]);
/// Leaf 8000_0008h EBX: CLZERO, XSAVEERPTR. Not: WBNOINVD, which would do nothing, as WBINVD does.
const SIZES_EBX: u32 = bits(&[0, 2]);
/// Leaf 8000_0021h EAX: LFENCE serialises, null selector clears the base.
const EXTENDED_2_EAX: u32 = bits(&[2, 6]);

/// Leaf 6 EAX: the APIC timer always runs.
const POWER_ARAT: u32 = bits(&[2]);

/// Leaf 0Dh.1 EAX: XSAVEOPT XGETBV1. Not XSAVES, which needs IA32_XSS, nor XSAVEC: systems do well without, and Bochs (2.7) writes all
/// components behind SSE's 160 bytes below where XRSTOR reads them (SDM vol. 1, 13.4.3), so that processes lose vector registers.
const XSAVE_VARIANTS: u32 = bits(&[0, 2]);

/// The part of a host leaf that passes; `None` hides the leaf.
pub(super) fn filter(host: &HostLeaf, policy: &CpuidPolicy) -> Option<CpuidRegisters> {
    let registers = host.registers;
    let zero = CpuidRegisters::default();
    Some(match (host.leaf, host.subleaf) {
        (leaf::VENDOR, _) | (leaf::EXTENDED_MAX, _) => registers,
        (leaf::FEATURES, _) => features(registers, policy),
        (leaf::CACHE_DESCRIPTORS | leaf::CACHES_INTEL, _) => registers,
        (leaf::POWER, _) => CpuidRegisters { eax: POWER_ARAT, ..zero },
        (leaf::EXTENDED_FEATURES, 0) => extended_features(registers, policy),
        (leaf::XSAVE, subleaf) if has_xsave(policy) => xsave(registers, subleaf, policy.xcr0)?,
        (leaf::EXTENDED_FEATURES_AMD, _) => features_amd(registers, policy),
        (leaf::BRAND_FIRST..=leaf::CACHE_TLB_LAST, _) => registers,
        (leaf::ADVANCED_POWER, _) => CpuidRegisters { edx: registers.edx & ADVANCED_POWER_EDX, ..zero },
        (leaf::SIZES, _) => {
            let mut ebx = registers.ebx & SIZES_EBX;
            if !has_xsave(policy) {
                ebx &= !bits(&[2]);
            }
            CpuidRegisters { eax: registers.eax, ebx, ..zero }
        }
        (leaf::TLB_1G | leaf::CACHES_AMD | leaf::TOPOLOGY_AMD, _) => registers,
        (leaf::EXTENDED_FEATURES_2, _) => CpuidRegisters { eax: registers.eax & EXTENDED_2_EAX, ..zero },
        _ => return None,
    })
}

fn has_xsave(policy: &CpuidPolicy) -> bool {
    !policy.xcr0.is_empty()
}

fn when(condition: bool, set: u32) -> u32 {
    if condition { set } else { 0 }
}

fn features(host: CpuidRegisters, policy: &CpuidPolicy) -> CpuidRegisters {
    let passed = FEATURES_ECX
        | when(has_xsave(policy), FEATURES_ECX_XSAVE)
        | when(policy.xcr0.contains(Xcr0::AVX), FEATURES_ECX_AVX)
        | when(policy.pcid, ECX_PCID);
    let emulated = ECX_HYPERVISOR | when(policy.x2apic, ECX_X2APIC) | when(policy.tsc_deadline, ECX_TSC_DEADLINE);
    CpuidRegisters { ecx: host.ecx & passed | emulated, edx: host.edx & FEATURES_EDX | EDX_APIC, ..host }
}

fn extended_features(host: CpuidRegisters, policy: &CpuidPolicy) -> CpuidRegisters {
    let (avx, avx512) = (policy.xcr0.contains(Xcr0::AVX), policy.xcr0.contains(Xcr0::AVX512));
    let ebx =
        EXTENDED_EBX | when(avx, EXTENDED_EBX_AVX) | when(avx512, EXTENDED_EBX_AVX512) | when(policy.pcid, EBX_INVPCID);
    let ecx = EXTENDED_ECX
        | when(avx, EXTENDED_ECX_AVX)
        | when(avx512, EXTENDED_ECX_AVX512)
        | when(policy.xcr0.contains(Xcr0::PKRU), EXTENDED_ECX_PKRU)
        | when(policy.tsc_aux, EXTENDED_ECX_TSC_AUX);
    CpuidRegisters {
        // Highest subleaf: the others hold features that need state beyond AVX.
        eax: 0,
        ebx: host.ebx & ebx,
        ecx: host.ecx & ecx,
        edx: host.edx & EXTENDED_EDX,
    }
}

fn features_amd(host: CpuidRegisters, policy: &CpuidPolicy) -> CpuidRegisters {
    let ecx = AMD_ECX | when(policy.xcr0.contains(Xcr0::AVX), AMD_ECX_AVX);
    CpuidRegisters { ecx: host.ecx & ecx, edx: host.edx & (AMD_EDX | when(policy.tsc_aux, AMD_EDX_TSC_AUX)), ..host }
}

/// Leaf 0Dh; the sizes in its first two subleaves are found when they are asked for.
fn xsave(host: CpuidRegisters, subleaf: u32, xcr0: Xcr0) -> Option<CpuidRegisters> {
    let zero = CpuidRegisters::default();
    match subleaf {
        0 => Some(CpuidRegisters { eax: xcr0.bits() as u32, edx: (xcr0.bits() >> u32::BITS) as u32, ..zero }),
        1 => Some(CpuidRegisters { eax: host.eax & XSAVE_VARIANTS, ..zero }),
        component => (COMPONENTS.contains(&component) && xcr0.bits() >> component & 1 == 1).then_some(host),
    }
}
