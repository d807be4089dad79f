//! A board wired from the models, as a VMM would: effects that could loop go through a queue.

use device_models::acpi_pm::AcpiPm;
use device_models::bus::apic::{ApicBus, ApicMessage, LapicId, VcpuBus, VcpuEvent};
use device_models::bus::irq::{IrqBus, IrqLine};
use device_models::bus::mmio::{MmioAccess, MmioSize};
use device_models::bus::port::{PortAccess, PortBus};
use device_models::bus::power::{PowerBus, PowerEvent, PowerSource};
use device_models::bus::ps2::{Ps2Bus, Ps2Port};
use device_models::bus::serial::{HostSerial, SerialBus};
use device_models::bus::sideband::SidebandBus;
use device_models::i8042::I8042;
use device_models::ioapic::IoApic;
use device_models::lapic::Lapic;
use device_models::pic::{Acknowledge, Pic};
use device_models::pit::Pit;
use device_models::pmtimer::{PmTimer, Width};
use device_models::ps2::keyboard::Keyboard;
use device_models::ps2::mouse::Mouse;
use device_models::scp::SystemControlPorts;
use device_models::time::{Clock, Tsc, earliest};
use device_models::uart16550::Uart16550;
use std::collections::VecDeque;
use std::num::NonZeroU64;

/// 2.6 GHz and a bit.
pub const TSC_HZ: u64 = 2_600_003_711;

pub fn clock() -> Clock {
    Clock::new(NonZeroU64::new(TSC_HZ).unwrap())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Master,
    Slave,
    Pit,
    Scp,
    Kbc,
    Uart,
    PmTimer,
    AcpiPm,
}

enum Wire {
    Irq(IrqLine, bool),
    Intr(bool),
    Message(ApicMessage),
    Eoi(u8),
}

/// Effects that are applied after the access.
#[derive(Default)]
struct Wires {
    a20_cut: bool,
    queue: VecDeque<Wire>,
    serial: Vec<u8>,
    power: Vec<(PowerEvent, PowerSource)>,
}

impl IrqBus for Wires {
    fn irq(&mut self, line: IrqLine, active: bool) {
        self.queue.push_back(Wire::Irq(line, active));
    }
    fn intr(&mut self, active: bool) {
        self.queue.push_back(Wire::Intr(active));
    }
}
impl ApicBus for Wires {
    fn send(&mut self, message: ApicMessage) {
        self.queue.push_back(Wire::Message(message));
    }
    fn eoi(&mut self, vector: u8) {
        self.queue.push_back(Wire::Eoi(vector));
    }
    fn receptive(&mut self) {}
}
impl VcpuBus for Wires {
    fn vcpu(&mut self, _: LapicId, _: VcpuEvent) {}
}
impl SerialBus for Wires {
    fn transmit(&mut self, _: HostSerial, byte: u8) {
        self.serial.push(byte);
    }
}
impl PowerBus for Wires {
    fn power(&mut self, event: PowerEvent, source: PowerSource) {
        self.power.push((event, source));
    }
}

/// The wires of the keyboard controller, with the devices at their ends.
struct Ps2Wires<'a> {
    wires: &'a mut Wires,
    keyboard: &'a mut Keyboard,
    mouse: &'a mut Mouse,
}

impl IrqBus for Ps2Wires<'_> {
    fn irq(&mut self, line: IrqLine, active: bool) {
        self.wires.irq(line, active);
    }
    fn intr(&mut self, _: bool) {}
}
impl PowerBus for Ps2Wires<'_> {
    fn power(&mut self, event: PowerEvent, source: PowerSource) {
        self.wires.power(event, source);
    }
}
impl SidebandBus for Ps2Wires<'_> {
    fn set_a20(&mut self, passed: bool) {
        self.wires.a20_cut = !passed;
    }
    fn a20(&self) -> bool {
        !self.wires.a20_cut
    }
    fn speaker_gate(&mut self, _: Tsc, _: bool) {}
    fn speaker_output(&mut self, _: Tsc) -> bool {
        false
    }
}
impl Ps2Bus for Ps2Wires<'_> {
    fn ps2_send(&mut self, port: Ps2Port, byte: u8) -> bool {
        match port {
            Ps2Port::Keyboard => self.keyboard.receive(byte),
            Ps2Port::Aux => self.mouse.receive(byte),
        }
        true
    }
    fn ps2_take(&mut self, port: Ps2Port) -> Option<u8> {
        match port {
            Ps2Port::Keyboard => self.keyboard.take(),
            Ps2Port::Aux => self.mouse.take(),
        }
    }
}

