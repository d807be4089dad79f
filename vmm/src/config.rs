//! Configuration of one virtual machine: the component's `<config>` node.
//!
//! ```xml
//! <config exit_stats="no" on_triple_fault="stop">
//!   <machine> ... </machine>                        <!-- see `machine` -->
//!   <linux kernel="bzImage" initrd="initrd" append="console=ttyS0"/>
//!   <multiboot> <rom name="kernel"/> ... </multiboot>
//! </config>
//! ```
//!
//! `<linux>` starts Linux by its boot protocol, `<multiboot>` a Multiboot kernel (first ROM) with modules
//! (the rest); at most one of them. `exit_stats="yes"` counts how often and how long the machine exits: logged in the end, and
//! shown at any key on the Terminal session "monitor" while it runs. `on_triple_fault` is `stop` (the default) or `reset`.
//! Every node and attribute must be known: a misspelt one would be a device silently missing.

mod attributes;

use roxmltree::{Document, Node};

use crate::machine::MachineConfig;
pub use attributes::{AttributeError, Attributes};

/// A configuration that cannot be used: the cause in one line, naming node and attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not well-formed.
    #[error("configuration is not well-formed XML: {0}")]
    Xml(String),
    /// The top node is not `<config>`.
    #[error("line {line}: top-level node is <{name}> instead of <config>")]
    NotConfig {
        /// Name found.
        name: String,
        /// Line of the node.
        line: u32,
    },
    /// A node that does not exist.
    #[error("line {line}: unknown node <{node}> in <{parent}>")]
    UnknownNode {
        /// Its name.
        node: String,
        /// The node around it.
        parent: String,
        /// Line of the node.
        line: u32,
    },
    /// A node that must be there.
    #[error("node <{node}> is missing in <{parent}>")]
    MissingNode {
        /// Its name.
        node: &'static str,
        /// Where it belongs.
        parent: &'static str,
    },
    /// A node that may occur only once, or excludes another one.
    #[error("line {line}: node <{node}> conflicts with an earlier <{earlier}>")]
    ConflictingNode {
        /// The later node.
        node: String,
        /// The earlier one.
        earlier: &'static str,
        /// Line of the later node.
        line: u32,
    },
    /// More nodes of a kind than a machine can have.
    #[error("line {line}: more than {limit} nodes <{node}>")]
    TooManyNodes {
        /// Their name.
        node: &'static str,
        /// How many there may be.
        limit: usize,
        /// Line of the node around them.
        line: u32,
    },
    /// Text where only nodes may be.
    #[error("line {line}: unexpected text in <{node}>")]
    UnexpectedText {
        /// The node with the text.
        node: String,
        /// Its line.
        line: u32,
    },
    /// Something about one attribute.
    #[error("line {line}: node <{node}>, attribute \"{attribute}\": {problem}")]
    Attribute {
        /// The node.
        node: String,
        /// The attribute.
        attribute: String,
        /// What is wrong.
        problem: AttributeError,
        /// Line of the node.
        line: u32,
    },
    /// Two nodes claim the same I/O ports.
    #[error("line {line}: node <{node}>: I/O ports {ports} overlap those of <{other}>")]
    PortOverlap {
        /// The later node.
        node: String,
        /// Its ports, as `first..=last`.
        ports: String,
        /// The earlier node.
        other: String,
        /// Line of the later node.
        line: u32,
    },
    /// Two nodes drive the same interrupt line. Lines are not shared: those of ISA are edge-triggered, so that the edges of one
    /// device hide in the pulse of another.
    #[error("line {line}: node <{node}>: interrupt line {irq} is that of {other}")]
    LineTaken {
        /// The later node.
        node: String,
        /// The line.
        irq: u8,
        /// Whose line it is.
        other: String,
        /// Line of the later node.
        line: u32,
    },
    /// A node claims memory of another one.
    #[error("line {line}: node <{node}>: memory {range} overlaps that of <{other}>")]
    MemoryOverlap {
        /// The later node.
        node: String,
        /// Its range.
        range: String,
        /// The earlier node.
        other: String,
        /// Line of the later node.
        line: u32,
    },
    /// The `<mem>` nodes do not make a usable layout.
    #[error("node <mem>: {0}")]
    Memory(#[from] crate::memory::LayoutError),
}

/// How the machine starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootConfig {
    /// `<linux>`: Linux by its boot protocol.
    Linux(LinuxBootConfig),
    /// `<multiboot>`: names of ROMs, the kernel first.
    Multiboot(Vec<String>),
}

/// `<linux>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinuxBootConfig {
    /// Name of the ROM with the bzImage.
    pub kernel: String,
    /// Name of the ROM with the initial RAM disk.
    pub initrd: Option<String>,
    /// Kernel command line.
    pub cmdline: String,
}

/// What happens when the guest's CPU shuts down because it cannot deliver exceptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TripleFault {
    /// The machine ends, and the component with an error.
    #[default]
    Stop,
    /// The machine is reset, as a PC does.
    Reset,
}

