//! Weaknesses by transient execution, for the boot log: nothing is done against these (decision 0010).

use super::cpuid::{self, Flag};
use super::log;
use super::x86::{self, Msr};

/// Bits of IA32_ARCH_CAPABILITIES by which a CPU of Intel says what it is immune to (SDM vol. 4, table 2-2).
const IMMUNITIES: [(u32, &str); 7] =
    [(0, "Meltdown, L1TF"), (5, "MDS"), (6, "iTLB multihit"), (8, "TAA"), (13, "SBDR"), (26, "GDS"), (27, "RFDS")];

/// Names of what a CPU, of Intel or not, with these capabilities does not say that it is immune to.
fn exposed(intel: bool, capabilities: u64) -> impl Iterator<Item = &'static str> {
    IMMUNITIES.iter().filter(move |(bit, _)| intel && capabilities & 1 << bit == 0).map(|(_, name)| *name)
}

/// Tells the boot log what this CPU has.
pub fn report() {
    let capabilities = if Flag::ARCH_CAPABILITIES.is_set() { x86::rdmsr(Msr::ArchCapabilities) } else { 0 };
    let intel = cpuid::name(cpuid::leaf::VENDOR) == *b"Genu";
    for name in exposed(intel, capabilities).chain(["Spectre"]) {
        log::line(format_args!("CPU: nothing is done against {name}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cpu_does_not_deny_is_named() {
        let names = |intel, capabilities| exposed(intel, capabilities).collect::<Vec<_>>();
        assert_eq!(names(true, 0).len(), IMMUNITIES.len());
        assert_eq!(names(true, 1 << 0 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 13 | 1 << 27), ["GDS"]);
        assert!(names(false, 0).is_empty(), "AMD's have no such register");
    }
}
