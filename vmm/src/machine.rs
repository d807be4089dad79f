//! The `<machine>` node: a list of nodes, each of which is one device model or RAM range, with
//! attributes as its arguments.

mod nodes;
mod resources;

use roxmltree::Node;

use crate::config::{Attributes, ConfigError, child_nodes, line_of, no_children, unknown_node};
use crate::memory::{MemoryLayout, MemoryRange};
pub use nodes::{MachineNode, PciHostBridgeConfig, SerialConfig, VbiosPart};
use resources::Resources;

/// A checked `<machine>` node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    nodes: Vec<MachineNode>,
    memory: MemoryLayout,
}

impl MachineConfig {
    /// Parses and checks a `<machine>` node.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(machine: Node) -> Result<Self, ConfigError> {
        Attributes::of(machine).finish()?;
        let mut nodes = Vec::new();
        let mut resources = Resources::new();
        for child in child_nodes(machine)? {
            let mut attributes = Attributes::of(child);
            let name = child.tag_name().name();
            let node = MachineNode::parse(name, &mut attributes)?.ok_or_else(|| unknown_node(child, machine))?;
            attributes.finish()?;
            no_children(child)?;
            resources.claim(name, &node, line_of(child))?;
            nodes.push(node);
        }
        check_counts(&nodes, line_of(machine))?;
        let memory = layout(&nodes)?;
        Ok(MachineConfig { nodes, memory })
    }

    /// The nodes in their order.
    pub fn nodes(&self) -> &[MachineNode] {
        &self.nodes
    }

    /// Guest RAM.
    pub fn memory(&self) -> &MemoryLayout {
        &self.memory
    }

    /// Number of virtual CPUs.
    pub fn vcpu_count(&self) -> usize {
        self.nodes.iter().filter(|node| matches!(node, MachineNode::Vcpu)).count()
    }
}

/// Most virtual CPUs: the ids of the xAPIC without the broadcast id.
pub const MAX_VCPUS: usize = 255;
/// Most serial ports: one hexadecimal digit in their ACPI names.
pub const MAX_SERIAL: usize = 15;

fn check_counts(nodes: &[MachineNode], line: u32) -> Result<(), ConfigError> {
    let count = |matches: fn(&MachineNode) -> bool| nodes.iter().filter(|node| matches(node)).count();
    if count(|node| matches!(node, MachineNode::Vcpu)) > MAX_VCPUS {
        return Err(ConfigError::TooManyNodes { node: "vcpu", limit: MAX_VCPUS, line });
    }
    if count(|node| matches!(node, MachineNode::Serial(_))) > MAX_SERIAL {
        return Err(ConfigError::TooManyNodes { node: "serial", limit: MAX_SERIAL, line });
    }
    Ok(())
}

fn layout(nodes: &[MachineNode]) -> Result<MemoryLayout, ConfigError> {
    let size = nodes.iter().find_map(|node| match node {
        MachineNode::MemSize { size } => Some(*size),
        _ => None,
    });
    if let Some(size) = size {
        return Ok(MemoryLayout::from_size(size)?);
    }
    let ranges = nodes.iter().filter_map(|node| match *node {
        MachineNode::Mem { start, end } => Some(MemoryRange { start, end }),
        _ => None,
    });
    Ok(MemoryLayout::from_ranges(ranges)?)
}
