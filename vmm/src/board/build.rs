//! From nodes of the configuration to models.

use std::num::NonZeroU16;

use device_models::acpi_pm::AcpiPm;
use device_models::bus::apic::LapicId;
use device_models::bus::irq::IrqLine;
use device_models::bus::mmio::{Gpa, GpaRange, MmioBus};
use device_models::bus::port::{PortBus, PortClaims};
use device_models::bus::serial::HostSerial;
use device_models::i8042::I8042;
use device_models::ioapic::IoApic;
use device_models::lapic::Lapic;
use device_models::nullio::NullIo;
use device_models::pci::hostbridge::HostBridge;
use device_models::pic::Pic;
use device_models::pit::Pit;
use device_models::pmtimer::{PmTimer, Width};
use device_models::ps2::keyboard::Keyboard;
use device_models::ps2::mouse::Mouse;
use device_models::rtc::{CmosMemory, Rtc, UnixSeconds};
use device_models::scp::SystemControlPorts;
use device_models::time::Clock;
use device_models::uart16550::Uart16550;

use super::mmio::MmioDevice;
use super::ports::PortDevice;
use super::{Board, Models, VcpuNews, Wires};
use crate::acpi::{FixedHardware, IO_APIC_ID};
use crate::machine::{MachineConfig, MachineNode, PciHostBridgeConfig, SerialConfig};
use crate::memory::{MemoryLayout, MemoryRange};

/// Why a machine cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// A machine has one of it.
    #[error("more than one node <{0}>")]
    Twice(&'static str),
    /// Two devices want the same ports or memory.
    #[error("{0}")]
    Overlap(String),
    /// A slave 8259 without a master, or more than one of either.
    #[error("nodes <pic>: there must be a master without irq, followed by at most one slave with irq")]
    Pics,
    /// No virtual CPU, or not one local APIC for each.
    #[error("there must be one node <lapic> for each node <vcpu>, and at least one <vcpu>")]
    Vcpus,
}

/// What the world around a machine looks like when it is switched on.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// The machine's clock.
    pub clock: Clock,
    /// Wall-clock time at tick 0 of the clock.
    pub wall_clock: UnixSeconds,
}

/// First line of the slave 8259.
const SLAVE_LINES: IrqLine = IrqLine(8);

impl Board {
    /// A machine that was just switched on.
    ///
    /// # Errors
    /// See [`BoardError`].
    pub fn new(config: &MachineConfig, fixed: &FixedHardware, environment: Environment) -> Result<Self, BoardError> {
        let mut board = Board {
            ports: PortBus::new(),
            memory: MmioBus::new(),
            models: Models::new(),
            wires: Wires { news: vec![VcpuNews::default(); config.vcpu_count()], ..Wires::default() },
        };
        for node in config.nodes() {
            board.add(node, config.memory(), environment)?;
        }
        board.add_fixed(fixed, environment.clock)?;
        if board.models.lapics.len() != config.vcpu_count() || board.models.lapics.is_empty() {
            return Err(BoardError::Vcpus);
        }
        Ok(board)
    }

    /// What every machine has beside its nodes, as the ACPI tables describe it.
    fn add_fixed(&mut self, fixed: &FixedHardware, clock: Clock) -> Result<(), BoardError> {
        let acpi_pm = AcpiPm::new(fixed.pm1a_event, fixed.pm1a_control, IrqLine(fixed.sci), clock);
        self.claim(PortDevice::AcpiPm, &acpi_pm)?;
        self.models.acpi_pm = Some(acpi_pm);
        let Self { ports, models, .. } = self;
        ports.claim(PortDevice::Reset, &models.reset).map_err(overlap)
    }

    fn add(
        &mut self,
        node: &MachineNode,
        memory: &MemoryLayout,
        Environment { clock, wall_clock }: Environment,
    ) -> Result<(), BoardError> {
        match *node {
            MachineNode::Nullio { io_base, size, value } => self.add_nullio(io_base, size, value),
            MachineNode::Pic { io_base, irq, elcr_base } => self.add_pic(io_base, irq, elcr_base),
            MachineNode::Pit { io_base, irq } => {
                let pit = Pit::new(io_base, IrqLine(irq), clock);
                self.claim(PortDevice::Pit, &pit)?;
                only(&mut self.models.pit, pit, "pit")
            }
            MachineNode::Scp { io_port_a, io_port_b } => {
                let scp = SystemControlPorts::new(io_port_a, io_port_b, clock);
                self.claim(PortDevice::Scp, &scp)?;
                only(&mut self.models.scp, scp, "scp")
            }
            MachineNode::Kbc { io_base, irq_kbd, irq_aux } => {
                let kbc = I8042::new(io_base, IrqLine(irq_kbd), IrqLine(irq_aux));
                self.claim(PortDevice::Kbc, &kbc)?;
                only(&mut self.models.kbc, kbc, "kbc")
            }
            MachineNode::Keyb { .. } => only(&mut self.models.keyboard, Keyboard::new(), "keyb"),
            MachineNode::Mouse { .. } => only(&mut self.models.mouse, Mouse::new(), "mouse"),
            MachineNode::Rtc { io_base, irq } => {
                let size = cmos_memory(memory);
                let rtc = Rtc::new(io_base, IrqLine(irq), wall_clock, size, clock);
                self.claim(PortDevice::Rtc, &rtc)?;
                only(&mut self.models.rtc, rtc, "rtc")
            }
            MachineNode::Serial(config) => self.add_serial(config, clock),
            MachineNode::Ioapic => self.add_ioapic(),
            MachineNode::PciHostBridge(bridge) => self.add_bridge(bridge),
            MachineNode::PmTimer { io_port } => {
                let timer = PmTimer::new(io_port, Width::Bits32, clock);
                self.claim(PortDevice::PmTimer, &timer)?;
                only(&mut self.models.pm_timer, timer, "pmtimer")
            }
            MachineNode::Lapic => {
                self.add_lapic();
                Ok(())
            }
            // RAM, the host's ends of serial lines, what belongs to the virtual CPUs, and what the machine goes without.
            MachineNode::Mem { .. }
            | MachineNode::MemSize { .. }
            | MachineNode::Hostsink { .. }
            | MachineNode::Msi
            | MachineNode::Vcpu
            | MachineNode::Halifax
            | MachineNode::Vga { .. }
            | MachineNode::VbiosPart(_)
            | MachineNode::Vbios => Ok(()),
        }
    }

