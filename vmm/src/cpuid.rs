//! CPUID as the guest sees it: the host's leaves, filtered by a policy and completed by the
//! virtual topology (APM3 appendix E, SDM2A "CPUID").
//!
//! The table is computed once per virtual CPU; an exit costs a look-up by leaf.

mod features;
mod topology;

use std::ops::Range;

use crate::state::{Efer, Xcr0};

/// One leaf's registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "architectural register names")]
pub struct CpuidRegisters {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// One leaf as read on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLeaf {
    /// EAX on input.
    pub leaf: u32,
    /// ECX on input, 0 for leaves without subleaves.
    pub subleaf: u32,
    /// What the host returned.
    pub registers: CpuidRegisters,
}

/// What the guest is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuidPolicy {
    /// Local APIC id of this CPU.
    pub apic_id: u32,
    /// Number of virtual CPUs, all cores of one package with ids from 0.
    pub cpu_count: u32,
    /// Frequency of the guest's TSC.
    pub tsc_khz: u32,
    /// Frequency of the local APIC timer before its divider.
    pub lapic_khz: u32,
    /// What XCR0 may hold ([`extended_state`]); empty: neither XSAVE nor what needs it.
    pub xcr0: Xcr0,
    /// Offer process-context identifiers, if the host has them.
    pub pcid: bool,
    /// The local APIC model has x2APIC mode.
    pub x2apic: bool,
    /// The local APIC model has the TSC-deadline mode.
    pub tsc_deadline: bool,
    /// RDTSCP and RDPID read this CPU's own TSC_AUX. To be clear where the hypervisor does not switch it
    /// and it may differ between the CPUs.
    pub tsc_aux: bool,
}

/// Signature of the hypervisor in leaf 4000_0000h: EBX, ECX, EDX.
pub const HYPERVISOR_SIGNATURE: [u8; 12] = *b"KilonovaVMM\0";

/// Leaf numbers.
pub(crate) mod leaf {
    pub(crate) const VENDOR: u32 = 0;
    pub(crate) const FEATURES: u32 = 1;
    pub(crate) const CACHE_DESCRIPTORS: u32 = 2;
    pub(crate) const CACHES_INTEL: u32 = 4;
    pub(crate) const POWER: u32 = 6;
    pub(crate) const EXTENDED_FEATURES: u32 = 7;
    pub(crate) const TOPOLOGY: u32 = 0xb;
    pub(crate) const XSAVE: u32 = 0xd;
    pub(crate) const TSC: u32 = 0x15;
    pub(crate) const FREQUENCY: u32 = 0x16;
    pub(crate) const HYPERVISOR: u32 = 0x4000_0000;
    pub(crate) const HYPERVISOR_TIMING: u32 = 0x4000_0010;
    pub(crate) const EXTENDED_MAX: u32 = 0x8000_0000;
    pub(crate) const EXTENDED_FEATURES_AMD: u32 = 0x8000_0001;
    pub(crate) const BRAND_FIRST: u32 = 0x8000_0002;
    pub(crate) const CACHE_TLB_LAST: u32 = 0x8000_0006;
    pub(crate) const ADVANCED_POWER: u32 = 0x8000_0007;
    pub(crate) const SIZES: u32 = 0x8000_0008;
    pub(crate) const TLB_1G: u32 = 0x8000_0019;
    pub(crate) const CACHES_AMD: u32 = 0x8000_001d;
    pub(crate) const TOPOLOGY_AMD: u32 = 0x8000_001e;
    pub(crate) const EXTENDED_FEATURES_2: u32 = 0x8000_0021;
}

/// CPUID bit that depends on guest state: leaf 1, ECX.
const OSXSAVE: u32 = 1 << 27;
/// Leaf 7.0 ECX: protection keys. The next bit, OSPKE, is to follow CR4.PKE, which exits of CPUID do not deliver: it follows XCR0, which
/// systems set together with that.
const PKU: u32 = 1 << 3;
/// Legacy area and header of an XSAVE area.
const XSAVE_FIXED_PART: u32 = 512 + 64;
/// Components behind the fixed part, each with a subleaf of leaf 0Dh.
const COMPONENTS: Range<u32> = 2..63;

/// End of a component in an XSAVE area, by its subleaf: its offset is in EBX, its size in EAX.
fn end_of_component(subleaf: CpuidRegisters) -> u32 {
    subleaf.ebx.saturating_add(subleaf.eax)
}

