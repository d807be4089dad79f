//! Protection domains and their accounts.

use super::{Args, Number};
use crate::cap::Sel;

/// Creates a protection domain with an account of `quota` pages of kernel memory taken from the account of
/// `parent` (needs `PD_CREATE | PD_QUOTA`). The new capability goes to `dst`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreatePd {
    /// Free selector for the new capability.
    pub dst: Sel,
    /// Account that the quota comes from.
    pub parent: Sel,
    /// Pages of kernel memory.
    pub quota: u64,
}

impl CreatePd {
    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::CreatePd, 0, self.dst);
        args.rsi = self.parent.0;
        args.rdx = self.quota;
        args
    }

    /// From registers.
    #[must_use]
    pub const fn decode(args: &Args) -> Self {
        Self { dst: args.sel(), parent: Sel(args.rsi), quota: args.rdx }
    }
}

/// Operation on an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CtrlPd {
    /// Moves `pages` of unused quota from `from` (needs `PD_QUOTA`) to `to` (needs `PD_QUOTA`).
    Transfer {
        /// Destination account.
        to: Sel,
        /// Source account.
        from: Sel,
        /// Pages.
        pages: u64,
    },
    /// Quota in RDX and used pages in R8 of `pd` (needs `PD_QUOTA`).
    Query {
        /// Account.
        pd: Sel,
    },
}

impl CtrlPd {
    const TRANSFER: u64 = 0;
    const QUERY: u64 = 1;

    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        match self {
            Self::Transfer { to, from, pages } => {
                let mut args = Args::new(Number::CtrlPd, Self::TRANSFER, to);
                args.rsi = from.0;
                args.rdx = pages;
                args
            }
            Self::Query { pd } => Args::new(Number::CtrlPd, Self::QUERY, pd),
        }
    }

    /// From registers; `None` for an unknown operation.
    #[must_use]
    pub const fn decode(args: &Args) -> Option<Self> {
        match args.flags() {
            Self::TRANSFER => Some(Self::Transfer { to: args.sel(), from: Sel(args.rsi), pages: args.rdx }),
            Self::QUERY => Some(Self::Query { pd: args.sel() }),
            _ => None,
        }
    }
}
