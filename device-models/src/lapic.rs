//! Local APIC in xAPIC and x2APIC mode.
//!
//! Follows the Intel SDM vol. 3A, chapter 11 (APIC) and 11.12 (x2APIC). Whoever runs the vCPU asks
//! [`Lapic::pending`] and [`Lapic::extint`] before entering the guest, acknowledges what it injects
//! ([`Lapic::acknowledge`], [`Lapic::acknowledge_extint`]), and looks again after a
//! [`VcpuEvent::Interrupt`].

mod base;
mod icr;
mod lvt;
mod registers;
mod timer;
mod vectors;

pub use base::{ApicBase, LAPIC_GPA, Mode};
pub use registers::{X2APIC_MSR_FIRST, X2APIC_MSR_LAST};

use crate::bus::apic::{ApicBus, ApicMessage, Delivery, Destination, LapicId, Trigger, VcpuBus, VcpuEvent};
use crate::time::Tsc;
use lvt::{Entry, Lvt};
use timer::Timer;
use vectors::VectorSet;

/// IA32_APIC_BASE.
pub const MSR_APIC_BASE: u32 = 0x1b;
/// IA32_TSC_DEADLINE.
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;

/// Vectors below this are reserved for exceptions; sending or receiving them is an error.
const FIRST_LEGAL_VECTOR: u8 = 16;
/// The vector's upper half is its priority class.
const CLASS: u8 = 0xf0;

/// Error status register (SDM 11.5.3).
mod error {
    pub(super) const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
    pub(super) const RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
    pub(super) const ILLEGAL_REGISTER: u32 = 1 << 7;
}

/// Spurious-interrupt vector register (SDM 11.9).
mod svr {
    pub(super) const ENABLE: u32 = 1 << 8;
    pub(super) const NO_EOI_BROADCAST: u32 = 1 << 12;
    pub(super) const FOCUS_DISABLED: u32 = 1 << 9;
    pub(super) const VECTOR: u32 = 0xff;
    pub(super) const WRITABLE: u32 = VECTOR | ENABLE | FOCUS_DISABLED | NO_EOI_BROADCAST;
    pub(super) const RESET: u32 = VECTOR;
}

/// Destination format register: the model in the top four bits (SDM 11.6.2.2).
mod dfr {
    pub(super) const FLAT: u32 = u32::MAX;
    pub(super) const MODEL: u32 = 0xf << 28;
}

/// The access raises a general-protection exception in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

/// A local APIC.
#[derive(Debug)]
pub struct Lapic {
    id: LapicId,
    base: ApicBase,
    irr: VectorSet,
    isr: VectorSet,
    tmr: VectorSet,
    tpr: u8,
    svr: u32,
    ldr: u32,
    dfr: u32,
    icr: u64,
    errors_pending: u32,
    esr: u32,
    lvt: Lvt,
    timer: Timer,
    lint0: bool,
    lint1: bool,
    /// An ExtINT message came and its acknowledge cycle has not run.
    extint_message: bool,
}

impl Lapic {
    /// A local APIC after power-on. `bootstrap` marks the bootstrap processor.
    #[must_use]
    pub const fn new(id: LapicId, bootstrap: bool) -> Self {
        Self {
            id,
            base: ApicBase::reset(bootstrap),
            irr: VectorSet::EMPTY,
            isr: VectorSet::EMPTY,
            tmr: VectorSet::EMPTY,
            tpr: 0,
            svr: svr::RESET,
            ldr: 0,
            dfr: dfr::FLAT,
            icr: 0,
            errors_pending: 0,
            esr: 0,
            lvt: Lvt::reset(),
            timer: Timer::new(),
            lint0: false,
            lint1: false,
            extint_message: false,
        }
    }

    /// Leaves the state firmware leaves for a bootstrap processor: enabled, LINT0 carries the 8259
    /// pair's interrupts ("virtual wire mode", MultiProcessor Specification 1.4, 3.6.2.2), LINT1 NMI.
    pub const fn set_virtual_wire(&mut self) {
        self.svr |= svr::ENABLE;
        self.lvt.set_virtual_wire();
    }

    /// The identifier.
    #[must_use]
    pub const fn id(&self) -> LapicId {
        self.id
    }

    /// Resets the registers as INIT does; identifier, mode and pins stay (SDM 11.4.7.3).
    fn init(&mut self) {
        *self = Self { base: self.base, lint0: self.lint0, lint1: self.lint1, ..Self::new(self.id, false) };
    }

    const fn software_enabled(&self) -> bool {
        self.svr & svr::ENABLE != 0
    }

    // ---- messages