/// The state components that the hypervisor has enabled for its components (leaf 0Dh.0: those of EAX that fit into EBX),
/// as far as a guest may have them, too. None: the CPU has no XSAVE.
pub fn extended_state(host: &[HostLeaf]) -> Xcr0 {
    let subleaf = |n| host.iter().find(|host| (host.leaf, host.subleaf) == (leaf::XSAVE, n)).map(|host| host.registers);
    let Some(area) = subleaf(0) else {
        return Xcr0::empty();
    };
    // A component without a size is one that software cannot find: Bochs (2.7) has such protection keys in one of its models, and Linux
    // then does without XSAVE.
    let is_enabled =
        |n: &u32| subleaf(*n).is_some_and(|component| component.eax != 0 && end_of_component(component) <= area.ebx);
    let known = Xcr0::X87 | Xcr0::SSE | Xcr0::AVX | Xcr0::AVX512 | Xcr0::PKRU;
    let enabled = COMPONENTS.filter(is_enabled).fold(0, |set, n| set | 1 << n);
    (Xcr0::X87 | Xcr0::SSE | Xcr0::from_bits_retain(enabled)) & Xcr0::from_bits_retain(area.eax.into()) & known
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    leaf: u32,
    subleaf: u32,
    registers: CpuidRegisters,
}

/// CPUID of one virtual CPU.
#[derive(Clone, Debug)]
pub struct GuestCpuid {
    /// Sorted by leaf and subleaf; a leaf without subleaves has the one entry 0.
    entries: Vec<Entry>,
    /// Number of a leaf's first entry, by block and number in the block; of the next leaf's if there is none.
    index: [[u16; LEAVES_PER_BLOCK]; BLOCKS],
    /// What XCR0 may hold.
    xcr0: Xcr0,
}

/// Basic leaves, those of hypervisors, and extended ones: told apart by the upper two bits.
const BLOCKS: usize = 3;
const BLOCK_SHIFT: u32 = 30;
/// Leaves of a block that can exist.
const LEAVES_PER_BLOCK: usize = 64;

impl GuestCpuid {
    /// Computes the table from `host`, in any order; leaves that the policy does not know are not
    /// passed on.
    pub fn new(host: &[HostLeaf], policy: &CpuidPolicy) -> Self {
        let mut entries: Vec<Entry> = host
            .iter()
            .filter_map(|host| {
                features::filter(host, policy).map(|registers| Entry {
                    leaf: host.leaf,
                    subleaf: host.subleaf,
                    registers: topology::adjust(host, registers, policy),
                })
            })
            .collect();
        let made = topology::leaves(policy).into_iter().chain(hypervisor_leaves(policy));
        entries.extend(made);
        entries.sort_by_key(|entry| (entry.leaf, entry.subleaf));
        entries.dedup_by_key(|entry| (entry.leaf, entry.subleaf));
        let mut cpuid = GuestCpuid { index: index(&entries), entries, xcr0: policy.xcr0 };
        cpuid.set_maxima();
        cpuid.set_xsave_area();
        cpuid
    }

    /// Width of guest-physical addresses (leaf 8000_0008h, EAX 7..0).
    pub fn physical_address_bits(&self) -> u8 {
        /// What every CPU with long mode has at least.
        const LEAST: u8 = 36;
        self.get(leaf::SIZES, 0).map_or(LEAST, |registers| (registers.eax as u8).max(LEAST))
    }

    /// The registers that CPUID returns for EAX = `leaf`, ECX = `subleaf`, while the guest reads `xcr0` in XCR0; nothing if
    /// CR4.OSXSAVE is clear. What does not exist reads as zero, as on AMD.
    pub fn lookup(&self, leaf: u32, subleaf: u32, xcr0: Xcr0) -> CpuidRegisters {
        let subleaf_key = if has_subleaves(leaf) { subleaf } else { 0 };
        let Some(mut registers) = self.get(leaf, subleaf_key) else {
            return topology::beyond_last_level(leaf, subleaf, self.get(leaf::TOPOLOGY, 0));
        };
        match (leaf, subleaf_key) {
            (leaf::FEATURES, _) if xcr0.intersects(self.xcr0) => registers.ecx |= OSXSAVE,
            (leaf::EXTENDED_FEATURES, 0) if xcr0.contains(Xcr0::PKRU) => registers.ecx |= (registers.ecx & PKU) << 1,
            (leaf::XSAVE, 0) => registers.ebx = self.xsave_size(xcr0),
            _ => {}
        }
        registers
    }

    /// Bits of EFER that software can set, by the features in leaf 8000_0001h, EDX (APM2 3.1.7).
    pub fn efer(&self) -> u64 {
        const FEATURES: [(u32, Efer); 4] = [(11, Efer::SCE), (20, Efer::NXE), (25, Efer::FFXSR), (29, Efer::LME)];
        let features = self.get(leaf::EXTENDED_FEATURES_AMD, 0).unwrap_or_default().edx;
        let offered = FEATURES.into_iter().filter(|(bit, _)| features >> bit & 1 == 1);
        offered.fold(0, |bits, (_, efer)| bits | efer.bits())
    }

