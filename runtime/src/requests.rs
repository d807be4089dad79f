//! The `session_requests` ROM: what a parent wants from a server. A node stays until it is answered.
//!
//! ```xml
//! <session_requests>
//!   <upgrade id="1" ram_quota="8192" cap_quota="0"/>
//!   <close id="2"/>
//!   <create id="3" service="Timer"><args>label="init -> a", ram_quota=8192, cap_quota=3</args>
//!     <affinity space_width="4" space_height="1" x="0" y="0" width="2" height="1"/></create>
//! </session_requests>
//! ```

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use abi::session::affinity::Affinity;
use abi::session::parent::Quota;

use crate::config::{Node, number};

/// Name of the ROM.
pub const ROM: &str = "session_requests";

/// A request, in the order in which requests have to be handled: a driver for one client must see the close of
/// the old client before the create of the new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// The donation was raised.
    Upgrade {
        /// Session.
        id: u64,
        /// By how much.
        quota: Quota,
    },
    /// The client is gone.
    Close {
        /// Session.
        id: u64,
    },
    /// A new client.
    Create {
        /// Session.
        id: u64,
        /// Service asked for.
        service: String,
        /// Session arguments, as rewritten by the parent.
        args: String,
        /// Where the client runs.
        affinity: Affinity,
    },
}

impl Request {
    const fn rank(&self) -> u8 {
        match self {
            Self::Upgrade { .. } => 0,
            Self::Close { .. } => 1,
            Self::Create { .. } => 2,
        }
    }
}

/// Reads the requests in the order of their handling. Nodes that make no sense are left out.
#[must_use]
pub fn parse(xml: &str) -> Vec<Request> {
    let Ok(document) = roxmltree::Document::parse(xml) else {
        return Vec::new();
    };
    let mut requests: Vec<_> = document.root_element().children().filter_map(parse_node).collect();
    requests.sort_by_key(Request::rank);
    requests
}

fn parse_node(node: Node<'_, '_>) -> Option<Request> {
    let id = number(node, "id");
    match node.tag_name().name() {
        "create" => {
            let child = |name| node.children().find(|child| child.has_tag_name(name));
            let args = child("args").and_then(|args| args.text()).unwrap_or_default();
            let affinity = child("affinity").map(parse_affinity).unwrap_or_default();
            let service = node.attribute("service")?;
            Some(Request::Create { id: id?, service: service.into(), args: args.trim().into(), affinity })
        }
        "upgrade" => {
            let amount = |name| number(node, name).unwrap_or_default();
            Some(Request::Upgrade { id: id?, quota: Quota { ram: amount("ram_quota"), caps: amount("cap_quota") } })
        }
        "close" => Some(Request::Close { id: id? }),
        _ => None,
    }
}

fn parse_affinity(node: Node<'_, '_>) -> Affinity {
    let value = |name| number(node, name).and_then(|value| u16::try_from(value).ok()).unwrap_or_default();
    Affinity {
        space_width: value("space_width"),
        space_height: value("space_height"),
        x: value("x"),
        y: value("y"),
        width: value("width"),
        height: value("height"),
    }
}

/// Writes requests: the parent's half of the contract.
#[must_use]
pub fn write<'a>(requests: impl IntoIterator<Item = &'a Request>) -> String {
    let mut xml = String::from("<session_requests>\n");
    for request in requests {
        // Writing to a string cannot fail.
        let _written = write_node(&mut xml, request);
    }
    xml.push_str("</session_requests>\n");
    xml
}

fn write_node(xml: &mut String, request: &Request) -> core::fmt::Result {
    match request {
        Request::Upgrade { id, quota } => {
            writeln!(xml, r#"  <upgrade id="{id}" ram_quota="{}" cap_quota="{}"/>"#, quota.ram, quota.caps)
        }
        Request::Close { id } => writeln!(xml, r#"  <close id="{id}"/>"#),
        Request::Create { id, service, args, affinity: a } => {
            write!(xml, r#"  <create id="{id}" service=""#)?;
            escape(xml, service)?;
            write!(xml, r#""><args>"#)?;
            escape(xml, args)?;
            writeln!(
                xml,
                r#"</args><affinity space_width="{}" space_height="{}" x="{}" y="{}" width="{}" height="{}"/></create>"#,
                a.space_width, a.space_height, a.x, a.y, a.width, a.height
            )
        }
    }
}

/// Appends text with the characters replaced that mean something in XML (XML 1.0, 2.4) or that XML cannot hold.
///
/// # Errors
/// The output fails.
pub fn escape(out: &mut impl Write, text: &str) -> core::fmt::Result {
    for character in text.chars() {
        match character {
            '&' => out.write_str("&amp;")?,
            '<' => out.write_str("&lt;")?,
            '>' => out.write_str("&gt;")?,
            '"' => out.write_str("&quot;")?,
            // References to characters below U+0020 are not well-formed but for these.
            '\t' | '\n' | '\r' => write!(out, "&#{};", u32::from(character))?,
            '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => out.write_char('\u{fffd}')?,
            other => out.write_char(other)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> impl Strategy<Value = Request> {
        let id = any::<u64>();
        prop_oneof![
            (id, any::<u64>(), any::<u64>())
                .prop_map(|(id, ram, caps)| Request::Upgrade { id, quota: Quota { ram, caps } }),
            id.prop_map(|id| Request::Close { id }),
            (id, "[A-Za-z_<&\"]{1,20}", "[a-z<>&\"= ,0-9]{0,40}", any::<u16>()).prop_map(|(id, service, args, x)| {
                let affinity = Affinity { x, width: 1, ..Affinity::default() };
                Request::Create { id, service, args: args.trim().into(), affinity }
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_a_parent_writes_a_server_reads(mut requests in prop::collection::vec(request(), 0..10)) {
            let read = parse(&write(&requests));
            requests.sort_by_key(Request::rank);
            prop_assert_eq!(read, requests);
        }

        #[test]
        fn other_input_is_harmless(text in "\\PC{0,100}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn upgrades_come_first_and_creates_last() {
        let xml = r#"<session_requests><create id="1" service="Timer"/><close id="2"/><wish/>
                     <close/><upgrade id="3"/></session_requests>"#;
        let ranks: Vec<_> = parse(xml).iter().map(Request::rank).collect();
        assert_eq!(ranks, [0, 1, 2]);
    }
}
