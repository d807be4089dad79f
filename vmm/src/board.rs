//! The board: the device models of one machine, wired as its configuration says.
//!
//! An access goes in with the time at which it happens, through a table look-up to the one model
//! that decodes it; what the model does to others is applied before the access returns. The board
//! knows no hypervisor: whoever runs the virtual CPUs asks it for interrupts, deadlines, serial output
//! and power events.

mod build;
mod interrupts;
mod mmio;
mod ports;
mod serial;
mod wires;

use device_models::acpi_pm::AcpiPm;
use device_models::bus::mmio::MmioBus;
use device_models::bus::port::PortBus;
use device_models::bus::power::{PowerEvent, PowerSource};
use device_models::bus::serial::HostSerial;
use device_models::i8042::I8042;
use device_models::ioapic::IoApic;
use device_models::lapic::Lapic;
use device_models::nullio::NullIo;
use device_models::pci::hostbridge::HostBridge;
use device_models::pic::Pic;
use device_models::pit::Pit;
use device_models::pmtimer::PmTimer;
use device_models::ps2::keyboard::Keyboard;
use device_models::ps2::mouse::Mouse;
use device_models::reset::ResetControl;
use device_models::rtc::Rtc;
use device_models::scp::SystemControlPorts;
use device_models::time::{Tsc, earliest};
use device_models::uart16550::Uart16550;

pub use build::{BoardError, Environment};
pub use interrupts::{VcpuNews, VcpuSet};
use mmio::MmioDevice;
use ports::PortDevice;
pub use serial::SerialLines;
use wires::{Ps2Wires, Wires};

/// The models of one machine.
pub struct Board {
    ports: PortBus<PortDevice>,
    memory: MmioBus<MmioDevice>,
    models: Models,
    wires: Wires,
}

/// When models have something to do next.
#[derive(Clone, Copy, Debug)]
struct Deadlines {
    /// No model has anything to do before.
    any: Option<Tsc>,
    /// That of all models but local APICs.
    shared: Option<Tsc>,
    /// These two have to be found out anew.
    stale: bool,
    /// One may be earlier than when [`Board::deadline_of`] was asked last.
    moved: bool,
}

impl Deadlines {
    /// Nothing is known.
    const UNKNOWN: Self = Deadlines { any: None, shared: None, stale: true, moved: true };

    /// Another model than a local APIC may have changed its mind.
    #[inline]
    fn touch(&mut self) {
        (self.stale, self.moved) = (true, true);
    }

    /// The deadline of a local APIC was `before` and is `now`. If it is later, `any` is too early, which nobody minds until then.
    #[inline]
    fn replace(&mut self, before: Option<Tsc>, now: Option<Tsc>) {
        if now != before {
            self.any = earliest(self.any, now);
            self.moved = true;
        }
    }
}

/// The models by kind; what a machine has several of, in the order of its nodes.
struct Models {
    nullio: Vec<NullIo>,
    /// The master first.
    pics: Vec<Pic>,
    pit: Option<Pit>,
    scp: Option<SystemControlPorts>,
    kbc: Option<I8042>,
    keyboard: Option<Keyboard>,
    mouse: Option<Mouse>,
    rtc: Option<Rtc>,
    uarts: Vec<Uart16550>,
    bridge: Option<HostBridge>,
    pm_timer: Option<PmTimer>,
    acpi_pm: Option<AcpiPm>,
    reset: ResetControl,
    ioapic: Option<IoApic>,
    /// By APIC id, which is the number of the virtual CPU.
    lapics: Vec<Lapic>,
    deadlines: Deadlines,
}

impl Board {
    /// When [`Board::expire`] has to be called next at the latest, if the guest does nothing until then.
    #[inline]
    pub fn deadline(&mut self) -> Option<Tsc> {
        if self.models.deadlines.stale {
            self.models.find_deadlines();
        }
        self.models.deadlines.any
    }

    /// The same without the local APICs of other virtual CPUs than `vcpu`, which is told by this.
    #[inline]
    pub fn deadline_of(&mut self, vcpu: usize) -> Option<Tsc> {
        self.deadline();
        self.models.deadlines.moved = false;
        earliest(self.models.deadlines.shared, self.models.lapics.get(vcpu).and_then(Lapic::deadline))
    }

    /// Whether a virtual CPU may have to be told a deadline.
    #[inline]
    pub(crate) fn deadline_moved(&self) -> bool {
        self.models.deadlines.moved
    }

    /// Does what is due at `now`.
    pub fn expire(&mut self, now: Tsc) {
        self.deadline();
        if self.models.deadlines.shared.is_some_and(|deadline| deadline <= now) {
            self.expire_shared(now);
        }
        let Self { models, wires, .. } = self;
        let mut any = models.deadlines.shared;
        for lapic in &mut models.lapics {
            lapic.expire(now, wires);
            any = earliest(any, lapic.deadline());
        }
        (models.deadlines.any, models.deadlines.moved) = (any, true);
        self.settle();
    }

