//! The configuration of a parent: which children to start, with what, and where their session requests go.

use crate::route::{Destination, LabelPattern, Rule, Target};
use abi::session::args::parse_number;
use abi::session::cpu::PRIORITY_LIMIT;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use roxmltree::{Document, Node};
use runtime::config::truth;

/// Capabilities of a child for which the configuration names none, neither itself nor as default.
pub const DEFAULT_CAPS: u64 = 100;

/// A position in a grid of CPUs, and the extent there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AffinityBox {
    /// Column of the leftmost CPU.
    pub x: u32,
    /// Row of the topmost CPU.
    pub y: u32,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

/// The grid of CPUs of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AffinitySpace {
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

/// A child to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// Unique name.
    pub name: String,
    /// ROM of the program.
    pub binary: String,
    /// Bytes of RAM.
    pub ram: u64,
    /// Capabilities.
    pub caps: u64,
    /// Priority relative to the parent: not above 0.
    pub priority: i64,
    /// Where it may run; `None` for everywhere.
    pub affinity: Option<AffinityBox>,
    /// Services that it may announce.
    pub provides: Vec<String>,
    /// Its own route; `None` for the default.
    pub route: Option<Vec<Rule>>,
    /// Content of its `config` ROM; `None` if requests for that are routed.
    pub config: Option<String>,
    /// When it exits, so does its parent, with the same value; likewise, with a failure, when it faults or cannot be
    /// started.
    pub propagate_exit: bool,
    /// When it faults or exits, it is started anew: later and later if it fails, see [`restart`](crate::restart).
    pub restart: bool,
}

/// A configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Services of the parent that children may be routed to.
    pub parent_provides: Vec<String>,
    /// Route of children without one.
    pub default_route: Vec<Rule>,
    /// Number of priority bands, a power of two up to [`PRIORITY_LIMIT`]; 0 switches priorities off.
    pub prio_levels: u64,
    /// Grid of CPUs.
    pub affinity_space: AffinitySpace,
    /// Second names of children.
    pub aliases: Vec<Alias>,
    /// Children in document order, with unique names.
    pub starts: Vec<Start>,
    /// One line each about what was ignored.
    pub warnings: Vec<String>,
}

/// A second name of a child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alias {
    /// The name.
    pub name: String,
    /// What it stands for.
    pub child: String,
}

/// The text is no configuration at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Reads a `<config>` text. Zero bytes at its end are ignored. A `<start>` node with an error is left out,
    /// with a warning.
    ///
    /// # Errors
    /// The text is not well-formed XML, or is something else than a configuration.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        let text = text.get(..end).unwrap_or(&[]);
        let text = str::from_utf8(text).map_err(|error| ConfigError(format!("not UTF-8: {error}")))?;
        let document = Document::parse(text).map_err(|error| ConfigError(format!("malformed XML: {error}")))?;
        let root = document.root_element();
        if !root.has_tag_name("config") {
            return Err(ConfigError(format!("<{}> instead of <config>", root.tag_name().name())));
        }
        let mut warnings = Vec::new();
        let defaults = Defaults::of(root, &mut warnings);
        let prio_levels = prio_levels(root, &mut warnings);
        let mut starts: Vec<Start> = Vec::new();
        for node in elements(root, "start") {
            match start(node, &defaults) {
                Ok(start) if starts.iter().any(|other| other.name == start.name) => {
                    warnings.push(format!("child \"{}\" is already there, second one ignored", start.name));
                }
                Ok(start) => starts.push(start),
                Err(warning) => warnings.push(warning),
            }
        }
        let aliases = elements(root, "alias").map(|node| {
            Some(Alias { name: node.attribute("name")?.to_owned(), child: node.attribute("child")?.to_owned() })
        });
        Ok(Self {
            parent_provides: elements(root, "parent-provides").flat_map(services).collect(),
            default_route: elements(root, "default-route").flat_map(rules).collect(),
            prio_levels,
            affinity_space: affinity_space(root),
            aliases: aliases.flatten().collect(),
            starts,
            warnings,
        })
    }
}

/// Values of start nodes that say nothing.
struct Defaults {
    caps: u64,
    ram: Option<u64>,
}

impl Defaults {
    fn of(root: Node<'_, '_>, warnings: &mut Vec<String>) -> Self {
        let node = elements(root, "default").next();
        let value = |name| node.and_then(|node| node.attribute(name));
        let mut parse = |name| {
            let parsed = parse_number(value(name)?);
            if parsed.is_none() {
                warnings.push(format!("<default {name}=..>: not a number, ignored"));
            }
            parsed
        };
        Self { caps: parse("caps").unwrap_or(DEFAULT_CAPS), ram: parse("ram") }
    }
}

fn elements<'a, 'input>(node: Node<'a, 'input>, name: &'static str) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.has_tag_name(name))
}

