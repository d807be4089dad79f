//! Features of the CPU that the kernel uses, and the control registers that turn them on.

use super::x86::{self, Msr};
use super::{cpuid, descriptor, entry};
use crate::space::mem;

const CR0_WP: u64 = 1 << 16;
const CR0_NE: u64 = 1 << 5;
const CR4_PGE: u64 = 1 << 7;
const CR4_UMIP: u64 = 1 << 11;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_SCE: u64 = 1 << 0;
const EFER_NXE: u64 = 1 << 11;
/// Flags cleared at SYSCALL: TF, IF, DF, IOPL, NT, RF, AC (SDM vol. 1, 3.4.3).
const SYSCALL_MASK: u64 = 0x57700;
/// PAT: write-back, write-combining, uncached-minus, uncached; twice (SDM vol. 3, 12.12.2).
const PAT: u64 = 0x0007_0106_0007_0106;

/// Sets this CPU up for user mode.
pub fn init() {
    x86::write_cr0(x86::read_cr0() | CR0_WP | CR0_NE);
    let leaf7 = x86::cpuid(7, 0);
    let mut cr4 = x86::read_cr4() | CR4_PGE;
    for (bit, word, flag) in [(7, leaf7.ebx, CR4_SMEP), (20, leaf7.ebx, CR4_SMAP), (2, leaf7.ecx, CR4_UMIP)] {
        if word & 1 << bit != 0 {
            cr4 |= flag;
        }
    }
    x86::write_cr4(cr4);
    x86::wrmsr(Msr::Pat, PAT);
    x86::wrmsr(Msr::Efer, x86::rdmsr(Msr::Efer) | EFER_SCE | EFER_NXE);
    x86::wrmsr(Msr::Star, u64::from(descriptor::SYSRET_BASE | 3) << 48 | u64::from(descriptor::KERNEL_CS) << 32);
    x86::wrmsr(Msr::Lstar, entry::syscall_address());
    x86::wrmsr(Msr::Sfmask, SYSCALL_MASK);
    if cpuid::Flag::PAGES_1G.is_set() {
        mem::enable_gigabyte_pages();
    }
}
