//! Detection of nodes that claim the same ports or memory.

use device_models::bus::irq::CASCADE_LINE;
use device_models::i8042;
use device_models::pci::hostbridge::{CONFIG_PORTS, ECAM_BUS_BYTES};
use device_models::pic::PIC_PORTS;
use device_models::pit::PIT_PORTS;
use device_models::pmtimer::PM_TIMER_BYTES;
use device_models::rtc::RTC_PORTS;
use device_models::uart16550::UART_PORTS;

use super::nodes::{MachineNode, VGA_PORTS};
use crate::acpi::SCI;
use crate::config::ConfigError;
use crate::memory::MemoryRange;

struct Claim<T> {
    node: String,
    range: T,
}

/// What the nodes so far have claimed.
pub(super) struct Resources {
    /// First port and number of ports.
    ports: Vec<Claim<(u16, u16)>>,
    memory: Vec<Claim<MemoryRange>>,
    interrupts: Vec<Claim<u8>>,
}

impl Resources {
    /// What no node can have: the lines of the cascade and of the ACPI fixed hardware.
    pub(super) fn new() -> Self {
        let taken = |line, whose: &str| Claim { node: whose.to_owned(), range: line };
        let interrupts = vec![taken(CASCADE_LINE.0, "the cascade"), taken(SCI, "the ACPI fixed hardware")];
        Resources { ports: Vec::new(), memory: Vec::new(), interrupts }
    }

    /// Adds the claims of `node`.
    pub(super) fn claim(&mut self, name: &str, node: &MachineNode, line: u32) -> Result<(), ConfigError> {
        for range in ports_of(node).into_iter().flatten() {
            self.claim_ports(name, range, line)?;
        }
        for irq in interrupts_of(node).into_iter().flatten() {
            self.claim_interrupt(name, irq, line)?;
        }
        match memory_of(node) {
            Some(range) => self.claim_memory(name, range, line),
            None => Ok(()),
        }
    }

    fn claim_ports(&mut self, name: &str, new: (u16, u16), line: u32) -> Result<(), ConfigError> {
        let last = |(first, count): (u16, u16)| u32::from(first) + u32::from(count) - 1;
        let overlaps = |old: (u16, u16)| u32::from(old.0) <= last(new) && u32::from(new.0) <= last(old);
        if let Some(other) = self.ports.iter().find(|claim| overlaps(claim.range)) {
            return Err(ConfigError::PortOverlap {
                node: name.to_owned(),
                ports: format!("{:#x}..={:#x}", new.0, last(new)),
                other: other.node.clone(),
                line,
            });
        }
        self.ports.push(Claim { node: name.to_owned(), range: new });
        Ok(())
    }

    fn claim_interrupt(&mut self, name: &str, irq: u8, line: u32) -> Result<(), ConfigError> {
        if let Some(other) = self.interrupts.iter().find(|claim| claim.range == irq) {
            return Err(ConfigError::LineTaken { node: name.to_owned(), irq, other: other.node.clone(), line });
        }
        self.interrupts.push(Claim { node: format!("<{name}>"), range: irq });
        Ok(())
    }

    fn claim_memory(&mut self, name: &str, range: MemoryRange, line: u32) -> Result<(), ConfigError> {
        if let Some(other) = self.memory.iter().find(|claim| claim.range.overlaps(&range)) {
            return Err(ConfigError::MemoryOverlap {
                node: name.to_owned(),
                range: range.to_string(),
                other: other.node.clone(),
                line,
            });
        }
        self.memory.push(Claim { node: name.to_owned(), range });
        Ok(())
    }
}

/// Port ranges of a node as first port and count; none has more than two.
fn ports_of(node: &MachineNode) -> [Option<(u16, u16)>; 2] {
    let one = |first, count| [Some((first, count)), None];
    let two = |a, b| [Some(a), Some(b)];
    match *node {
        MachineNode::Nullio { io_base, size, .. } => one(io_base, size),
        MachineNode::Pic { io_base, elcr_base, .. } => two((io_base, PIC_PORTS), (elcr_base, 1)),
        MachineNode::Pit { io_base, .. } => one(io_base, PIT_PORTS),
        MachineNode::Scp { io_port_a, io_port_b } => two((io_port_a, 1), (io_port_b, 1)),
        MachineNode::Kbc { io_base, .. } => two((io_base, 1), (io_base + i8042::COMMAND_OFFSET, 1)),
        MachineNode::Rtc { io_base, .. } => one(io_base, RTC_PORTS),
        MachineNode::Serial(serial) => one(serial.io_base, UART_PORTS),
        MachineNode::Vga { io_base } => one(io_base, VGA_PORTS),
        MachineNode::PciHostBridge(bridge) => [bridge.io_base.map(|port| (port, CONFIG_PORTS)), None],
        MachineNode::PmTimer { io_port } => one(io_port, PM_TIMER_BYTES),
        _ => [None, None],
    }
}

/// Interrupt lines of a node; none has more than two.
fn interrupts_of(node: &MachineNode) -> [Option<u8>; 2] {
    match *node {
        MachineNode::Pit { irq, .. } | MachineNode::Rtc { irq, .. } => [Some(irq), None],
        MachineNode::Kbc { irq_kbd, irq_aux, .. } => [Some(irq_kbd), Some(irq_aux)],
        MachineNode::Serial(serial) => [Some(serial.irq), None],
        _ => [None, None],
    }
}

fn memory_of(node: &MachineNode) -> Option<MemoryRange> {
    match *node {
        MachineNode::Mem { start, end } => Some(MemoryRange { start, end }),
        // Sizes are laid out by themselves, from 0; one such node excludes all others.
        MachineNode::MemSize { .. } => Some(MemoryRange { start: 0, end: crate::memory::DEVICE_HOLE }),
        MachineNode::PciHostBridge(bridge) => bridge.mem_base.map(|start| MemoryRange {
            start,
            end: start.saturating_add(u64::from(bridge.bus_count) * ECAM_BUS_BYTES),
        }),
        _ => None,
    }
}
