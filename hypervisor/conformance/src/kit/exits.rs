//! Numbers of exits: SVM's exit codes (APM vol. 2, appendix C), VMX's basic exit reasons (SDM vol. 3, appendix C).

use crate::kit::vcpu::is_vmx;

fn pick(svm: u64, vmx: u64) -> u64 {
    if is_vmx() { vmx } else { svm }
}

/// A window for interrupts has opened.
pub fn window() -> u64 {
    pick(0x64, 7)
}

/// IRET on SVM, right behind it on VMX.
pub fn nmi_window() -> u64 {
    pick(0x74, 8)
}

/// PAUSE.
pub fn pause() -> u64 {
    pick(0x77, 40)
}

/// RDTSC.
pub fn rdtsc() -> u64 {
    pick(0x6e, 16)
}

/// INVLPG.
pub fn invlpg() -> u64 {
    pick(0x79, 14)
}

/// WBINVD.
pub fn wbinvd() -> u64 {
    pick(0x89, 54)
}

/// MOV to CR0 or CR3; with VMX these have one number.
pub fn write_cr(number: u64) -> u64 {
    pick(0x10 + number, 28)
}

/// XSETBV.
pub fn xsetbv() -> u64 {
    pick(0x8d, 55)
}

/// A state that the CPU refuses: SVM's code, as far as all implementations tell it; the reason of VMX with the mark of failed entries.
pub fn refused() -> u64 {
    pick(0xffff_ffff, 1 << 31 | 33)
}

/// CPUID.
pub fn cpuid() -> u64 {
    pick(0x72, 10)
}

/// HLT.
pub fn hlt() -> u64 {
    pick(0x78, 12)
}

/// IN or OUT.
pub fn port() -> u64 {
    pick(0x7b, 30)
}

/// RDMSR.
pub fn read_msr() -> u64 {
    pick(0x7c, 31)
}

/// WRMSR.
pub fn write_msr() -> u64 {
    pick(0x7c, 32)
}

/// Length of the instruction that [`call`] is about.
pub const CALL_BYTES: u64 = 3;

/// VMMCALL or VMCALL.
pub fn call() -> u64 {
    pick(0x81, 18)
}

/// Triple fault.
pub fn shutdown() -> u64 {
    pick(0x7f, 2)
}