    /// Those of all models but local APICs.
    fn expire_shared(&mut self, now: Tsc) {
        let Self { models, wires, .. } = self;
        if let Some(pit) = &mut models.pit {
            pit.expire(now, wires);
        }
        if let Some(rtc) = &mut models.rtc {
            rtc.expire(now, wires);
        }
        if let Some(acpi_pm) = &mut models.acpi_pm {
            acpi_pm.expire(now, wires);
        }
        for uart in &mut models.uarts {
            uart.expire(now, wires);
        }
        models.deadlines.touch();
    }

    /// Offers input that arrived on a serial line. Returns how many bytes the guest's UART took; for the rest,
    /// [`Board::wants_input`] says when to try again.
    pub fn receive(&mut self, now: Tsc, host: HostSerial, bytes: &[u8]) -> usize {
        let Self { models, wires, .. } = self;
        let Some(uart) = models.uarts.iter_mut().find(|uart| uart.host() == host) else {
            // Nobody is connected.
            return bytes.len();
        };
        let taken = bytes.iter().take_while(|byte| uart.receive(now, **byte, wires).is_ok()).count();
        wires.serial.set_input_waits(host, taken < bytes.len());
        models.deadlines.touch();
        self.settle();
        taken
    }

    /// Whether a UART has room again for input that it did not take.
    #[inline]
    pub fn wants_input(&self) -> bool {
        let serial = &self.wires.serial;
        serial.any_input_waits()
            && self.models.uarts.iter().any(|uart| serial.input_waits(uart.host()) && uart.room() > 0)
    }

    /// Whether somebody else than the CPU that made an access may have to know of it.
    #[inline]
    pub(crate) fn concerns_others(&self) -> bool {
        !self.wires.marked.is_empty() || !self.wires.serial.is_empty() || self.wants_input()
    }

    /// Whether a virtual CPU has nothing to take and nobody has anything to do, output and [deadlines](Board::deadline_moved) aside.
    #[inline]
    pub(crate) fn is_calm(&self, vcpu: usize) -> bool {
        self.wires.marked.is_empty()
            && !self.power_pending()
            && !self.wires.serial.any_input_waits()
            && !self.interrupt_requested(vcpu)
    }

    /// The host's ends of the serial lines, to look at.
    #[inline]
    pub(crate) fn lines(&self) -> &SerialLines {
        &self.wires.serial
    }

    /// The host's ends of the serial lines.
    #[inline]
    pub fn serial(&mut self) -> &mut SerialLines {
        &mut self.wires.serial
    }

    /// Whether so much serial output waits that the guest has to wait too.
    #[inline]
    pub fn is_output_full(&self) -> bool {
        self.wires.serial.is_full()
    }

    /// What the guest wants to happen to the machine, once.
    #[inline]
    pub fn take_power(&mut self) -> Option<(PowerEvent, PowerSource)> {
        self.wires.power.take()
    }

    /// Whether the guest wants something to happen to the machine.
    #[inline]
    pub fn power_pending(&self) -> bool {
        self.wires.power.is_some()
    }

    /// Keeps what must survive a reset of the machine: output that is on its way out.
    pub fn succeed(&mut self, predecessor: &mut Board) {
        self.wires.serial.inherit(&mut predecessor.wires.serial);
    }

    /// The power button was pressed.
    pub fn press_power_button(&mut self) {
        if let Some(acpi_pm) = &mut self.models.acpi_pm {
            acpi_pm.press_power_button(&mut self.wires);
        }
        self.settle();
    }
}

impl Models {
    fn new() -> Self {
        Models {
            nullio: Vec::new(),
            pics: Vec::new(),
            pit: None,
            scp: None,
            kbc: None,
            keyboard: None,
            mouse: None,
            rtc: None,
            uarts: Vec::new(),
            bridge: None,
            pm_timer: None,
            acpi_pm: None,
            reset: ResetControl::default(),
            ioapic: None,
            lapics: Vec::new(),
            deadlines: Deadlines::UNKNOWN,
        }
    }

    #[inline(never)]
    fn find_deadlines(&mut self) {
        let chips = [
            self.pit.as_ref().and_then(Pit::deadline),
            self.rtc.as_ref().and_then(Rtc::deadline),
            self.acpi_pm.as_ref().and_then(AcpiPm::deadline),
        ];
        let uarts = self.uarts.iter().map(Uart16550::deadline);
        let shared = chips.into_iter().chain(uarts).fold(None, earliest);
        let any = self.lapics.iter().map(Lapic::deadline).fold(shared, earliest);
        self.deadlines = Deadlines { any, shared, stale: false, ..self.deadlines };
    }

    /// Keyboard controller with its wires.
    fn kbc<'a>(&'a mut self, wires: &'a mut Wires) -> Option<(&'a mut I8042, Ps2Wires<'a>)> {
        let ends = Ps2Wires { wires, keyboard: self.keyboard.as_mut(), mouse: self.mouse.as_mut() };
        Some((self.kbc.as_mut()?, ends))
    }
}

#[cfg(test)]
mod tests;