/// All of `<config>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmmConfig {
    /// Count exits and their cost, show them on request, and log them in the end.
    pub exit_stats: bool,
    /// What a triple fault leads to.
    pub on_triple_fault: TripleFault,
    /// `<machine>`.
    pub machine: MachineConfig,
    /// `<linux>` or `<multiboot>`.
    pub boot: Option<BootConfig>,
}

impl VmmConfig {
    /// Parses and checks the text of a `<config>` node.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(xml: &str) -> Result<Self, ConfigError> {
        let xml = mend_empty_tag_openers(xml);
        let document = Document::parse(&xml).map_err(|error| ConfigError::Xml(error.to_string()))?;
        let root = document.root_element();
        if root.tag_name().name() != "config" {
            let name = root.tag_name().name().to_owned();
            return Err(ConfigError::NotConfig { name, line: line_of(root) });
        }
        let mut attributes = Attributes::of(root);
        let exit_stats = attributes.optional_truth("exit_stats")?.unwrap_or_default();
        let reactions = [("stop", TripleFault::Stop), ("reset", TripleFault::Reset)];
        let on_triple_fault = attributes.optional_choice("on_triple_fault", &reactions)?.unwrap_or_default();
        attributes.finish()?;
        let (mut machine, mut boot) = (None, None);
        for node in child_nodes(root)? {
            match node.tag_name().name() {
                "machine" if machine.is_some() => return Err(conflict(node, "machine")),
                "machine" => machine = Some(MachineConfig::parse(node)?),
                "linux" | "multiboot" if boot.is_some() => {
                    let linux = matches!(boot, Some(BootConfig::Linux(_)));
                    return Err(conflict(node, if linux { "linux" } else { "multiboot" }));
                }
                "linux" => boot = Some(BootConfig::Linux(parse_linux(node)?)),
                "multiboot" => boot = Some(BootConfig::Multiboot(parse_multiboot(node)?)),
                _ => return Err(unknown_node(node, root)),
            }
        }
        let machine = machine.ok_or(ConfigError::MissingNode { node: "machine", parent: "config" })?;
        Ok(VmmConfig { exit_stats, on_triple_fault, machine, boot })
    }
}

/// The published example of a machine description opens one tag as `<>nullio ...`. No XML has `<>`
/// followed by a name, so that reading it as `<` cannot change a well-formed document's nodes.
fn mend_empty_tag_openers(xml: &str) -> String {
    let mut mended = String::with_capacity(xml.len());
    let mut rest = xml;
    while let Some((before, after)) = rest.split_once("<>") {
        let opens_tag = after.starts_with(|c: char| c.is_ascii_alphabetic());
        mended.push_str(before);
        mended.push_str(if opens_tag { "<" } else { "<>" });
        rest = after;
    }
    mended.push_str(rest);
    mended
}

fn parse_linux(node: Node) -> Result<LinuxBootConfig, ConfigError> {
    let mut attributes = Attributes::of(node);
    let config = LinuxBootConfig {
        kernel: attributes.name("kernel")?,
        initrd: attributes.optional_name("initrd")?,
        cmdline: attributes.optional_text("append").unwrap_or_default(),
    };
    attributes.finish()?;
    no_children(node)?;
    Ok(config)
}

fn parse_multiboot(node: Node) -> Result<Vec<String>, ConfigError> {
    Attributes::of(node).finish()?;
    let mut names = Vec::new();
    for rom in child_nodes(node)? {
        if rom.tag_name().name() != "rom" {
            return Err(unknown_node(rom, node));
        }
        let mut attributes = Attributes::of(rom);
        names.push(attributes.name("name")?);
        attributes.finish()?;
        no_children(rom)?;
    }
    if names.is_empty() {
        return Err(ConfigError::MissingNode { node: "rom", parent: "multiboot" });
    }
    Ok(names)
}

fn conflict(node: Node, earlier: &'static str) -> ConfigError {
    let name = node.tag_name().name().to_owned();
    ConfigError::ConflictingNode { node: name, earlier, line: line_of(node) }
}

/// The error for a node that `parent` does not know.
pub(crate) fn unknown_node(node: Node, parent: Node) -> ConfigError {
    ConfigError::UnknownNode {
        node: node.tag_name().name().to_owned(),
        parent: parent.tag_name().name().to_owned(),
        line: line_of(node),
    }
}

/// Line of the node's start, from 1.
pub(crate) fn line_of(node: Node) -> u32 {
    node.document().text_pos_at(node.range().start).row
}

/// The elements in `node`, which may hold nothing else but comments.
pub(crate) fn child_nodes<'a, 'input>(node: Node<'a, 'input>) -> Result<Vec<Node<'a, 'input>>, ConfigError> {
    let is_text = |child: Node| child.is_text() && !child.text().unwrap_or_default().trim_ascii().is_empty();
    if node.children().any(is_text) {
        let name = node.tag_name().name().to_owned();
        return Err(ConfigError::UnexpectedText { node: name, line: line_of(node) });
    }
    Ok(node.children().filter(Node::is_element).collect())
}

/// Checks that `node` holds neither elements nor text.
pub(crate) fn no_children(node: Node) -> Result<(), ConfigError> {
    match child_nodes(node)?.first() {
        Some(child) => Err(unknown_node(*child, node)),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
