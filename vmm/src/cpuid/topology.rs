//! Leaves that describe the virtual package: one socket, one thread per core, APIC ids from 0.

use super::{CpuidPolicy, CpuidRegisters, Entry, HostLeaf, leaf};

/// Level types of leaf 0Bh, in ECX bits 15..8.
const LEVEL_SMT: u32 = 1 << 8;
const LEVEL_CORE: u32 = 2 << 8;
/// Levels of leaf 0Bh that exist.
const LEVELS: u32 = 2;

/// Bits of an APIC id that number the CPUs of the package.
fn id_bits(policy: &CpuidPolicy) -> u32 {
    policy.cpu_count.max(1).next_power_of_two().trailing_zeros()
}

/// Replaces bits `low..=high` of `value`.
fn with_field(value: u32, low: u32, high: u32, field: u32) -> u32 {
    let mask = (u32::MAX >> (31 - (high - low))) << low;
    value & !mask | (field << low) & mask
}

/// Puts the virtual topology into a leaf that came from the host.
pub(super) fn adjust(host: &HostLeaf, mut registers: CpuidRegisters, policy: &CpuidPolicy) -> CpuidRegisters {
    let others = policy.cpu_count.saturating_sub(1);
    match host.leaf {
        leaf::FEATURES => registers = features(registers, policy),
        leaf::CACHES_INTEL => {
            let sharing = if cache_is_shared(registers.eax) { others } else { 0 };
            registers.eax = with_field(registers.eax, 14, 25, sharing);
            let present = registers.eax & CACHE_TYPE != 0;
            registers.eax = with_field(registers.eax, 26, 31, if present { others } else { 0 });
        }
        leaf::CACHES_AMD => {
            let sharing = if cache_is_shared(registers.eax) { others } else { 0 };
            registers.eax = with_field(registers.eax, 14, 25, sharing);
        }
        leaf::EXTENDED_FEATURES_AMD if others == 0 => {
            const CMP_LEGACY: u32 = 1 << 1;
            registers.ecx &= !CMP_LEGACY;
        }
        leaf::SIZES => registers.ecx = others.min(255) | id_bits(policy) << 12,
        leaf::TOPOLOGY_AMD => {
            // EAX: APIC id; EBX: core id, one thread; ECX: one node, number 0.
            let (eax, ebx) = (policy.apic_id, policy.apic_id & 0xff);
            registers = CpuidRegisters { eax, ebx, ecx: 0, edx: 0 };
        }
        _ => {}
    }
    registers
}

/// Leaf 1: initial APIC id and number of logical processors.
fn features(mut registers: CpuidRegisters, policy: &CpuidPolicy) -> CpuidRegisters {
    const HTT: u32 = 1 << 28;
    registers.ebx = with_field(registers.ebx, 24, 31, policy.apic_id);
    registers.ebx = with_field(registers.ebx, 16, 23, policy.cpu_count.min(255));
    if policy.cpu_count > 1 {
        registers.edx |= HTT;
    }
    registers
}

/// Cache type, in the cache leaves' EAX: 0 ends the list.
const CACHE_TYPE: u32 = 0x1f;

/// The last-level cache (level 3) serves the package, the others one core.
fn cache_is_shared(eax: u32) -> bool {
    const LEVEL_SHIFT: u32 = 5;
    eax & CACHE_TYPE != 0 && eax >> LEVEL_SHIFT & 7 >= 3
}

/// Leaf 0Bh, which the host need not have: x2APIC ids are enumerated with it.
pub(super) fn leaves(policy: &CpuidPolicy) -> Vec<Entry> {
    let level = |subleaf, shift, count, kind| Entry {
        leaf: leaf::TOPOLOGY,
        subleaf,
        registers: CpuidRegisters { eax: shift, ebx: count, ecx: kind | subleaf, edx: policy.apic_id },
    };
    vec![level(0, 0, 1, LEVEL_SMT), level(1, id_bits(policy), policy.cpu_count, LEVEL_CORE)]
}

/// Leaf 0Bh beyond its levels: the subleaf and the APIC id. Any other missing leaf: zero.
pub(super) fn beyond_last_level(leaf: u32, subleaf: u32, first_level: Option<CpuidRegisters>) -> CpuidRegisters {
    match first_level {
        Some(first) if leaf == leaf::TOPOLOGY && subleaf >= LEVELS => {
            CpuidRegisters { ecx: subleaf & 0xff, edx: first.edx, ..CpuidRegisters::default() }
        }
        _ => CpuidRegisters::default(),
    }
}
