//! Instructions that leave the guest, or might, and what they raise.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::AtomicU32;

use super::exception::{self, Taken};

/// CPUID: EAX, EBX, ECX, EDX.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let result = __cpuid_count(leaf, subleaf);
    [result.eax, result.ebx, result.ecx, result.edx]
}

/// Executes instructions that may raise an exception, and says which.
macro_rules! attempt {
    ($($line:literal),+ $(; $($operands:tt)+)?) => {{
        $crate::sys::exception::clear();
        // SAFETY: where the instruction does not raise an exception, it changes what its operands say, or the state of a CPU that
        // is this kernel's own in a way that the caller undoes; where it does, execution goes on behind it.
        unsafe {
            asm!(
                "lea {resume}, [rip + 2f]",
                "mov [{cell}], {resume}",
                $($line,)+
                "2:",
                resume = out(reg) _,
                cell = in(reg) $crate::sys::exception::RESUME.as_ptr(),
                $($($operands)+)?
            );
        }
        $crate::sys::exception::taken()
    }};
}
pub(super) use attempt;

macro_rules! attempts {
    ($($(#[$doc:meta])* $name:ident: $($line:literal),+;)+) => {
        $(
            $(#[$doc])*
            pub fn $name() -> Taken {
                attempt!($($line),+; out("rax") _, out("rcx") _, out("rdx") _)
            }
        )+
    };
}

attempts! {
    /// UD2.
    undefined: "ud2";
    /// INT3.
    breakpoint: "int3";
    /// INT 0x30, whose handler is one of an interrupt.
    software_interrupt: "int 0x30";
    /// DIV by 0.
    divide: "xor edx, edx", "xor ecx, ecx", "div ecx";
    /// RDPMC.
    read_counter: "xor ecx, ecx", "rdpmc";
    /// VMMCALL.
    call_svm: "vmmcall";
    /// VMCALL.
    call_vmx: "vmcall";
    /// VMLAUNCH, or nothing on AMD.
    launch: "vmlaunch";
    /// INVEPT.
    invalidate_nested: "xor eax, eax", "invept rax, [rsp]";
    /// VMXOFF.
    leave_vmx: "vmxoff";
    /// GETSEC.
    get_security: "xor eax, eax", "getsec";
    /// VMRUN, or nothing on Intel.
    run: "xor eax, eax", "vmrun";
    /// VMSAVE.
    save: "xor eax, eax", "vmsave";
    /// STGI.
    set_global: "stgi";
    /// CLGI.
    clear_global: "clgi";
    /// INVLPGA.
    invalidate_tagged: "xor eax, eax", "xor ecx, ecx", "invlpga rax, ecx";
    /// RSM, outside of system-management mode.
    resume: "rsm";
    /// MONITOR.
    monitor: "lea rax, [rsp]", "xor ecx, ecx", "xor edx, edx", "monitor";
    /// MWAIT.
    wait: "xor eax, eax", "xor ecx, ecx", "mwait";
    /// INVD, WBINVD, PAUSE.
    harmless: "invd", "wbinvd", "pause";
    /// A store to an address that the boot protocol's tables do not map: 4 GiB.
    store_unmapped: "mov eax, 1", "shl rax, 32", "mov [rax], al";
    /// CR4.VMXE, in a machine without VMX.
    enable_vmx: "mov rax, cr4", "or eax, 0x2000", "mov cr4, rax";
    /// A bit of CR0 that is none.
    set_reserved: "mov rax, cr0", "bts rax, 40", "mov cr0, rax";
    /// A task priority above 15.
    set_bad_priority: "mov eax, 16", "mov cr8, rax";
    /// DR7 with an upper bit.
    set_bad_debug: "mov eax, 1", "shl rax, 32", "mov dr7, rax";
}

/// WRMSR.
pub fn write_msr(msr: u32, value: u64) -> Taken {
    attempt!("wrmsr"; in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32)
}

/// RDMSR.
pub fn read_msr(msr: u32) -> Result<u64, Taken> {
    let (low, high): (u32, u32);
    let taken = attempt!("rdmsr"; in("ecx") msr, out("eax") low, out("edx") high);
    let value = u64::from(high) << 32 | u64::from(low);
    if taken.vector == exception::NOTHING { Ok(value) } else { Err(taken) }
}

/// Address of the last page fault.
pub fn cr2() -> u64 {
    let value;
    // SAFETY: changes nothing.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets the task priority, and reads it again.
pub fn set_priority(priority: u64) -> u64 {
    let value;
    // SAFETY: holds interrupts back, or not.
    unsafe { asm!("mov cr8, {}", "mov {}, cr8", in(reg) priority, lateout(reg) value, options(nostack)) };
    value
}

/// Toggles bits of a control register there and back, and says how it read in between, and whether it is back.
macro_rules! toggle {
    ($register:literal, $bits:expr) => {{
        let (before, between, after): (u64, u64, u64);
        // SAFETY: the callers' bits matter to nothing here.
        unsafe {
            asm!(
                concat!("mov {before}, ", $register), "mov {between}, {before}", "xor {between}, {bits}",
                concat!("mov ", $register, ", {between}"), concat!("mov {between}, ", $register),
                concat!("mov ", $register, ", {before}"), concat!("mov {after}, ", $register),
                before = out(reg) before, between = out(reg) between, after = out(reg) after, bits = in(reg) $bits,
                options(nostack)
            );
        }
        (before ^ between, before == after)
    }};
}

/// Toggles bits of CR0, see [`toggle`].
pub fn toggle_cr0(bits: u64) -> (u64, bool) {
    toggle!("cr0", bits)
}

/// Toggles a bit of CR4, see [`toggle`].
pub fn toggle_cr4(bit: u64) -> (u64, bool) {
    toggle!("cr4", bit)
}

/// Writes DR0, DR6 and DR7, and reads them again.
pub fn set_debug(values: [u64; 3]) -> [u64; 3] {
    let [dr0, dr6, dr7] = values;
    let mut read = [0; 3];
    // SAFETY: the callers' values enable no breakpoint.
    unsafe {
        asm!("mov dr0, {}", "mov {}, dr0", in(reg) dr0, lateout(reg) read[0], options(nostack));
        asm!("mov dr6, {}", "mov {}, dr6", in(reg) dr6, lateout(reg) read[1], options(nostack));
        asm!("mov dr7, {}", "mov {}, dr7", in(reg) dr7, lateout(reg) read[2], options(nostack));
    }
    read
}

/// Watches four bytes with DR0 and writes them. Returns DR6, and how far behind the instruction the exception came.
pub fn write_watched() -> (Taken, u64, u64) {
    let (behind, status): (u64, u64);
    let cell = AtomicU32::new(0);
    exception::clear();
    // SAFETY: DR7 has no breakpoint any more in the end; the handler of the exception changes atomic variables only.
    unsafe {
        asm!(
            "mov dr0, {cell}", "mov dr6, {status}", "mov dr7, {control}",
            "mov dword ptr [{cell}], 1",
            "2:",
            "mov dr7, {none}", "mov {status}, dr6", "lea {none}, [rip + 2b]",
            cell = in(reg) cell.as_ptr(), control = in(reg) WATCH_0, status = inout(reg) STATUS_RESET => status,
            none = inout(reg) NO_BREAKPOINT => behind,
        );
    }
    (exception::taken(), status, exception::rip().wrapping_sub(behind))
}

/// Runs into an instruction that DR1 breaks at. Returns DR6, and how far from the instruction the exception came.
pub fn run_into_breakpoint() -> (Taken, u64, u64) {
    let (at, status): (u64, u64);
    exception::clear();
    // SAFETY: as for `write_watched`.
    unsafe {
        asm!(
            "lea {at}, [rip + 2f]",
            "mov dr1, {at}", "mov dr6, {status}", "mov dr7, {control}",
            "2: nop",
            "mov dr7, {none}", "mov {status}, dr6",
            at = out(reg) at, control = in(reg) BREAK_1, status = inout(reg) STATUS_RESET => status,
            none = in(reg) NO_BREAKPOINT,
        );
    }
    (exception::taken(), status, exception::rip().wrapping_sub(at))
}

/// Writes four bytes that DR0 to DR3 name, with DR7 without breakpoints.
pub fn write_unwatched() -> Taken {
    let cell = AtomicU32::new(0);
    exception::clear();
    // SAFETY: enables nothing.
    unsafe {
        asm!("mov dr0, {cell}", "mov dr1, {cell}", "mov dword ptr [{cell}], 1", cell = in(reg) cell.as_ptr());
    }
    exception::taken()
}

/// DR6 without a reason (APM vol. 2, 13.1.1.3). DR7 without breakpoints, with one at writes of the four bytes at DR0, and with one at
/// the instruction at DR1 (13.1.1.4).
const STATUS_RESET: u64 = 0xffff_0ff0;
const NO_BREAKPOINT: u64 = 0x400;
const WATCH_0: u64 = NO_BREAKPOINT | 1 << 0 | 0xd << 16;
const BREAK_1: u64 = NO_BREAKPOINT | 1 << 2;

/// Steps over CPUID. Returns DR6, and how far behind the instruction the exception came.
pub fn step_over_cpuid() -> (Taken, u64, u64) {
    let (behind, status): (u64, u64);
    exception::clear();
    // SAFETY: the handler of the exception ends single-stepping.
    unsafe {
        asm!(
            "mov {behind}, rbx",
            "pushfq", "or qword ptr [rsp], 0x100", "xor eax, eax", "popfq",
            "cpuid",
            "2:",
            "mov rbx, {behind}",
            "lea {behind}, [rip + 2b]",
            "mov {status}, dr6",
            behind = out(reg) behind, status = out(reg) status,
            out("eax") _, out("ecx") _, out("edx") _,
        );
    }
    (exception::taken(), status, exception::rip().wrapping_sub(behind))
}

/// Steps over a load of SS, behind which no single step is reported, with INT1 there. Returns how far behind that the exception came.
pub fn step_into_int1() -> (Taken, u64) {
    let behind: u64;
    exception::clear();
    // SAFETY: the handler of the exception ends single-stepping; SS stays what it is.
    unsafe {
        asm!(
            "mov eax, ss",
            "pushfq", "or qword ptr [rsp], 0x100", "popfq",
            "mov ss, eax",
            ".byte 0xf1", // INT1
            "2:",
            "lea {behind}, [rip + 2b]",
            behind = out(reg) behind, out("eax") _,
        );
    }
    (exception::taken(), exception::rip().wrapping_sub(behind))
}

/// RDTSC.
pub fn time() -> u64 {
    // SAFETY: changes nothing.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Enables interrupts, for good.
pub fn enable_interrupts() {
    // SAFETY: every vector that is used has a handler, which changes atomic variables only.
    unsafe { asm!("sti", "nop", options(nostack)) };
}

/// Disables them.
pub fn disable_interrupts() {
    // SAFETY: changes no memory.
    unsafe { asm!("cli", options(nostack)) };
}

/// Enables interrupts, with three NOPs behind. Returns the address of the second: the first one that an interrupt can come at.
pub fn enable_slowly() -> u64 {
    let behind;
    // SAFETY: as for `enable_interrupts`.
    unsafe { asm!("lea {}, [rip + 2f]", "sti", "nop", "2:", "nop", "nop", out(reg) behind, options(nostack)) };
    behind
}

/// Writes to a device right behind a load of SS, which holds interrupts back for one instruction. Returns the address behind.
pub fn write_in_shadow(address: u64, value: u32) -> u64 {
    let behind;
    // SAFETY: SS keeps its value; the address is a device's.
    unsafe {
        asm!(
            "mov {ss:e}, ss", "lea {behind}, [rip + 2f]", "mov ss, {ss:e}", "mov [{address}], {value:e}",
            "2:", "nop", "nop",
            ss = out(reg) _, behind = out(reg) behind, address = in(reg) address, value = in(reg) value,
            options(nostack)
        );
    }
    behind
}

/// Waits for an interrupt with STI and HLT.
pub fn wait_for_interrupt() {
    // SAFETY: as for `enable_interrupts`.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Waits with interrupts as they are.
pub fn wait_for_ever() {
    // SAFETY: changes no memory.
    unsafe { asm!("hlt", options(nostack)) };
}

/// An exception that cannot be delivered, nor can those that follow: the machine's table of interrupts is empty.
pub fn end() -> ! {
    // SAFETY: nothing comes behind it.
    unsafe { asm!("push 0", "push 0", "lidt [rsp]", "int3", "ud2", options(noreturn)) }
}
