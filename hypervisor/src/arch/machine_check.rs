//! Machine checks (SDM vol. 3, chapter 16; APM vol. 2, chapter 9): the hardware has found itself to be in error. It is not known what was
//! hit, so the machine stops, with all that the processor says about it. Which errors are reported is left to the firmware.

use super::log;
use super::x86::{self, Msr};
use core::fmt;

/// IA32_MCG_CAP: number of banks.
const BANKS: u64 = 0xff;
/// Each bank has four registers, of which IA32_MCi_STATUS is the second: distance, and the bit that says that it is valid.
const BANK_STEP: u32 = 4;
const STATUS_VALID: u64 = 1 << 63;

/// A machine check of the host. `rip` is where it was, which need not be the reason.
pub extern "sysv64" fn at(rip: u64) -> ! {
    report(format_args!("at {rip:#x}"))
}

/// Reports a machine check `of` something and stops.
pub fn report(of: fmt::Arguments) -> ! {
    let banks = (x86::rdmsr(Msr::McgCap) & BANKS) as u32;
    let status = |bank| x86::rdmsr_at(Msr::Mc0Status as u32 + bank * BANK_STEP);
    let bank = (0..banks).find(|&bank| status(bank) & STATUS_VALID != 0);
    let (global, status) = (x86::rdmsr(Msr::McgStatus), bank.map_or(0, status));
    log::fatal(format_args!("machine check {of}: status {global:#x}, bank {bank:?} has {status:#x}"))
}
