//! Breakpoints of guests. Moves to and from debug registers exit; DR6 and DR7 are switched with the control block, and each exit
//! leaves DR7 without breakpoints (APM vol. 2, 15.6; SDM vol. 3, 28.5.1). DR0 to DR3 are whoever's was entered last: a
//! vCPU that has breakpoints enabled loads them before each entry, and no other vCPU spends an instruction on them.

use super::{Backend, Field};
use crate::arch::x86;
use crate::frame::{Frame, RENEW, Reg};
use crate::mem::Page;
use abi::state::word;

const ADDRESSES: [Reg; 4] = [Reg::Dr0, Reg::Dr1, Reg::Dr2, Reg::Dr3];
/// Bits of DR6 and DR7 that entries take, and the one that is always set (APM vol. 2, 13.1.1 and 15.5.1; SDM vol. 3, 27.3.1.1).
const STATUS: u64 = 0xffff_ffff;
const CONTROL: u64 = 0xffff_23ff;
const CONTROL_FIXED: u64 = 1 << 10;
/// Bits of DR7 that enable breakpoints: L0 to G3.
const ENABLED: u64 = 0xff;

/// Delivers what the control block does not hold.
pub fn save(frame: Frame, utcb: Page) {
    for (i, reg) in ADDRESSES.into_iter().enumerate() {
        utcb.write(word::DR + i, frame.get(reg));
    }
}

/// Accepts all debug registers.
pub fn load<B: Backend>(this: B, frame: Frame, utcb: Page) {
    for (i, reg) in ADDRESSES.into_iter().enumerate() {
        frame.set(reg, utcb.read(word::DR + i));
    }
    this.set_field(Field::Dr6, utcb.read(word::DR6) & STATUS);
    this.set_field(Field::Dr7, utcb.read(word::DR7) & CONTROL | CONTROL_FIXED);
    frame.set(Reg::SpaceGeneration, frame.get(Reg::SpaceGeneration) | RENEW);
}

/// Before an entry: loads the addresses if there are breakpoints. Returns [`RENEW`] if so, else 0.
pub fn arm<B: Backend>(this: B, frame: Frame) -> u64 {
    if this.field(Field::Dr7) & ENABLED == 0 {
        return 0;
    }
    x86::write_breakpoints(ADDRESSES.map(|reg| frame.get(reg)));
    RENEW
}