/// The wires of the system control ports, with the timer at their ends.
struct ScpWires<'a> {
    wires: &'a mut Wires,
    pit: &'a mut Pit,
}

impl PowerBus for ScpWires<'_> {
    fn power(&mut self, event: PowerEvent, source: PowerSource) {
        self.wires.power(event, source);
    }
}
impl SidebandBus for ScpWires<'_> {
    fn set_a20(&mut self, passed: bool) {
        self.wires.a20_cut = !passed;
    }
    fn a20(&self) -> bool {
        !self.wires.a20_cut
    }
    fn speaker_gate(&mut self, now: Tsc, level: bool) {
        self.pit.set_speaker_gate(now, level);
    }
    fn speaker_output(&mut self, now: Tsc) -> bool {
        self.pit.speaker_output(now)
    }
}

pub struct Board {
    bus: PortBus<Device>,
    wires: Wires,
    master: Pic,
    slave: Pic,
    pit: Pit,
    scp: SystemControlPorts,
    kbc: I8042,
    pub keyboard: Keyboard,
    pub mouse: Mouse,
    pub uart: Uart16550,
    pm_timer: PmTimer,
    acpi: AcpiPm,
    pub lapic: Lapic,
    ioapic: IoApic,
    pub now: Tsc,
    /// What an access costs the guest, in TSC ticks.
    pub access_cost: u64,
}

impl Board {
    pub fn new() -> Self {
        let clock = clock();
        let mut board = Self {
            bus: PortBus::new(),
            wires: Wires::default(),
            master: Pic::new(0x20, 0x4d0, IrqLine(0), None),
            slave: Pic::new(0xa0, 0x4d1, IrqLine(8), Some(IrqLine(2))),
            pit: Pit::new(0x40, IrqLine(0), clock),
            scp: SystemControlPorts::new(0x92, 0x61, clock),
            kbc: I8042::new(0x60, IrqLine(1), IrqLine(12)),
            keyboard: Keyboard::new(),
            mouse: Mouse::new(),
            uart: Uart16550::new(0x3f8, IrqLine(4), HostSerial(0x4711), clock),
            pm_timer: PmTimer::new(0x8000, Width::Bits24, clock),
            acpi: AcpiPm::new(0x8010, 0x8014, IrqLine(9), clock),
            lapic: Lapic::new(LapicId(0), true),
            ioapic: IoApic::new(0),
            now: Tsc(123_456_789),
            access_cost: 5_000,
        };
        board.lapic.set_virtual_wire();
        board.bus.claim(Device::Master, &board.master).unwrap();
        board.bus.claim(Device::Slave, &board.slave).unwrap();
        board.bus.claim(Device::Pit, &board.pit).unwrap();
        board.bus.claim(Device::Scp, &board.scp).unwrap();
        board.bus.claim(Device::Kbc, &board.kbc).unwrap();
        board.bus.claim(Device::Uart, &board.uart).unwrap();
        board.bus.claim(Device::PmTimer, &board.pm_timer).unwrap();
        board.bus.claim(Device::AcpiPm, &board.acpi).unwrap();
        board
    }

    pub fn inb(&mut self, port: u16) -> u8 {
        self.input(PortAccess::byte(port)) as u8
    }

    pub fn input(&mut self, access: PortAccess) -> u32 {
        self.advance(self.access_cost);
        let now = self.now;
        let Self { bus, wires, master, slave, pit, scp, kbc, keyboard, mouse, uart, pm_timer, acpi, .. } = self;
        let value = bus.read(access, |device, access| match device {
            Device::Master => master.read(access.port, wires).into(),
            Device::Slave => slave.read(access.port, wires).into(),
            Device::Pit => pit.read(now, access.port).into(),
            Device::Scp => scp.read(now, access.port, &mut ScpWires { wires, pit }).into(),
            Device::Kbc => kbc.read(access.port, &mut Ps2Wires { wires, keyboard, mouse }).into(),
            Device::Uart => uart.read(now, access.port, wires).into(),
            Device::PmTimer => pm_timer.read(now, access),
            Device::AcpiPm => acpi.read(now, access, wires),
        });
        self.settle();
        value
    }

