//! IA32_APIC_BASE: where the registers are and in which mode (SDM 11.4.4 and 11.12.1).

use super::{GeneralProtection, Lapic};
use crate::bus::apic::ApicBus;
use crate::bus::mmio::Gpa;

/// Where the registers are after reset.
pub const LAPIC_GPA: Gpa = Gpa(0xfee0_0000);

const BOOTSTRAP: u64 = 1 << 8;
const X2APIC: u64 = 1 << 10;
const ENABLE: u64 = 1 << 11;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Operating mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The processor behaves as if it had no local APIC.
    Disabled,
    /// Registers in memory.
    XApic,
    /// Registers are MSRs.
    X2Apic,
}

/// The value of IA32_APIC_BASE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicBase(u64);

impl ApicBase {
    pub(super) const fn reset(bootstrap: bool) -> Self {
        let bootstrap = if bootstrap { BOOTSTRAP } else { 0 };
        Self(LAPIC_GPA.0 | ENABLE | bootstrap)
    }

    /// The mode. Only states that [`Lapic::set_base`] lets through exist.
    #[inline]
    #[must_use]
    pub const fn mode(self) -> Mode {
        match (self.0 & ENABLE != 0, self.0 & X2APIC != 0) {
            (false, _) => Mode::Disabled,
            (true, false) => Mode::XApic,
            (true, true) => Mode::X2Apic,
        }
    }

    /// Where the register page is in xAPIC mode.
    #[must_use]
    pub const fn address(self) -> Gpa {
        Gpa(self.0 & ADDRESS)
    }

    /// The register's value.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl Lapic {
    /// IA32_APIC_BASE.
    #[inline]
    #[must_use]
    pub const fn base(&self) -> ApicBase {
        self.base
    }

    /// A write to IA32_APIC_BASE.
    ///
    /// # Errors
    /// [`GeneralProtection`] for reserved bits and for the transitions that SDM figure 11-27 does
    /// not have.
    pub fn set_base(&mut self, value: u64, fx: &mut impl ApicBus) -> Result<(), GeneralProtection> {
        if value & !(ADDRESS | ENABLE | X2APIC | BOOTSTRAP) != 0 || value & (ENABLE | X2APIC) == X2APIC {
            return Err(GeneralProtection);
        }
        let new = ApicBase(value);
        match (self.base.mode(), new.mode()) {
            (Mode::X2Apic, Mode::XApic) | (Mode::Disabled, Mode::X2Apic) => {
                return Err(GeneralProtection);
            }
            (Mode::XApic | Mode::X2Apic, Mode::Disabled) => self.init(),
            _ => {}
        }
        self.base = new;
        fx.receptive();
        Ok(())
    }
}
