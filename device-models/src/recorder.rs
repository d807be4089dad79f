//! A bus end for unit tests: remembers every effect.

use crate::bus::a20::A20Bus;
use crate::bus::apic::{ApicBus, ApicMessage, LapicId, VcpuBus, VcpuEvent};
use crate::bus::irq::{IrqBus, IrqLine};
use crate::bus::log::{HostSink, LogBus};
use crate::bus::pci::{ConfigAccess, PciBus};
use crate::bus::power::{PowerBus, PowerEvent, PowerSource};
use crate::bus::ps2::{Ps2Bus, Ps2Port};
use crate::bus::serial::{HostSerial, SerialBus};
use crate::bus::speaker::SpeakerBus;
use crate::time::{Clock, Tsc};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU64;

/// TSC frequency of the tests: not a multiple of any oscillator.
pub const TSC_HZ: u64 = 2_345_678_901;

pub fn clock() -> Clock {
    Clock::new(NonZeroU64::new(TSC_HZ).unwrap())
}

/// The instant `micros` microseconds after power-on.
pub fn at_us(micros: u64) -> Tsc {
    Tsc((u128::from(micros) * u128::from(TSC_HZ) / 1_000_000) as u64)
}

#[derive(Default)]
pub struct Recorder {
    pub irqs: Vec<(IrqLine, bool)>,
    pub intr: Vec<bool>,
    pub messages: Vec<ApicMessage>,
    pub eois: Vec<u8>,
    pub receptive: usize,
    pub vcpu: Vec<(LapicId, VcpuEvent)>,
    pub serial: Vec<u8>,
    pub lines: Vec<String>,
    pub power: Vec<(PowerEvent, PowerSource)>,
    pub a20_cut: bool,
    pub gate: Vec<bool>,
    pub speaker: bool,
    pub unplugged: bool,
    pub to_device: Vec<(Ps2Port, u8)>,
    pub from_device: VecDeque<(Ps2Port, u8)>,
    pub config_writes: Vec<(ConfigAccess, u32)>,
}

impl IrqBus for Recorder {
    fn irq(&mut self, line: IrqLine, active: bool) {
        self.irqs.push((line, active));
    }
    fn intr(&mut self, active: bool) {
        self.intr.push(active);
    }
}

impl ApicBus for Recorder {
    fn send(&mut self, message: ApicMessage) {
        self.messages.push(message);
    }
    fn eoi(&mut self, vector: u8) {
        self.eois.push(vector);
    }
    fn receptive(&mut self) {
        self.receptive += 1;
    }
}

impl VcpuBus for Recorder {
    fn vcpu(&mut self, id: LapicId, event: VcpuEvent) {
        self.vcpu.push((id, event));
    }
}

impl SerialBus for Recorder {
    fn transmit(&mut self, _: HostSerial, byte: u8) {
        self.serial.push(byte);
    }
}

impl LogBus for Recorder {
    fn log(&mut self, _: HostSink, line: &str) {
        self.lines.push(line.into());
    }
}

impl PowerBus for Recorder {
    fn power(&mut self, event: PowerEvent, source: PowerSource) {
        self.power.push((event, source));
    }
}

impl A20Bus for Recorder {
    fn set_a20(&mut self, passed: bool) {
        self.a20_cut = !passed;
    }
    fn a20(&self) -> bool {
        !self.a20_cut
    }
}

impl SpeakerBus for Recorder {
    fn speaker_gate(&mut self, _: Tsc, level: bool) {
        self.gate.push(level);
    }
    fn speaker_output(&mut self, _: Tsc) -> bool {
        self.speaker
    }
}

impl Ps2Bus for Recorder {
    fn ps2_send(&mut self, port: Ps2Port, byte: u8) -> bool {
        self.to_device.push((port, byte));
        !self.unplugged
    }
    fn ps2_take(&mut self, port: Ps2Port) -> Option<u8> {
        let index = self.from_device.iter().position(|(p, _)| *p == port)?;
        self.from_device.remove(index).map(|(_, byte)| byte)
    }
}

impl PciBus for Recorder {
    fn config_read(&mut self, _: ConfigAccess) -> Option<u32> {
        None
    }
    fn config_write(&mut self, access: ConfigAccess, value: u32) {
        self.config_writes.push((access, value));
    }
}