    pub fn outb(&mut self, port: u16, value: u8) {
        self.advance(self.access_cost);
        let now = self.now;
        let Self { bus, wires, master, slave, pit, scp, kbc, keyboard, mouse, uart, acpi, .. } = self;
        bus.write(PortAccess::byte(port), value.into(), |device, access, value| {
            let byte = value as u8;
            match device {
                Device::Master => master.write(access.port, byte, wires),
                Device::Slave => slave.write(access.port, byte, wires),
                Device::Pit => pit.write(now, access.port, byte, wires),
                Device::Scp => scp.write(now, access.port, byte, &mut ScpWires { wires, pit }),
                Device::Kbc => kbc.write(access.port, byte, &mut Ps2Wires { wires, keyboard, mouse }),
                Device::Uart => uart.write(now, access.port, byte, wires),
                Device::PmTimer => {}
                Device::AcpiPm => acpi.write(now, access, value, wires),
            }
        });
        self.settle();
    }

    /// A key or movement arrived at a PS/2 device.
    pub fn poll_kbc(&mut self) {
        let Self { wires, kbc, keyboard, mouse, .. } = self;
        kbc.poll(&mut Ps2Wires { wires, keyboard, mouse });
        self.settle();
    }

    pub fn receive(&mut self, byte: u8) {
        self.uart.receive(self.now, byte, &mut self.wires).unwrap();
        self.settle();
    }

    pub fn lapic_write(&mut self, offset: u64, value: u32) {
        let access = MmioAccess { offset, size: MmioSize::Dword };
        self.lapic.mmio_write(self.now, access, value.into(), &mut self.wires);
        self.settle();
    }

    pub fn lapic_read(&mut self, offset: u64) -> u32 {
        let access = MmioAccess { offset, size: MmioSize::Dword };
        self.lapic.mmio_read(self.now, access, &mut self.wires) as u32
    }

    pub fn ioapic_write(&mut self, register: u8, value: u32) {
        for (offset, value) in [(0x00, u32::from(register)), (0x10, value)] {
            let access = MmioAccess { offset, size: MmioSize::Dword };
            self.ioapic.write(access, value.into(), &mut self.wires);
        }
        self.settle();
    }

    pub fn serial(&self) -> &[u8] {
        &self.wires.serial
    }

    pub fn power(&self) -> &[(PowerEvent, PowerSource)] {
        &self.wires.power
    }

    /// Lets `ticks` pass, expiring what is due on the way.
    pub fn advance(&mut self, ticks: u64) {
        let end = self.now.after(ticks);
        while let Some(due) = self.deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.pit.expire(self.now, &mut self.wires);
            self.lapic.expire(self.now, &mut self.wires);
            self.uart.expire(self.now, &mut self.wires);
            self.settle();
        }
        self.now = end;
    }

    fn deadline(&self) -> Option<Tsc> {
        let timers = earliest(self.pit.deadline(), self.lapic.deadline());
        earliest(timers, self.uart.deadline())
    }

    fn settle(&mut self) {
        while let Some(wire) = self.wires.queue.pop_front() {
            match wire {
                Wire::Irq(line, active) => {
                    self.master.set_line(line, active, &mut self.wires);
                    self.slave.set_line(line, active, &mut self.wires);
                    if let Some(gsi) = line.gsi() {
                        self.ioapic.set_line(gsi, active, &mut self.wires);
                    }
                }
                Wire::Intr(active) => self.lapic.set_lint0(active, &mut self.wires),
                Wire::Message(message) => {
                    if self.lapic.accepts(message.destination) {
                        self.lapic.deliver(&message, &mut self.wires);
                    }
                }
                Wire::Eoi(vector) => self.ioapic.end_of_interrupt(vector, &mut self.wires),
            }
        }
    }

    /// Whether the vCPU would take an interrupt.
    pub fn interrupt_pending(&self) -> bool {
        self.lapic.pending().is_some() || self.lapic.extint()
    }

    /// The vCPU takes an interrupt: the vector.
    pub fn take_interrupt(&mut self) -> Option<u8> {
        if let Some(vector) = self.lapic.acknowledge() {
            return Some(vector);
        }
        if !self.lapic.extint() {
            return None;
        }
        self.lapic.acknowledge_extint();
        let vector = match self.master.acknowledge(&mut self.wires) {
            Acknowledge::Vector(vector) => vector,
            Acknowledge::Cascade(_) => match self.slave.acknowledge(&mut self.wires) {
                Acknowledge::Vector(vector) => vector,
                Acknowledge::Cascade(line) => panic!("slave cascades at {line:?}"),
            },
        };
        self.settle();
        Some(vector)
    }
}
