//! Features of the CPU that the kernel uses, and the control registers that turn them on.
//!
//! CR0 and CR4 get known values: what the firmware or the loader has left on is not wanted. (FSGSBASE would let user mode change the
//! FS base behind the kernel's back, LA57 makes of four levels of page tables five.)

use super::cpuid::Flag;
use super::x86::{self, Msr};
use super::{descriptor, entry};
use crate::space::mem;

/// CR0 (SDM vol. 3, 2.5): PE, MP, ET, NE, WP, PG. Caches are on, and the FPU is there.
pub const CR0: u32 = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
/// CR4 while long mode is entered: PAE. LA57 cannot be changed later.
pub const CR4_BOOT: u32 = 1 << 5;
/// Machine checks are exceptions.
pub const CR4_MCE: u64 = 1 << 6;
const CR4_PGE: u64 = 1 << 7;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_UMIP: u64 = 1 << 11;
/// XSAVE, XGETBV and XSETBV are enabled.
pub const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_SCE: u64 = 1 << 0;
const EFER_NXE: u64 = 1 << 11;
/// Flags cleared at SYSCALL: TF, IF, DF, IOPL, NT, RF, AC (SDM vol. 1, 3.4.3).
const SYSCALL_MASK: u64 = 0x57700;
/// PAT: write-back, write-combining, uncached-minus, uncached; twice (SDM vol. 3, 12.12.2).
const PAT: u64 = 0x0007_0106_0007_0106;

/// CR4 for a CPU that has what `has` says.
fn cr4(has: impl Fn(Flag) -> bool) -> u64 {
    let optional = [
        (has(Flag::MCE) && has(Flag::MCA), CR4_MCE),
        (has(Flag::XSAVE), CR4_OSXSAVE),
        (has(Flag::SMEP), CR4_SMEP),
        (has(Flag::SMAP), CR4_SMAP),
        (has(Flag::UMIP), CR4_UMIP),
    ];
    let always = u64::from(CR4_BOOT) | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    optional.iter().filter(|(there, _)| *there).fold(always, |cr4, (_, bit)| cr4 | bit)
}

/// Sets this CPU up for user mode.
pub fn init() {
    x86::write_cr4(cr4(Flag::is_set));
    x86::wrmsr(Msr::Pat, PAT);
    x86::wrmsr(Msr::Efer, x86::rdmsr(Msr::Efer) | EFER_SCE | EFER_NXE);
    x86::wrmsr(Msr::Star, u64::from(descriptor::SYSRET_BASE | 3) << 48 | u64::from(descriptor::KERNEL_CS) << 32);
    x86::wrmsr(Msr::Lstar, entry::syscall_address());
    x86::wrmsr(Msr::Sfmask, SYSCALL_MASK);
    if Flag::PAGES_1G.is_set() {
        mem::enable_gigabyte_pages();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cr4_has_what_the_cpu_has_and_nothing_else() {
        const ALWAYS: u64 = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 10;
        assert_eq!(cr4(|_| false), ALWAYS);
        // Neither LA57 (12), FSGSBASE (16), PKE (22) nor any other that user mode would notice.
        assert_eq!(cr4(|_| true), ALWAYS | CR4_MCE | CR4_UMIP | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP);
        assert_eq!(cr4(|flag| flag == Flag::MCE), ALWAYS, "no banks to tell what was wrong");
        assert_eq!(cr4(|flag| flag == Flag::SMAP), ALWAYS | CR4_SMAP);
    }
}
