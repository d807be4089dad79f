//! The register map, as memory (SDM table 11-1) and as MSRs (SDM table 11-6).

use super::lvt::{Entry, Lvt};
use super::{GeneralProtection, Lapic, MSR_TSC_DEADLINE, Mode, dfr, error, svr};
use crate::bus::apic::{ApicBus, Trigger, VcpuBus};
use crate::bus::mmio::{MmioAccess, MmioSize};
use crate::time::Tsc;

/// First MSR of the x2APIC register space.
pub const X2APIC_MSR_FIRST: u32 = 0x800;
/// Last MSR of the x2APIC register space.
pub const X2APIC_MSR_LAST: u32 = 0x8ff;

/// EOI register.
const X2APIC_MSR_EOI: u32 = 0x80b;

/// Registers stand 16 bytes apart.
const STRIDE_SHIFT: u32 = 4;

/// Version register: an integrated APIC, its last LVT entry, EOI broadcast suppression supported.
const VERSION: u32 = 0x14 | (Entry::COUNT as u32 - 1) << 16 | 1 << 24;

/// A register, by its MSR number less 0x800 = its memory offset / 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Id,
    Version,
    Tpr,
    Apr,
    Ppr,
    Eoi,
    Rrd,
    Ldr,
    Dfr,
    Svr,
    Isr(u16),
    Tmr(u16),
    Irr(u16),
    Esr,
    IcrLow,
    IcrHigh,
    Lvt(Entry),
    InitialCount,
    CurrentCount,
    Divide,
    SelfIpi,
}

impl Register {
    const fn decode(index: u16) -> Option<Self> {
        Some(match index {
            0x02 => Self::Id,
            0x03 => Self::Version,
            0x08 => Self::Tpr,
            0x09 => Self::Apr,
            0x0a => Self::Ppr,
            0x0b => Self::Eoi,
            0x0c => Self::Rrd,
            0x0d => Self::Ldr,
            0x0e => Self::Dfr,
            0x0f => Self::Svr,
            0x10..=0x17 => Self::Isr(index - 0x10),
            0x18..=0x1f => Self::Tmr(index - 0x18),
            0x20..=0x27 => Self::Irr(index - 0x20),
            0x28 => Self::Esr,
            0x30 => Self::IcrLow,
            0x31 => Self::IcrHigh,
            0x32 => Self::Lvt(Entry::Timer),
            0x33 => Self::Lvt(Entry::Thermal),
            0x34 => Self::Lvt(Entry::Performance),
            0x35 => Self::Lvt(Entry::Lint0),
            0x36 => Self::Lvt(Entry::Lint1),
            0x37 => Self::Lvt(Entry::Error),
            0x38 => Self::InitialCount,
            0x39 => Self::CurrentCount,
            0x3e => Self::Divide,
            0x3f => Self::SelfIpi,
            _ => return None,
        })
    }

    /// Registers of xAPIC mode only (SDM 11.12.1.2).
    const fn memory_only(self) -> bool {
        matches!(self, Self::Apr | Self::Rrd | Self::Dfr | Self::IcrHigh)
    }

    const fn write_only(self) -> bool {
        matches!(self, Self::Eoi | Self::SelfIpi)
    }

    const fn read_only(self) -> bool {
        matches!(
            self,
            Self::Id
                | Self::Version
                | Self::Apr
                | Self::Ppr
                | Self::Ldr
                | Self::Isr(_)
                | Self::Tmr(_)
                | Self::Irr(_)
                | Self::CurrentCount
        )
    }

    /// Bits of an MSR write that must be zero.
    const fn reserved(self, value: u64) -> u64 {
        const TPR_BITS: u64 = 0xff;
        const VECTOR_BITS: u64 = 0xff;
        const DIVIDE_BITS: u64 = 0b1011;
        match self {
            Self::IcrLow => Lapic::icr_reserved(value),
            Self::Tpr => value & !TPR_BITS,
            Self::SelfIpi => value & !VECTOR_BITS,
            Self::Eoi | Self::Esr => value,
            Self::Svr => value & !(svr::WRITABLE as u64),
            Self::Divide => value & !DIVIDE_BITS,
            Self::Lvt(entry) => value >> 32 | Lvt::reserved(entry, value as u32) as u64,
            _ => value >> 32,
        }
    }
}

impl Lapic {
    /// Reads the register page (xAPIC mode). Accesses that are not an aligned dword, and pages of a
    /// local APIC that is not in xAPIC mode, read all ones.
    pub fn mmio_read(&mut self, now: Tsc, access: MmioAccess, fx: &mut impl VcpuBus) -> u64 {
        let Some(index) = self.register_index(access) else {
            return u64::MAX;
        };
        match Register::decode(index) {
            Some(Register::SelfIpi) | None => {
                self.report(error::ILLEGAL_REGISTER, fx);
                0
            }
            Some(register) => u64::from(self.read_register(now, register, fx)),
        }
    }

    /// Writes the register page (xAPIC mode).
    #[inline]
    pub fn mmio_write(&mut self, now: Tsc, access: MmioAccess, value: u64, fx: &mut (impl ApicBus + VcpuBus)) {
        let Some(index) = self.register_index(access) else {
            return;
        };
        let value = value as u32;
        match Register::decode(index) {
            Some(Register::IcrHigh) => self.set_icr_high(value),
            Some(Register::Ldr) => {
                self.ldr = value & 0xff << 24;
                fx.receptive();
            }
            Some(Register::Dfr) => {
                self.dfr = value | !dfr::MODEL;
                fx.receptive();
            }
            Some(Register::IcrLow) => self.set_icr_low(value, fx),
            Some(Register::SelfIpi) | None => self.report(error::ILLEGAL_REGISTER, fx),
            Some(register) if register.read_only() => {}
            Some(register) => self.write_register(now, register, value, fx),
        }
    }

