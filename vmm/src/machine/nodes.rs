//! The kinds of nodes in `<machine>` and their attributes.

use device_models::bus::irq::{CASCADE_LINE, TIMER_LINE};
use device_models::i8042;
use device_models::ioapic::PINS;
use device_models::pci::hostbridge::{CONFIG_PORTS, ECAM_BUS_BYTES};
use device_models::pic::PIC_PORTS;
use device_models::pit::PIT_PORTS;
use device_models::pmtimer::PM_TIMER_BYTES;
use device_models::rtc::RTC_PORTS;
use device_models::uart16550::UART_PORTS;

use crate::config::{Attributes, ConfigError};

/// `<serial>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialConfig {
    /// First of 8 ports.
    pub io_base: u16,
    /// Interrupt line.
    pub irq: u8,
    /// Id on the serial bus that a sink or terminal attaches to.
    pub host_serial: u32,
}

/// `<pcihostbridge>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciHostBridgeConfig {
    /// First bus below the bridge.
    pub bus_num: u8,
    /// Number of buses, 1..=256.
    pub bus_count: u16,
    /// First of 8 configuration ports, for the bridge that has them.
    pub io_base: Option<u16>,
    /// Memory-mapped configuration space (ECAM) of the first bus; that of the others follows.
    pub mem_base: Option<u64>,
}

/// Parts of the virtual BIOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VbiosPart {
    /// `<vbios_disk>`: INT 13h.
    Disk,
    /// `<vbios_keyboard>`: INT 16h.
    Keyboard,
    /// `<vbios_mem>`: INT 12h and 15h.
    Memory,
    /// `<vbios_time>`: INT 1Ah.
    Time,
    /// `<vbios_reset>`: initial state and tables.
    Reset,
    /// `<vbios_multiboot>`: loader.
    Multiboot,
}

impl VbiosPart {
    const ALL: [Self; 6] = [Self::Disk, Self::Keyboard, Self::Memory, Self::Time, Self::Reset, Self::Multiboot];

    fn name(self) -> &'static str {
        match self {
            VbiosPart::Disk => "vbios_disk",
            VbiosPart::Keyboard => "vbios_keyboard",
            VbiosPart::Memory => "vbios_mem",
            VbiosPart::Time => "vbios_time",
            VbiosPart::Reset => "vbios_reset",
            VbiosPart::Multiboot => "vbios_multiboot",
        }
    }
}

/// One node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineNode {
    /// `<mem start= end=>`: RAM, `end` exclusive.
    Mem {
        /// First byte.
        start: u64,
        /// First byte behind.
        end: u64,
    },
    /// `<mem size=>`: RAM by total size instead of ranges.
    MemSize {
        /// Bytes.
        size: u64,
    },
    /// `<nullio>`: ports that swallow writes.
    Nullio {
        /// First port.
        io_base: u16,
        /// Number of ports.
        size: u16,
        /// What reads return.
        value: u32,
    },
    /// `<pic>`: one 8259.
    Pic {
        /// First of 2 ports.
        io_base: u16,
        /// Input of the master that a slave is wired to, as in every PC; none for the master.
        irq: Option<u8>,
        /// Edge/level control port.
        elcr_base: u16,
    },
    /// `<pit>`: 8254.
    Pit {
        /// First of 4 ports.
        io_base: u16,
        /// Interrupt line of counter 0: that of every PC.
        irq: u8,
    },
    /// `<scp>`: system control ports.
    Scp {
        /// Port A: A20 and fast reset.
        io_port_a: u16,
        /// Port B: counter 2 gate and speaker.
        io_port_b: u16,
    },
    /// `<kbc>`: 8042, ports `io_base` and `io_base + 4`. Also spelt `<kbcb>`.
    Kbc {
        /// Data port.
        io_base: u16,
        /// Keyboard interrupt line.
        irq_kbd: u8,
        /// Mouse interrupt line.
        irq_aux: u8,
    },
    /// `<keyb>`: PS/2 keyboard.
    Keyb {
        /// Port of the 8042, 0 or 1.
        ps2_port: u8,
        /// Id on the input bus.
        host_keyboard: u32,
    },
    /// `<mouse>`: PS/2 mouse.
    Mouse {
        /// Port of the 8042, 0 or 1.
        ps2_port: u8,
        /// Id on the input bus.
        host_mouse: u32,
    },
    /// `<rtc>`: MC146818.
    Rtc {
        /// Index port; data port follows.
        io_base: u16,
        /// Interrupt line.
        irq: u8,
    },
    /// `<serial>`: 16550.
    Serial(SerialConfig),
    /// `<hostsink>`: serial output to the log by lines.
    Hostsink {
        /// Id on the serial bus that it listens to.
        host_dev: u32,
        /// Longest line in bytes.
        buffer: u32,
    },
    /// `<vga>`.
    Vga {
        /// First of 32 ports.
        io_base: u16,
    },
    /// `<vbios_*>`.
    VbiosPart(VbiosPart),
    /// `<msi>`: message-signalled interrupts.
    Msi,
    /// `<ioapic>`.
    Ioapic,
    /// `<pcihostbridge>`.
    PciHostBridge(PciHostBridgeConfig),
    /// `<pmtimer>`: ACPI PM timer.
    PmTimer {
        /// Its 32-bit port.
        io_port: u16,
    },
    /// `<vcpu>`: a virtual CPU; the next three nodes belong to the latest one.
    Vcpu,
    /// `<halifax>`: instruction emulator.
    Halifax,
    /// `<vbios>`: bridge between CPU and BIOS.
    Vbios,
    /// `<lapic>`: local APIC.
    Lapic,
}

