//! Weaknesses by transient execution, for the boot log: nothing is done against these (decision 0010).

use super::x86::{self, Cpuid, Msr};
use core::fmt;

/// Bits of IA32_ARCH_CAPABILITIES by which a CPU of Intel says what it is immune to (SDM vol. 4, table 2-2).
const IMMUNITIES: [(u32, &str); 7] =
    [(0, "Meltdown, L1TF"), (5, "MDS"), (6, "iTLB multihit"), (8, "TAA"), (13, "SBDR"), (26, "GDS"), (27, "RFDS")];
/// CPUID leaf 7, EDX: there is IA32_ARCH_CAPABILITIES.
const CPUID_ARCH_CAPABILITIES: u32 = 1 << 29;

/// What a CPU does not say that it is immune to.
pub struct Exposed {
    intel: bool,
    capabilities: u64,
}

impl Exposed {
    /// That of this CPU.
    pub fn here() -> Self {
        let Cpuid { edx, .. } = x86::cpuid(7, 0);
        let capabilities = if edx & CPUID_ARCH_CAPABILITIES == 0 { 0 } else { x86::rdmsr(Msr::ArchCapabilities) };
        Self { intel: x86::cpuid(0, 0).ebx == u32::from_le_bytes(*b"Genu"), capabilities }
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spectre")?;
        let exposed = IMMUNITIES.iter().filter(|(bit, _)| self.intel && self.capabilities & 1 << bit == 0);
        exposed.into_iter().try_for_each(|(_, name)| write!(f, ", {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cpu_does_not_deny_is_named() {
        let text = |intel, capabilities| Exposed { intel, capabilities }.to_string();
        assert_eq!(text(true, 0), "Spectre, Meltdown, L1TF, MDS, iTLB multihit, TAA, SBDR, GDS, RFDS");
        assert_eq!(text(true, 1 << 0 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 13 | 1 << 27), "Spectre, GDS");
        assert_eq!(text(false, 0), "Spectre", "AMD's have no such register");
    }
}
