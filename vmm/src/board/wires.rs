//! What models do to each other. An effect is noted while the model that causes it is borrowed, and
//! applied once the access is over, so that loops of the machine (EOI, I/O APIC, local APIC) end.

use std::collections::VecDeque;

use device_models::bus::a20::A20Bus;
use device_models::bus::apic::{ApicBus, ApicMessage, LapicId, VcpuBus, VcpuEvent};
use device_models::bus::irq::{IrqBus, IrqLine};
use device_models::bus::pci::{ConfigAccess, PciBus};
use device_models::bus::power::{PowerBus, PowerEvent, PowerSource};
use device_models::bus::ps2::{Ps2Bus, Ps2Port};
use device_models::bus::serial::{HostSerial, SerialBus};
use device_models::bus::speaker::SpeakerBus;
use device_models::pit::Pit;
use device_models::ps2::keyboard::Keyboard;
use device_models::ps2::mouse::Mouse;
use device_models::time::Tsc;

use super::interrupts::{VcpuNews, VcpuSet};
use super::serial::SerialLines;

/// An effect to be applied.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire {
    /// A line between a device and the interrupt controllers.
    Irq(IrqLine, bool),
    /// The INT output of the master 8259.
    Intr(bool),
    /// An interrupt message.
    Message(ApicMessage),
    /// End of a level-triggered interrupt.
    EndOfInterrupt(u8),
    /// A local APIC may take messages that it has refused.
    Receptive,
}

/// Effects noted so far.
#[derive(Debug, Default)]
pub(super) struct Wires {
    pub(super) queue: VecDeque<Wire>,
    pub(super) serial: SerialLines,
    pub(super) power: Option<(PowerEvent, PowerSource)>,
    /// What local APICs want of their virtual CPUs, by APIC id.
    pub(super) news: Vec<VcpuNews>,
    /// Address line 20 is cut off, as far as anybody can ask: no operating system of this century relies on addresses that
    /// wrap at 1 MiB, so that memory does not.
    pub(super) a20_cut: bool,
    /// CPUs with news, or that may have an interrupt to take.
    pub(super) marked: VcpuSet,
}

impl IrqBus for Wires {
    #[inline]
    fn irq(&mut self, line: IrqLine, active: bool) {
        self.queue.push_back(Wire::Irq(line, active));
    }
    #[inline]
    fn intr(&mut self, active: bool) {
        self.queue.push_back(Wire::Intr(active));
    }
}

impl ApicBus for Wires {
    #[inline]
    fn send(&mut self, message: ApicMessage) {
        self.queue.push_back(Wire::Message(message));
    }
    #[inline]
    fn eoi(&mut self, vector: u8) {
        self.queue.push_back(Wire::EndOfInterrupt(vector));
    }
    fn receptive(&mut self) {
        self.queue.push_back(Wire::Receptive);
    }
}

impl VcpuBus for Wires {
    /// Only notes what the virtual CPU finds when it looks: that cannot lead back to the model.
    #[inline]
    fn vcpu(&mut self, LapicId(id): LapicId, event: VcpuEvent) {
        let vcpu = id as usize;
        match (event, self.news.get_mut(vcpu)) {
            (VcpuEvent::Interrupt, _) => {}
            (VcpuEvent::Nmi, Some(news)) => news.nmi = true,
            (VcpuEvent::Init, Some(news)) => *news = VcpuNews { init: true, ..VcpuNews::default() },
            (VcpuEvent::StartUp { page }, Some(news)) => news.startup = Some(page),
            // There is no system management mode to enter.
            (VcpuEvent::Smi, _) | (_, None) => return,
        }
        self.marked.insert(vcpu);
    }
}

impl SerialBus for Wires {
    #[inline]
    fn transmit(&mut self, line: HostSerial, byte: u8) {
        self.serial.transmit(line, byte);
    }
}

impl PowerBus for Wires {
    fn power(&mut self, event: PowerEvent, source: PowerSource) {
        // Off beats reset: a machine that is switched off cannot start over.
        if !matches!(self.power, Some((PowerEvent::Off, _))) {
            self.power = Some((event, source));
        }
    }
}

impl A20Bus for Wires {
    fn set_a20(&mut self, passed: bool) {
        self.a20_cut = !passed;
    }
    fn a20(&self) -> bool {
        !self.a20_cut
    }
}

/// The host bridge is the only function so far.
impl PciBus for Wires {
    fn config_read(&mut self, _: ConfigAccess) -> Option<u32> {
        None
    }
    fn config_write(&mut self, _: ConfigAccess, _: u32) {}
}

/// The wires of the keyboard controller, with the devices at their ends.
pub(super) struct Ps2Wires<'a> {
    pub(super) wires: &'a mut Wires,
    pub(super) keyboard: Option<&'a mut Keyboard>,
    pub(super) mouse: Option<&'a mut Mouse>,
}

impl IrqBus for Ps2Wires<'_> {
    fn irq(&mut self, line: IrqLine, active: bool) {
        self.wires.irq(line, active);
    }
    fn intr(&mut self, active: bool) {
        self.wires.intr(active);
    }
}

impl PowerBus for Ps2Wires<'_> {
    fn power(&mut self, event: PowerEvent, source: PowerSource) {
        self.wires.power(event, source);
    }
}

impl A20Bus for Ps2Wires<'_> {
    fn set_a20(&mut self, passed: bool) {
        self.wires.set_a20(passed);
    }
    fn a20(&self) -> bool {
        self.wires.a20()
    }
}

impl Ps2Bus for Ps2Wires<'_> {
    fn ps2_send(&mut self, port: Ps2Port, byte: u8) -> bool {
        match port {
            Ps2Port::Keyboard => self.keyboard.as_mut().map(|keyboard| keyboard.receive(byte)),
            Ps2Port::Aux => self.mouse.as_mut().map(|mouse| mouse.receive(byte)),
        }
        .is_some()
    }
    fn ps2_take(&mut self, port: Ps2Port) -> Option<u8> {
        match port {
            Ps2Port::Keyboard => self.keyboard.as_mut()?.take(),
            Ps2Port::Aux => self.mouse.as_mut()?.take(),
        }
    }
}

/// The wires of the system control ports, with the interval timer at their ends.
pub(super) struct ScpWires<'a> {
    pub(super) wires: &'a mut Wires,
    pub(super) pit: Option<&'a mut Pit>,
}

impl PowerBus for ScpWires<'_> {
    fn power(&mut self, event: PowerEvent, source: PowerSource) {
        self.wires.power(event, source);
    }
}

impl A20Bus for ScpWires<'_> {
    fn set_a20(&mut self, passed: bool) {
        self.wires.set_a20(passed);
    }
    fn a20(&self) -> bool {
        self.wires.a20()
    }
}

impl SpeakerBus for ScpWires<'_> {
    fn speaker_gate(&mut self, now: Tsc, level: bool) {
        if let Some(pit) = &mut self.pit {
            pit.set_speaker_gate(now, level);
        }
    }
    fn speaker_output(&mut self, now: Tsc) -> bool {
        self.pit.as_mut().is_some_and(|pit| pit.speaker_output(now))
    }
}