    #[inline]
    fn get(&self, leaf: u32, subleaf: u32) -> Option<CpuidRegisters> {
        let block = self.index.get((leaf >> BLOCK_SHIFT) as usize)?;
        let first = block.get((leaf & ((1 << BLOCK_SHIFT) - 1)) as usize)?;
        self.entries
            .get(usize::from(*first)..)?
            .iter()
            .take_while(|entry| entry.leaf == leaf)
            .find(|entry| entry.subleaf == subleaf)
            .map(|entry| entry.registers)
    }

    /// The enabled components behind the fixed part.
    fn components(&self, xcr0: Xcr0) -> impl Iterator<Item = CpuidRegisters> {
        COMPONENTS
            .filter(move |component| xcr0.bits() >> component & 1 == 1)
            .filter_map(|component| self.get(leaf::XSAVE, component))
    }

    /// Size of the area of XSAVE for the enabled components.
    fn xsave_size(&self, xcr0: Xcr0) -> u32 {
        self.components(xcr0).map(end_of_component).fold(XSAVE_FIXED_PART, u32::max)
    }

    /// Announces the size of the area for all that XCR0 may hold.
    fn set_xsave_area(&mut self) {
        let size = self.xsave_size(self.xcr0);
        if let Some(entry) = self.entries.iter_mut().find(|entry| (entry.leaf, entry.subleaf) == (leaf::XSAVE, 0)) {
            entry.registers.ecx = size;
        }
    }

    /// Announces the highest basic and extended leaf.
    fn set_maxima(&mut self) {
        for (first, last) in [(leaf::VENDOR, leaf::HYPERVISOR), (leaf::EXTENDED_MAX, u32::MAX)] {
            let inside = |entry: &&mut Entry| (first..last).contains(&entry.leaf);
            let highest = self.entries.iter_mut().filter(inside).map(|entry| entry.leaf).max();
            let head = self.entries.iter_mut().find(|entry| entry.leaf == first);
            if let (Some(highest), Some(head)) = (highest, head) {
                head.registers.eax = highest;
            }
        }
    }
}

fn index(entries: &[Entry]) -> [[u16; LEAVES_PER_BLOCK]; BLOCKS] {
    let mut blocks = [[0; LEAVES_PER_BLOCK]; BLOCKS];
    for (base, block) in (0_u32..).map(|block| block << BLOCK_SHIFT).zip(&mut blocks) {
        for (leaf, first) in (base..).zip(block.iter_mut()) {
            // There are fewer entries than leaves and subleaves that the host was asked for.
            *first = entries.partition_point(|entry| entry.leaf < leaf) as u16;
        }
    }
    blocks
}

/// Whether ECX selects a subleaf of this leaf, among those that guests have.
pub fn has_subleaves(leaf: u32) -> bool {
    matches!(leaf, leaf::CACHES_INTEL | leaf::EXTENDED_FEATURES | leaf::TOPOLOGY | leaf::XSAVE | leaf::CACHES_AMD)
}

fn hypervisor_leaves(policy: &CpuidPolicy) -> Vec<Entry> {
    let [a, b, c] = [0, 4, 8].map(|at| {
        let mut word = [0; 4];
        word.copy_from_slice(&HYPERVISOR_SIGNATURE[at..at + 4]);
        u32::from_le_bytes(word)
    });
    let entry = |leaf, eax, ebx, ecx, edx| Entry { leaf, subleaf: 0, registers: CpuidRegisters { eax, ebx, ecx, edx } };
    /// Bus (reference) clock that processors of this generation have.
    const BUS_MHZ: u32 = 100;
    let mhz = policy.tsc_khz / 1000;
    // TSC = crystal * EBX / EAX, where the crystal also clocks the APIC timer (SDM3 11.5.4).
    // A frequency that does not fit is not told (0), as the manual allows (SDM2A, CPUID leaf 15h): the ratio of the two still is, and one
    // of them in the next leaf.
    let crystal_hz = policy.lapic_khz.checked_mul(1000).unwrap_or(0);
    vec![
        entry(leaf::TSC, policy.lapic_khz, policy.tsc_khz, crystal_hz, 0),
        entry(leaf::FREQUENCY, mhz, mhz, BUS_MHZ, 0),
        entry(leaf::HYPERVISOR, leaf::HYPERVISOR_TIMING, a, b, c),
        entry(leaf::HYPERVISOR_TIMING, policy.tsc_khz, policy.lapic_khz, 0, 0),
    ]
}

#[cfg(test)]
mod tests;
