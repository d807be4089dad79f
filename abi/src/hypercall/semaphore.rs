//! Semaphores.

use super::{Args, Number};
use crate::cap::Sel;

/// Creates a semaphore paid by `pd` (needs `PD_CREATE`).
///
/// A semaphore can be a *member* of another one, its receiver: then each up of the member also makes the receiver
/// ready, and a down on the receiver takes the oldest ready member, returning the member's id in RDX and its whole
/// counter, now zero, in R8. So one thread waits for any number of signals and interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateSm {
    /// Free selector for the new capability.
    pub dst: Sel,
    /// Owner and payer.
    pub pd: Sel,
    /// Initial value.
    pub count: u64,
    /// Receiver (needs `SM_DOWN`), or [`Sel::NONE`].
    pub receiver: Sel,
    /// Reported by downs on the receiver.
    pub id: u64,
}

impl CreateSm {
    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::CreateSm, 0, self.dst);
        args.rsi = self.pd.0;
        args.rdx = self.count;
        args.r8 = self.receiver.0;
        args.r9 = self.id;
        args
    }

    /// From registers.
    #[must_use]
    pub const fn decode(args: &Args) -> Self {
        let (pd, receiver) = (Sel(args.rsi), Sel(args.r8));
        Self { dst: args.sel(), pd, count: args.rdx, receiver, id: args.r9 }
    }
}

/// Takes one from the semaphore (all of it with `zero`; the value taken is returned in R8), or waits until
/// that is possible or the deadline has passed. A down on a level-triggered interrupt semaphore unmasks it, whether
/// or not there was anything to take. On a receiver see [`CreateSm`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SmDown {
    /// Semaphore.
    pub sm: Sel,
    /// Take all instead of one.
    pub zero: bool,
    /// Absolute TSC value; [`SmDown::FOREVER`] for no deadline; one that has passed never waits.
    pub deadline: u64,
}

impl SmDown {
    /// No deadline.
    pub const FOREVER: u64 = 0;

    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::SmDown, self.zero as u64, self.sm);
        args.rsi = self.deadline;
        args
    }

    /// From registers.
    #[must_use]
    pub const fn decode(args: &Args) -> Self {
        Self { sm: args.sel(), zero: args.flags() & 1 != 0, deadline: args.rsi }
    }
}
