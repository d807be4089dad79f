//! The machine as a whole.

use super::{Args, Number};
use crate::cap::Sel;

/// Operation on the machine (needs `HW_POWER`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum HwOp {
    /// Reset the machine.
    Reset = 0,
    /// Enter a sleep state: RSI holds the SLP_TYPa and SLP_TYPb values of its `\_Sx` object (bits 2:0 and 10:8).
    Sleep = 1,
}

/// Power control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CtrlHw {
    /// The authority.
    pub hw: Sel,
    /// What to do.
    pub op: HwOp,
    /// SLP_TYPa in bits 2:0, SLP_TYPb in bits 10:8.
    pub sleep_type: u64,
}

impl CtrlHw {
    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::CtrlHw, self.op as u64, self.hw);
        args.rsi = self.sleep_type;
        args
    }

    /// From registers; `None` for an unknown operation.
    #[must_use]
    pub const fn decode(args: &Args) -> Option<Self> {
        let op = match args.flags() {
            0 => HwOp::Reset,
            1 => HwOp::Sleep,
            _ => return None,
        };
        Some(Self { hw: args.sel(), op, sleep_type: args.rsi })
    }
}