/// Highest input of the interrupt controllers that a device may be wired to.
const MAX_IRQ: u64 = PINS as u64 - 1;
/// Bus ids are arbitrary 32-bit numbers.
const MAX_ID: u64 = u32::MAX as u64;
/// Ports of the VGA register file, 3C0h..3DFh.
pub(super) const VGA_PORTS: u16 = 32;
/// Most bytes in a line of the log.
const MAX_LINE: u64 = 4096;

impl MachineNode {
    /// Parses the node named `name`; `None` if there is no such kind.
    pub(super) fn parse(name: &str, attributes: &mut Attributes) -> Result<Option<Self>, ConfigError> {
        let node = match name {
            "mem" => mem(attributes)?,
            "nullio" => nullio(attributes)?,
            "pic" => pic(attributes)?,
            "pit" => pit(attributes)?,
            "scp" => MachineNode::Scp {
                io_port_a: attributes.port("io_port_a", 1)?,
                io_port_b: attributes.port("io_port_b", 1)?,
            },
            // The published example of a machine description spells the keyboard controller so.
            "kbc" | "kbcb" => MachineNode::Kbc {
                io_base: attributes.port("io_base", i8042::COMMAND_OFFSET + 1)?,
                irq_kbd: irq(attributes, "irq_kbd")?,
                irq_aux: irq(attributes, "irq_aux")?,
            },
            "keyb" => MachineNode::Keyb {
                ps2_port: attributes.number("ps2_port", 0, 1)? as u8,
                host_keyboard: id(attributes, "host_keyboard")?,
            },
            "mouse" => MachineNode::Mouse {
                ps2_port: attributes.number("ps2_port", 0, 1)? as u8,
                host_mouse: id(attributes, "host_mouse")?,
            },
            "rtc" => MachineNode::Rtc { io_base: attributes.port("io_base", RTC_PORTS)?, irq: irq(attributes, "irq")? },
            "serial" => serial(attributes)?,
            "hostsink" => MachineNode::Hostsink {
                host_dev: id(attributes, "host_dev")?,
                buffer: attributes.number("buffer", 1, MAX_LINE)? as u32,
            },
            "vga" => MachineNode::Vga { io_base: attributes.port("io_base", VGA_PORTS)? },
            "pcihostbridge" => pci_host_bridge(attributes)?,
            "pmtimer" => MachineNode::PmTimer { io_port: attributes.port("io_port", PM_TIMER_BYTES)? },
            _ => return Ok(without_attributes(name)),
        };
        Ok(Some(node))
    }
}

impl MachineNode {
    /// Name of the node if there is no model of what it stands for: machines are built without it.
    pub fn absent(&self) -> Option<&'static str> {
        match self {
            MachineNode::Vga { .. } => Some("vga"),
            MachineNode::VbiosPart(part) => Some(part.name()),
            MachineNode::Vbios => Some("vbios"),
            _ => None,
        }
    }
}