    /// Whether a message to `destination` is for this local APIC.
    #[must_use]
    pub fn accepts(&self, destination: Destination) -> bool {
        if self.base.mode() == Mode::Disabled {
            return false;
        }
        match destination {
            Destination::All => true,
            Destination::AllBut(id) => id != self.id,
            Destination::Physical(id) => id == self.id,
            Destination::Logical(address) => self.matches_logical(address),
        }
    }

    fn matches_logical(&self, address: u32) -> bool {
        let ldr = self.logical_id();
        if self.base.mode() == Mode::X2Apic {
            return address >> 16 == ldr >> 16 && address & ldr & 0xffff != 0;
        }
        let Ok(address) = u8::try_from(address) else {
            return false;
        };
        let logical = (ldr >> 24) as u8;
        if self.dfr & dfr::MODEL == dfr::MODEL {
            return address & logical != 0;
        }
        const CLUSTER: u8 = 0xf0;
        const MEMBERS: u8 = 0x0f;
        let cluster = address & CLUSTER;
        (cluster == CLUSTER || cluster == logical & CLUSTER) && address & logical & MEMBERS != 0
    }

    /// The logical identifier register; fixed by the identifier in x2APIC mode (SDM 11.12.10.2).
    fn logical_id(&self) -> u32 {
        if self.base.mode() == Mode::X2Apic { self.id.0 >> 4 << 16 | 1 << (self.id.0 & 0xf) } else { self.ldr }
    }

    /// What lowest-priority delivery compares; the least wins. `None` where this local APIC takes
    /// no vectors.
    #[must_use]
    pub fn arbitration_priority(&self) -> Option<u8> {
        self.software_enabled().then(|| self.ppr())
    }

