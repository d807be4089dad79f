//! What the tables say about a machine.

use device_models::acpi_pm::SLEEP_TYPE_S5;
use device_models::ioapic::IOAPIC_GPA;
use device_models::lapic::LAPIC_GPA;
use device_models::pci::hostbridge::ECAM_BUS_BYTES;
use device_models::reset::{RESET_PORT, RESET_VALUE};

use crate::machine::{MachineConfig, MachineNode, PciHostBridgeConfig, SerialConfig};
use crate::memory::{DEVICE_HOLE, MemoryRange};

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicDescription {
    /// APIC id.
    pub id: u8,
    /// Guest-physical address of its registers.
    pub address: u32,
    /// Global system interrupt of its first input.
    pub gsi_base: u32,
}

/// APIC id of the I/O APIC.
pub const IO_APIC_ID: u8 = 0;

/// Line of the SCI, that of every PC.
pub const SCI: u8 = 9;

/// ACPI fixed hardware (ACPI 4.8). There is no SMI command port: the machine is always in ACPI
/// mode, so that SCI_EN must read as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHardware {
    /// PM1a event block, 4 ports.
    pub pm1a_event: u16,
    /// PM1a control block, 2 ports.
    pub pm1a_control: u16,
    /// PM timer, 4 ports, 32 bits wide.
    pub pm_timer: Option<u16>,
    /// Global system interrupt of the SCI: level-triggered, active high.
    pub sci: u8,
    /// Port that resets the machine.
    pub reset_port: u16,
    /// Value that does.
    pub reset_value: u8,
    /// SLP_TYP value that means "soft off".
    pub sleep_type_s5: u8,
}

/// PCI host bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciDescription {
    /// First bus.
    pub first_bus: u8,
    /// Last bus.
    pub last_bus: u8,
    /// Where memory-mapped configuration space would begin with bus 0, which is what MCFG has (PCI Firmware 3.2, 4.1.2).
    pub ecam: Option<u64>,
    /// Window for 32-bit memory BARs, end exclusive and below 4 GiB.
    pub memory_window: MemoryRange,
    /// Window for 64-bit memory BARs.
    pub high_memory_window: Option<MemoryRange>,
    /// Global system interrupts of INTA..INTD of device 0, rotated for the others.
    pub interrupts: [u32; 4],
}

impl PciDescription {
    /// The configuration space of the buses that there are.
    pub fn ecam_range(&self) -> Option<MemoryRange> {
        let of_bus = |bus: u64| self.ecam?.checked_add(bus * ECAM_BUS_BYTES);
        Some(MemoryRange { start: of_bus(self.first_bus.into())?, end: of_bus(u64::from(self.last_bus) + 1)? })
    }
}

/// 16550.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialDescription {
    /// First of 8 ports.
    pub io_base: u16,
    /// ISA interrupt.
    pub irq: u8,
}

/// 8042 at ports 60h and 64h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ps2Description {
    /// Data port.
    pub io_base: u16,
    /// ISA interrupt of the keyboard.
    pub keyboard_irq: u8,
    /// ISA interrupt of the mouse.
    pub mouse_irq: u8,
}

/// MC146818.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcDescription {
    /// Index port.
    pub io_base: u16,
    /// ISA interrupt.
    pub irq: u8,
}

/// A machine, as far as ACPI describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineDescription {
    /// Local APIC id of each CPU, the boot CPU first.
    pub apic_ids: Vec<u32>,
    /// Guest-physical address of the local APICs.
    pub local_apic_address: u32,
    /// I/O APIC, if there is one.
    pub io_apic: Option<IoApicDescription>,
    /// A pair of 8259 as on every PC.
    pub has_8259: bool,
    /// Fixed hardware.
    pub fixed: FixedHardware,
    /// PCI host bridge, if there is one.
    pub pci: Option<PciDescription>,
    /// Serial ports.
    pub serial: Vec<SerialDescription>,
    /// Keyboard controller, if there is one.
    pub ps2: Option<Ps2Description>,
    /// Real-time clock, if there is one.
    pub rtc: Option<RtcDescription>,
}

impl MachineDescription {
    /// A machine with one CPU and no devices but the fixed hardware.
    pub fn bare() -> Self {
        MachineDescription {
            apic_ids: vec![0],
            local_apic_address: LAPIC_GPA.0 as u32,
            io_apic: None,
            has_8259: false,
            fixed: FixedHardware {
                pm1a_event: 0x600,
                pm1a_control: 0x604,
                pm_timer: None,
                sci: SCI,
                reset_port: RESET_PORT,
                reset_value: RESET_VALUE,
                sleep_type_s5: SLEEP_TYPE_S5 as u8,
            },
            pci: None,
            serial: Vec::new(),
            ps2: None,
            rtc: None,
        }
    }

    /// The machine that a configuration describes, with the fixed hardware of [`Self::bare`].
    pub fn of(config: &MachineConfig) -> Self {
        let mut machine = Self::bare();
        machine.apic_ids = (0..config.vcpu_count().max(1) as u32).collect();
        for node in config.nodes() {
            match *node {
                MachineNode::Ioapic => {
                    machine.io_apic =
                        Some(IoApicDescription { id: IO_APIC_ID, address: IOAPIC_GPA.0 as u32, gsi_base: 0 });
                }
                MachineNode::Pic { .. } => machine.has_8259 = true,
                MachineNode::PmTimer { io_port } => machine.fixed.pm_timer = Some(io_port),
                MachineNode::PciHostBridge(bridge) => machine.pci = Some(pci(&bridge)),
                MachineNode::Serial(SerialConfig { io_base, irq, .. }) => {
                    machine.serial.push(SerialDescription { io_base, irq });
                }
                MachineNode::Kbc { io_base, irq_kbd, irq_aux } => {
                    machine.ps2 = Some(Ps2Description { io_base, keyboard_irq: irq_kbd, mouse_irq: irq_aux });
                }
                MachineNode::Rtc { io_base, irq } => {
                    machine.rtc = Some(RtcDescription { io_base, irq });
                }
                _ => {}
            }
        }
        machine
    }
}

fn pci(bridge: &PciHostBridgeConfig) -> PciDescription {
    /// End of the window where no ECAM bounds it: 512 MiB.
    const WINDOW_END: u64 = 0xe000_0000;
    let below_ecam = bridge.mem_base.filter(|ecam| *ecam > DEVICE_HOLE).unwrap_or(WINDOW_END);
    PciDescription {
        first_bus: bridge.bus_num,
        last_bus: (u16::from(bridge.bus_num) + bridge.bus_count - 1).min(0xff) as u8,
        // The configuration has the registers of the first bus, and leaves room for those of the buses before.
        ecam: bridge.mem_base.and_then(|first| first.checked_sub(u64::from(bridge.bus_num) * ECAM_BUS_BYTES)),
        memory_window: MemoryRange { start: DEVICE_HOLE, end: below_ecam.min(WINDOW_END) },
        high_memory_window: None,
        interrupts: [16, 17, 18, 19],
    }
}