fn without_attributes(name: &str) -> Option<MachineNode> {
    Some(match name {
        "msi" => MachineNode::Msi,
        "ioapic" => MachineNode::Ioapic,
        "vcpu" => MachineNode::Vcpu,
        "halifax" => MachineNode::Halifax,
        "vbios" => MachineNode::Vbios,
        "lapic" => MachineNode::Lapic,
        _ => return VbiosPart::ALL.into_iter().find(|part| part.name() == name).map(MachineNode::VbiosPart),
    })
}

fn irq(attributes: &mut Attributes, name: &'static str) -> Result<u8, ConfigError> {
    Ok(attributes.number(name, 0, MAX_IRQ)? as u8)
}

fn id(attributes: &mut Attributes, name: &'static str) -> Result<u32, ConfigError> {
    Ok(attributes.number(name, 0, MAX_ID)? as u32)
}

fn mem(attributes: &mut Attributes) -> Result<MachineNode, ConfigError> {
    match attributes.optional_number("size", 1, u64::MAX)? {
        Some(size) => Ok(MachineNode::MemSize { size }),
        None => Ok(MachineNode::Mem {
            start: attributes.number("start", 0, u64::MAX)?,
            end: attributes.number("end", 0, u64::MAX)?,
        }),
    }
}

fn nullio(attributes: &mut Attributes) -> Result<MachineNode, ConfigError> {
    /// Open bus.
    const DEFAULT_VALUE: u64 = u32::MAX as u64;
    let size = attributes.optional_number("size", 1, u16::MAX.into())?.unwrap_or(1) as u16;
    Ok(MachineNode::Nullio {
        io_base: attributes.port("io_base", size)?,
        size,
        value: attributes.optional_number("value", 0, DEFAULT_VALUE)?.unwrap_or(DEFAULT_VALUE) as u32,
    })
}

/// The I/O APIC has the timer where the ACPI tables say, on the input to which no other line goes.
fn pit(attributes: &mut Attributes) -> Result<MachineNode, ConfigError> {
    let line = u64::from(TIMER_LINE.0);
    Ok(MachineNode::Pit {
        io_base: attributes.port("io_base", PIT_PORTS)?,
        irq: attributes.number("irq", line, line)? as u8,
    })
}

fn pic(attributes: &mut Attributes) -> Result<MachineNode, ConfigError> {
    let cascade = u64::from(CASCADE_LINE.0);
    Ok(MachineNode::Pic {
        io_base: attributes.port("io_base", PIC_PORTS)?,
        irq: attributes.optional_number("irq", cascade, cascade)?.map(|irq| irq as u8),
        elcr_base: attributes.port("elcr_base", 1)?,
    })
}

fn serial(attributes: &mut Attributes) -> Result<MachineNode, ConfigError> {
    Ok(MachineNode::Serial(SerialConfig {
        io_base: attributes.port("io_base", UART_PORTS)?,
        irq: irq(attributes, "irq")?,
        host_serial: id(attributes, "host_serial")?,
    }))
}

fn pci_host_bridge(attributes: &mut Attributes) -> Result<MachineNode, ConfigError> {
    const BUSES: u64 = 256;
    /// ECAM lies below 4 GiB, where every operating system maps it.
    const ECAM_LIMIT: u64 = 1 << 32;
    let bus_num = attributes.number("bus_num", 0, BUSES - 1)?;
    let bus_count = attributes.number("bus_count", 1, BUSES - bus_num)?;
    let io_base = attributes.optional_number("io_base", 0, u64::from(u16::MAX - (CONFIG_PORTS - 1)))?;
    Ok(MachineNode::PciHostBridge(PciHostBridgeConfig {
        bus_num: bus_num as u8,
        bus_count: bus_count as u16,
        io_base: io_base.map(|port| port as u16),
        // ACPI has the address that bus 0 would have.
        mem_base: attributes.optional_number(
            "mem_base",
            bus_num * ECAM_BUS_BYTES,
            ECAM_LIMIT - bus_count * ECAM_BUS_BYTES,
        )?,
    }))
}
