//! Reading XML configurations.

use alloc::format;

use abi::session::args::{parse_number, parse_truth};

use crate::error::Error;

/// A node of a configuration.
pub type Node<'a, 'input> = roxmltree::Node<'a, 'input>;

/// Reads a configuration. An empty one is a node without attributes and children.
///
/// # Errors
/// It is no XML.
pub fn read<R>(text: &str, read: impl FnOnce(Node<'_, '_>) -> R) -> Result<R, Error> {
    let text = if text.trim().is_empty() { "<empty/>" } else { text };
    let document = roxmltree::Document::parse(text).map_err(|error| Error::Input(format!("configuration: {error}")))?;
    Ok(read(document.root_element()))
}

/// An attribute as a number: decimal or `0x`, with an optional `K`, `M` or `G`.
#[must_use]
pub fn number(node: Node<'_, '_>, name: &str) -> Option<u64> {
    node.attribute(name).and_then(parse_number)
}

/// An attribute as a truth value: `yes`, `no`, and what else means these.
#[must_use]
pub fn truth(node: Node<'_, '_>, name: &str) -> Option<bool> {
    node.attribute(name).and_then(parse_truth)
}

/// How well a policy node fits a label: prefix length, suffix length; an exact label beats both.
type Fit = (usize, usize);

/// The `<policy>` node of a server's configuration that fits a client's label best: an exact `label` before
/// `label_prefix` before `label_suffix`, longer before shorter, the first of equals. A node with no such attribute
/// fits nobody. Without any that fits, `<default-policy>`, if there is one.
#[must_use]
pub fn policy<'a, 'input>(config: Node<'a, 'input>, label: &str) -> Option<Node<'a, 'input>> {
    let label = label.trim();
    let mut best: Option<(Fit, Node<'a, 'input>)> = None;
    for node in config.children().filter(|node| node.has_tag_name("policy")) {
        if let Some(fit) = fit(node, label)
            && best.is_none_or(|(best, _)| fit > best)
        {
            best = Some((fit, node));
        }
    }
    best.map(|(_, node)| node).or_else(|| config.children().find(|node| node.has_tag_name("default-policy")))
}

fn fit(node: Node<'_, '_>, label: &str) -> Option<Fit> {
    let attribute = |name| node.attribute(name).map(str::trim);
    let (exact, prefix, suffix) = (attribute("label"), attribute("label_prefix"), attribute("label_suffix"));
    if exact.is_none() && prefix.is_none() && suffix.is_none() {
        return None;
    }
    let holds = exact.is_none_or(|exact| exact == label)
        && prefix.is_none_or(|prefix| label.starts_with(prefix))
        && suffix.is_none_or(|suffix| label.ends_with(suffix));
    if !holds {
        return None;
    }
    if exact.is_some() {
        return Some((usize::MAX, usize::MAX));
    }
    // A prefix, even an empty one, beats any suffix.
    Some((prefix.map_or(0, |prefix| prefix.len() + 1), suffix.map_or(0, str::len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"<config flag="yes" size="16K" wrong="maybe">
        <policy n="none"/>
        <policy n="suffix" label_suffix="-> log"/>
        <policy n="short" label_prefix="vmm"/>
        <policy n="long" label_prefix="vmm ->"/>
        <policy n="both" label_prefix="vmm ->" label_suffix="serial"/>
        <policy n="exact" label=" vmm -> serial "/>
        <policy n="second" label="vmm -> serial"/>
        <default-policy n="default"/>
    </config>"#;

    fn chosen(label: &str) -> std::string::String {
        let document = roxmltree::Document::parse(CONFIG).unwrap();
        let node = policy(document.root_element(), label).unwrap();
        node.attribute("n").unwrap().into()
    }

    #[test]
    fn the_best_policy_is_chosen() {
        assert_eq!(chosen("vmm -> serial"), "exact");
        assert_eq!(chosen("vmm -> x serial"), "both");
        assert_eq!(chosen("vmm -> x"), "long");
        assert_eq!(chosen("vmm1 -> log"), "short");
        assert_eq!(chosen("other -> log"), "suffix");
        assert_eq!(chosen("other"), "default");
    }

    #[test]
    fn without_a_policy_there_is_none() {
        let document = roxmltree::Document::parse("<config><policy/></config>").unwrap();
        assert!(policy(document.root_element(), "a").is_none());
    }

    #[test]
    fn attributes_are_checked() {
        let document = roxmltree::Document::parse(CONFIG).unwrap();
        let config = document.root_element();
        assert_eq!(number(config, "size"), Some(16 << 10));
        assert_eq!(number(config, "flag"), None);
        assert_eq!(truth(config, "flag"), Some(true));
        assert_eq!(truth(config, "wrong"), None);
    }
}
