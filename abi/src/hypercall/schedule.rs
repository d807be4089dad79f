//! Scheduling contexts.

use super::{Args, Number};
use crate::cap::Sel;

/// Creates a scheduling context paid by `pd` (needs `PD_CREATE_SC`), bound to `ec` (needs `EC_BIND_SC`), which becomes
/// runnable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateSc {
    /// Free selector for the new capability.
    pub dst: Sel,
    /// Owner and payer.
    pub pd: Sel,
    /// Thread or vCPU without a scheduling context.
    pub ec: Sel,
    /// Priority: 0 lowest, [`CreateSc::PRIORITIES`] - 1 highest.
    pub priority: u8,
    /// Microseconds to run before others of the same priority have their turn; not 0.
    pub budget_us: u32,
}

impl CreateSc {
    /// Number of priorities.
    pub const PRIORITIES: u8 = 128;

    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::CreateSc, 0, self.dst);
        args.rsi = self.pd.0;
        args.rdx = self.ec.0;
        args.r8 = (self.priority as u64) << 32 | self.budget_us as u64;
        args
    }

    /// From registers; `None` for a priority out of range or no budget.
    #[must_use]
    pub const fn decode(args: &Args) -> Option<Self> {
        let priority = args.r8 >> 32;
        let budget_us = args.r8 as u32;
        if priority >= Self::PRIORITIES as u64 || budget_us == 0 {
            return None;
        }
        let (pd, ec) = (Sel(args.rsi), Sel(args.rdx));
        Some(Self { dst: args.sel(), pd, ec, priority: priority as u8, budget_us })
    }
}