    fn register_index(&self, access: MmioAccess) -> Option<u16> {
        const ALIGNMENT: u64 = (1 << STRIDE_SHIFT) - 1;
        let decodes =
            self.base.mode() == Mode::XApic && access.size == MmioSize::Dword && access.offset & ALIGNMENT == 0;
        decodes.then(|| u16::try_from(access.offset >> STRIDE_SHIFT).unwrap_or(u16::MAX))
    }

    /// RDMSR of the x2APIC space, or of IA32_TSC_DEADLINE.
    ///
    /// # Errors
    /// [`GeneralProtection`] where the processor would raise it.
    pub fn msr_read(&mut self, now: Tsc, msr: u32, fx: &mut impl VcpuBus) -> Result<u64, GeneralProtection> {
        if msr == MSR_TSC_DEADLINE {
            self.expire(now, fx);
            return Ok(self.timer.tsc_deadline());
        }
        let register = self.msr_register(msr)?;
        if register.write_only() {
            return Err(GeneralProtection);
        }
        Ok(match register {
            Register::IcrLow => self.icr,
            register => u64::from(self.read_register(now, register, fx)),
        })
    }

    /// WRMSR of the x2APIC space, or of IA32_TSC_DEADLINE.
    ///
    /// # Errors
    /// [`GeneralProtection`] where the processor would raise it.
    #[inline]
    pub fn msr_write(
        &mut self,
        now: Tsc,
        msr: u32,
        value: u64,
        fx: &mut (impl ApicBus + VcpuBus),
    ) -> Result<(), GeneralProtection> {
        if msr == MSR_TSC_DEADLINE {
            self.expire(now, fx);
            self.timer.set_tsc_deadline(value);
            self.expire(now, fx);
            return Ok(());
        }
        // What guests write most often, without the map.
        if msr == X2APIC_MSR_EOI && value == 0 && self.base.mode() == Mode::X2Apic {
            self.end_of_interrupt(fx);
            return Ok(());
        }
        let register = self.msr_register(msr)?;
        if register.read_only() || register.reserved(value) != 0 {
            return Err(GeneralProtection);
        }
        match register {
            Register::IcrLow => self.set_icr(value, fx),
            Register::SelfIpi => self.accept(value as u8, Trigger::Edge, fx),
            register => self.write_register(now, register, value as u32, fx),
        }
        Ok(())
    }

    fn msr_register(&self, msr: u32) -> Result<Register, GeneralProtection> {
        msr.checked_sub(X2APIC_MSR_FIRST)
            .filter(|_| self.base.mode() == Mode::X2Apic)
            .and_then(|index| u16::try_from(index).ok())
            .and_then(Register::decode)
            .filter(|register| !register.memory_only())
            .ok_or(GeneralProtection)
    }

    fn read_register(&mut self, now: Tsc, register: Register, fx: &mut impl VcpuBus) -> u32 {
        match register {
            Register::Id if self.base.mode() == Mode::X2Apic => self.id.0,
            Register::Id => self.id.0 << 24,
            Register::Version => VERSION,
            Register::Tpr => self.tpr.into(),
            Register::Apr | Register::Ppr => self.ppr().into(),
            Register::Ldr => self.logical_id(),
            Register::Dfr => self.dfr,
            Register::Svr => self.svr,
            Register::Isr(index) => self.isr.register(index),
            Register::Tmr(index) => self.tmr.register(index),
            Register::Irr(index) => self.irr.register(index),
            Register::Esr => self.esr,
            Register::IcrLow => self.icr as u32,
            Register::IcrHigh => (self.icr >> 32) as u32,
            Register::Lvt(entry) => self.lvt.read(entry),
            Register::InitialCount => self.timer.initial(),
            Register::CurrentCount => {
                self.expire(now, fx);
                self.timer.current(now)
            }
            Register::Divide => self.timer.divide(),
            Register::Eoi | Register::Rrd | Register::SelfIpi => 0,
        }
    }

    /// Writes a register that both modes have in the same form.
    fn write_register(&mut self, now: Tsc, register: Register, value: u32, fx: &mut (impl ApicBus + VcpuBus)) {
        match register {
            Register::Eoi => self.end_of_interrupt(fx),
            Register::Tpr => {
                self.tpr = value as u8;
                self.wake(fx);
            }
            Register::Svr => self.write_svr(value, fx),
            Register::Esr => {
                // A write latches what has come in since the last one.
                self.esr = core::mem::take(&mut self.errors_pending);
            }
            Register::Lvt(entry) => self.write_lvt(now, entry, value, fx),
            Register::InitialCount => {
                self.expire(now, fx);
                self.timer.set_initial(now, value);
            }
            Register::Divide => {
                self.expire(now, fx);
                self.timer.set_divide(now, value);
            }
            _ => {}
        }
    }

    fn write_svr(&mut self, value: u32, fx: &mut (impl ApicBus + VcpuBus)) {
        self.svr = value & svr::WRITABLE;
        if self.software_enabled() {
            self.wake(fx);
            fx.receptive();
        } else {
            self.lvt.mask_all();
        }
    }

    fn write_lvt(&mut self, now: Tsc, entry: Entry, value: u32, fx: &mut impl VcpuBus) {
        self.expire(now, fx);
        self.lvt.write(entry, value, !self.software_enabled());
        match entry {
            Entry::Timer => self.timer.set_mode(self.lvt.timer_mode()),
            Entry::Lint0 | Entry::Lint1 => self.pin(entry, false, fx),
            _ => {}
        }
    }

    fn wake(&self, fx: &mut impl VcpuBus) {
        if self.pending().is_some() {
            fx.vcpu(self.id, super::VcpuEvent::Interrupt);
        }
    }
}