    fn claim<M: PortClaims>(&mut self, device: PortDevice, model: &M) -> Result<(), BoardError> {
        self.ports.claim(device, model).map_err(overlap)
    }

    fn claim_memory(&mut self, device: MmioDevice, range: Option<GpaRange>) -> Result<(), BoardError> {
        match range {
            Some(range) => self.memory.claim(device, range).map_err(|error| {
                let message = format!("{} and {} overlap", error.claimant, error.owner);
                BoardError::Overlap(message)
            }),
            None => Ok(()),
        }
    }

    fn add_nullio(&mut self, io_base: u16, size: u16, value: u32) -> Result<(), BoardError> {
        let Some(size) = NonZeroU16::new(size) else {
            return Ok(());
        };
        let nullio = NullIo::new(io_base, size, value);
        self.claim(PortDevice::NullIo(number(&self.models.nullio)), &nullio)?;
        self.models.nullio.push(nullio);
        Ok(())
    }

    fn add_pic(&mut self, io_base: u16, irq: Option<u8>, elcr_base: u16) -> Result<(), BoardError> {
        let first_line = match (self.models.pics.len(), irq) {
            (0, None) => IrqLine(0),
            (1, Some(_)) => SLAVE_LINES,
            _ => return Err(BoardError::Pics),
        };
        let pic = Pic::new(io_base, elcr_base, first_line, irq.map(IrqLine));
        self.claim(PortDevice::Pic(number(&self.models.pics)), &pic)?;
        self.models.pics.push(pic);
        Ok(())
    }

    fn add_serial(&mut self, config: SerialConfig, clock: Clock) -> Result<(), BoardError> {
        let host = HostSerial(config.host_serial);
        if self.wires.serial.hosts().any(|taken| taken == host) {
            return Err(BoardError::Overlap(format!("two nodes <serial> have host_serial {:#x}", host.0)));
        }
        let uart = Uart16550::new(config.io_base, IrqLine(config.irq), host, clock);
        self.claim(PortDevice::Serial(number(&self.models.uarts)), &uart)?;
        self.models.uarts.push(uart);
        self.wires.serial.add(host);
        Ok(())
    }

    fn add_ioapic(&mut self) -> Result<(), BoardError> {
        let ioapic = IoApic::new(IO_APIC_ID);
        self.claim_memory(MmioDevice::IoApic, ioapic.range())?;
        only(&mut self.models.ioapic, ioapic, "ioapic")
    }

    fn add_bridge(&mut self, config: PciHostBridgeConfig) -> Result<(), BoardError> {
        let Some(buses) = NonZeroU16::new(config.bus_count) else {
            return Ok(());
        };
        let (io_base, mem_base) = (config.io_base.unwrap_or(0), config.mem_base.unwrap_or(0));
        let bridge = HostBridge::new(config.bus_num, buses, io_base, Gpa(mem_base));
        if config.io_base.is_some() {
            self.claim(PortDevice::PciHostBridge, &bridge)?;
        }
        if config.mem_base.is_some() {
            self.claim_memory(MmioDevice::PciHostBridge, bridge.range())?;
        }
        only(&mut self.models.bridge, bridge, "pcihostbridge")
    }

    fn add_lapic(&mut self) {
        let id = self.models.lapics.len();
        let is_bootstrap = id == 0;
        // At most MAX_VCPUS of them are accepted, and the check of the number follows.
        let mut lapic = Lapic::new(LapicId(id as u32), is_bootstrap);
        if is_bootstrap {
            lapic.set_virtual_wire();
        }
        self.models.lapics.push(lapic);
    }
}

/// Number of the next model of a kind. There are fewer than 255: the port bus has no room for more.
fn number<T>(models: &[T]) -> u8 {
    u8::try_from(models.len()).unwrap_or(u8::MAX)
}

fn only<T>(place: &mut Option<T>, model: T, name: &'static str) -> Result<(), BoardError> {
    match place.replace(model) {
        Some(_) => Err(BoardError::Twice(name)),
        None => Ok(()),
    }
}

fn overlap(error: impl std::fmt::Display) -> BoardError {
    BoardError::Overlap(error.to_string())
}

/// Sizes of RAM as the CMOS memory states them.
fn cmos_memory(memory: &MemoryLayout) -> CmosMemory {
    let (low, high) = memory.parts();
    CmosMemory {
        below_4g: low.iter().map(|range| range.end).max().unwrap_or(0),
        above_4g: high.iter().map(MemoryRange::size).sum(),
    }
}
