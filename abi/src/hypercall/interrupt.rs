//! Interrupts.

use super::{Args, CpuId, Number};
use crate::cap::Sel;

/// Source of an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntSource {
    /// Pin of an I/O APIC by its global system interrupt number.
    Gsi {
        /// Global system interrupt.
        gsi: u32,
        /// Level-triggered: masked after each interrupt until the next down.
        level: bool,
        /// Active low.
        low: bool,
    },
    /// Message-signalled: the address is returned in RDX and the data in R8.
    Msi,
}

/// Routes an interrupt to `cpu` and ups `sm` (needs `SM_DOWN`) at each occurrence. Needs `HW_INTERRUPT`.
/// The assignment ends with the semaphore.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AssignInt {
    /// The authority.
    pub hw: Sel,
    /// Semaphore.
    pub sm: Sel,
    /// Where interrupts arrive.
    pub cpu: CpuId,
    /// What interrupts.
    pub source: IntSource,
}

impl AssignInt {
    const MSI: u64 = 1;
    const LEVEL: u64 = 2;
    const LOW: u64 = 4;

    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let (flags, gsi) = match self.source {
            IntSource::Gsi { gsi, level, low } => {
                (if level { Self::LEVEL } else { 0 } | if low { Self::LOW } else { 0 }, gsi)
            }
            IntSource::Msi => (Self::MSI, 0),
        };
        let mut args = Args::new(Number::AssignInt, flags, self.hw);
        args.rsi = self.sm.0;
        args.rdx = self.cpu.0 as u64;
        args.r8 = gsi as u64;
        args
    }

    /// From registers.
    #[must_use]
    pub const fn decode(args: &Args) -> Self {
        let flags = args.flags();
        let source = if flags & Self::MSI != 0 {
            IntSource::Msi
        } else {
            let gsi = if args.r8 > u32::MAX as u64 { u32::MAX } else { args.r8 as u32 };
            IntSource::Gsi { gsi, level: flags & Self::LEVEL != 0, low: flags & Self::LOW != 0 }
        };
        Self { hw: args.sel(), sm: Sel(args.rsi), cpu: CpuId(args.rdx as u16), source }
    }
}