    /// Receives a message that this local APIC [`accepts`](Self::accepts). Returns whether it has taken it: then an EOI follows
    /// one that is level-triggered.
    pub fn deliver(&mut self, message: &ApicMessage, fx: &mut impl VcpuBus) -> bool {
        let event = match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority => {
                let is_taken = self.software_enabled() && message.vector >= FIRST_LEGAL_VECTOR;
                self.accept(message.vector, message.trigger, fx);
                return is_taken;
            }
            Delivery::ExtInt => {
                self.extint_message = true;
                VcpuEvent::Interrupt
            }
            Delivery::Smi => VcpuEvent::Smi,
            Delivery::Nmi => VcpuEvent::Nmi,
            Delivery::Init => {
                self.init();
                VcpuEvent::Init
            }
            Delivery::StartUp => VcpuEvent::StartUp { page: message.vector },
        };
        fx.vcpu(self.id, event);
        true
    }

    /// Accepts a fixed interrupt, if it is one that can be accepted.
    fn accept(&mut self, vector: u8, trigger: Trigger, fx: &mut impl VcpuBus) {
        if !self.software_enabled() {
            return;
        }
        if vector < FIRST_LEGAL_VECTOR {
            self.report(error::RECEIVE_ILLEGAL_VECTOR, fx);
            return;
        }
        self.irr.insert(vector);
        match trigger {
            Trigger::Edge => self.tmr.remove(vector),
            Trigger::Level => self.tmr.insert(vector),
        }
        fx.vcpu(self.id, VcpuEvent::Interrupt);
    }

    /// Notes an error and raises the error interrupt.
    fn report(&mut self, error: u32, fx: &mut impl VcpuBus) {
        let new = self.errors_pending & error == 0;
        self.errors_pending |= error;
        let vector = self.lvt.vector(Entry::Error);
        // An illegal vector in the error entry itself would be the next error, without end.
        if new && !self.lvt.is_masked(Entry::Error) && vector >= FIRST_LEGAL_VECTOR {
            self.accept(vector, Trigger::Edge, fx);
        }
    }

    // ---- pins

    /// Drives LINT0, to which the 8259 pair's INT output is wired.
    pub fn set_lint0(&mut self, active: bool, fx: &mut impl VcpuBus) {
        let rises = active && !self.lint0;
        self.lint0 = active;
        self.pin(Entry::Lint0, rises, fx);
    }

    /// Drives LINT1, to which the board's NMI is wired.
    pub fn set_lint1(&mut self, active: bool, fx: &mut impl VcpuBus) {
        let rises = active && !self.lint1;
        self.lint1 = active;
        self.pin(Entry::Lint1, rises, fx);
    }

    fn pin(&mut self, entry: Entry, rises: bool, fx: &mut impl VcpuBus) {
        if self.base.mode() == Mode::Disabled {
            // LINT0 and LINT1 are then the processor's INTR and NMI pins (SDM 11.4.3).
            match entry {
                Entry::Lint1 if rises => fx.vcpu(self.id, VcpuEvent::Nmi),
                Entry::Lint0 => fx.vcpu(self.id, VcpuEvent::Interrupt),
                _ => {}
            }
            return;
        }
        let level = match entry {
            Entry::Lint0 => self.lint0,
            _ => self.lint1,
        };
        if self.lvt.is_masked(entry) {
            return;
        }
        match self.lvt.delivery(entry) {
            Some(Delivery::ExtInt) => fx.vcpu(self.id, VcpuEvent::Interrupt),
            Some(Delivery::Fixed) => {
                if self.lvt.is_level(entry) {
                    if level && self.lvt.set_remote_irr(entry) {
                        self.accept(self.lvt.vector(entry), Trigger::Level, fx);
                    }
                } else if rises {
                    self.accept(self.lvt.vector(entry), Trigger::Edge, fx);
                }
            }
            Some(delivery) if rises => self.local_event(delivery, fx),
            _ => {}
        }
    }

    fn local_event(&mut self, delivery: Delivery, fx: &mut impl VcpuBus) {
        match delivery {
            Delivery::Nmi => fx.vcpu(self.id, VcpuEvent::Nmi),
            Delivery::Smi => fx.vcpu(self.id, VcpuEvent::Smi),
            Delivery::Init => {
                self.init();
                fx.vcpu(self.id, VcpuEvent::Init);
            }
            _ => {}
        }
    }

    // ---- the vCPU's side

    /// Whether nothing is requested: then there is neither [`Lapic::pending`] nor [`Lapic::extint`].
    #[inline]
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.irr.is_empty() && !self.extint_message && !self.lint0
    }

    /// Whether the processor has an interrupt of the 8259 pair to acknowledge there.
    #[inline]
    #[must_use]
    pub fn extint(&self) -> bool {
        self.extint_message
            || self.lint0
                && (self.base.mode() == Mode::Disabled
                    || (!self.lvt.is_masked(Entry::Lint0) && self.lvt.delivery(Entry::Lint0) == Some(Delivery::ExtInt)))
    }

    /// The processor runs the acknowledge cycle with the 8259 pair that [`Lapic::extint`] called for.
    #[inline]
    pub const fn acknowledge_extint(&mut self) {
        self.extint_message = false;
    }

    /// The vector that is requested and above the processor priority.
    #[inline]
    #[must_use]
    pub fn pending(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        (self.software_enabled() && vector & CLASS > self.ppr() & CLASS).then_some(vector)
    }

    /// The requested vector, if any, that only the task priority holds back: the vCPU must exit when
    /// the guest lowers its TPR (CR8).
    #[must_use]
    pub fn blocked_by_tpr(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        let in_service = self.isr.highest().unwrap_or(0);
        let class = vector & CLASS;
        (self.software_enabled() && class > in_service & CLASS && class <= self.tpr & CLASS).then_some(vector)
    }

    /// Takes the pending vector into service; the processor dispatches it.
    #[inline]
    pub fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.pending()?;
        self.irr.remove(vector);
        self.isr.insert(vector);
        Some(vector)
    }

    /// Processor priority (SDM 11.8.3.1).
    #[inline]
    fn ppr(&self) -> u8 {
        let in_service = self.isr.highest().unwrap_or(0);
        if self.tpr & CLASS >= in_service & CLASS { self.tpr } else { in_service & CLASS }
    }

    /// The task priority as CR8 has it, 0..=15.
    #[inline]
    #[must_use]
    pub const fn cr8(&self) -> u8 {
        self.tpr >> 4
    }

    /// The guest moved to CR8.
    #[inline]
    pub const fn set_cr8(&mut self, priority: u8) {
        self.tpr = priority << 4;
    }

    fn end_of_interrupt(&mut self, fx: &mut (impl ApicBus + VcpuBus)) {
        let Some(vector) = self.isr.highest() else {
            return;
        };
        self.isr.remove(vector);
        if self.tmr.contains(vector) {
            for entry in self.lvt.clear_remote_irr(vector) {
                self.pin(entry, false, fx);
            }
            if self.svr & svr::NO_EOI_BROADCAST == 0 {
                fx.eoi(vector);
            }
        }
        if self.pending().is_some() {
            fx.vcpu(self.id, VcpuEvent::Interrupt);
        }
    }

    // ---- timer

    /// When the timer expires next.
    #[inline]
    #[must_use]
    pub const fn deadline(&self) -> Option<Tsc> {
        self.timer.deadline()
    }

    /// Raises the timer interrupt if it is due; periods missed meanwhile give one interrupt.
    #[inline]
    pub fn expire(&mut self, now: Tsc, fx: &mut impl VcpuBus) {
        if self.timer.take_expiry(now) && !self.lvt.is_masked(Entry::Timer) {
            self.accept(self.lvt.vector(Entry::Timer), Trigger::Edge, fx);
        }
    }
}

#[cfg(test)]
mod tests;