/// Today's name of a service: RAM, capabilities and signals have become part of the PD session.
fn current_name(service: &str) -> &str {
    match service {
        "RAM" | "CAP" | "SIGNAL" => "PD",
        other => other,
    }
}

fn services(node: Node<'_, '_>) -> Vec<String> {
    elements(node, "service")
        .filter_map(|service| service.attribute("name"))
        .map(|name| current_name(name).to_owned())
        .collect()
}

fn prio_levels(root: Node<'_, '_>, warnings: &mut Vec<String>) -> u64 {
    match root.attribute("prio_levels").map(str::parse::<u64>) {
        None | Some(Ok(0)) => 0,
        Some(Ok(levels)) if levels.is_power_of_two() && levels <= PRIORITY_LIMIT => levels,
        Some(_) => {
            warnings.push(format!("prio_levels is not a power of two up to {PRIORITY_LIMIT}, priorities are off"));
            0
        }
    }
}

fn number<T: core::str::FromStr>(node: Node<'_, '_>, name: &str, default: T) -> T {
    node.attribute(name).and_then(|text| text.trim().parse().ok()).unwrap_or(default)
}

fn affinity_space(root: Node<'_, '_>) -> AffinitySpace {
    let node = elements(root, "affinity-space").next();
    let extent = |name| node.map_or(1, |node| number(node, name, 1)).max(1);
    AffinitySpace { width: extent("width"), height: extent("height") }
}

fn start(node: Node<'_, '_>, defaults: &Defaults) -> Result<Start, String> {
    let name = node.attribute("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| "<start> node without name ignored".to_owned())?;
    let bad = |what: &str| format!("child \"{name}\" ignored: {what}");
    let resource = |wanted: &str| {
        let node = elements(node, "resource").find(|node| node.attribute("name") == Some(wanted));
        node.and_then(|node| node.attribute("quantum"))
    };
    let amount = |attribute, old_name| {
        let text = node.attribute(attribute).or_else(|| resource(old_name));
        text.map(|text| parse_number(text).ok_or_else(|| bad(&format!("{attribute} quota \"{text}\" is not a number"))))
            .transpose()
    };
    let ram = amount("ram", "RAM")?.or(defaults.ram).ok_or_else(|| bad("no RAM quota"))?;
    let caps = amount("caps", "CAP")?.unwrap_or(defaults.caps);
    let priority = number(node, "priority", 0);
    if priority > 0 {
        return Err(bad("priority above 0"));
    }
    let affinity = elements(node, "affinity").next().map(|node| AffinityBox {
        x: number(node, "xpos", 0),
        y: number(node, "ypos", 0),
        width: number(node, "width", 1).max(1),
        height: number(node, "height", 1).max(1),
    });
    let binary = elements(node, "binary").next().and_then(|node| node.attribute("name"));
    let route = elements(node, "route").next();
    let is_yes = |node, name| truth(node, name).unwrap_or_default();
    Ok(Start {
        name: name.to_owned(),
        binary: binary.unwrap_or(name).to_owned(),
        ram,
        caps,
        priority,
        affinity,
        provides: elements(node, "provides").flat_map(services).collect(),
        route: route.map(rules),
        config: elements(node, "config").next().map(inline_text),
        propagate_exit: elements(node, "exit").any(|node| is_yes(node, "propagate")),
        restart: is_yes(node, "restart"),
    })
}

/// The node as it stands in the document.
fn inline_text(node: Node<'_, '_>) -> String {
    node.document().input_text().get(node.range()).unwrap_or("").to_string()
}

fn rules(route: Node<'_, '_>) -> Vec<Rule> {
    let rule = |node: Node<'_, '_>| {
        let service = match node.tag_name().name() {
            "any-service" => None,
            "service" => Some(current_name(node.attribute("name")?).to_owned()),
            _ => return None,
        };
        let value = |name| node.attribute(name).map(|value| value.trim().to_owned());
        let pattern = LabelPattern {
            label: value("label"),
            prefix: value("label_prefix"),
            suffix: value("label_suffix"),
            last: value("label_last"),
            unscoped: value("unscoped_label"),
        };
        Some(Rule { service, pattern, targets: node.children().filter_map(target).collect() })
    };
    route.children().filter_map(rule).collect()
}

fn target(node: Node<'_, '_>) -> Option<Target> {
    let destination = match node.tag_name().name() {
        "parent" => Destination::Parent,
        "child" => Destination::Child(node.attribute("name")?.to_owned()),
        "any-child" => Destination::AnyChild,
        _ => return None,
    };
    let value = |name| node.attribute(name).map(ToOwned::to_owned);
    Some(Target {
        destination,
        label: value("label"),
        identity: value("identity"),
        resource: value("resource"),
        prepend_resource: value("prepend_resource"),
    })
}

#[cfg(test)]
mod tests;
