//! Table of routing decisions.

use super::*;
use crate::config::Config;

/// Children of the tables and what they provide.
const PROVIDERS: [(&str, &str, bool); 6] = [
    ("timer", "Timer", false),
    ("fs1", "File_system", false),
    ("fs2", "File_system", false),
    ("old_nic", "Nic", true),
    ("uart", "Terminal", false),
    ("rom_filter", "ROM", false),
];

struct Table;

impl Providers for Table {
    fn parent(&self, service: &str) -> bool {
        matches!(service, "ROM" | "LOG" | "PD" | "CPU")
    }
    fn children<'a>(&'a self, service: &str) -> impl Iterator<Item = Provider<'a>> {
        let service = service.to_owned();
        PROVIDERS
            .iter()
            .filter(move |(_, provided, _)| *provided == service)
            .map(|&(child, _, abandoned)| Provider { child, abandoned })
    }
    fn alias(&self, name: &str) -> Option<&str> {
        (name == "storage").then_some("fs2")
    }
}

/// Routes a request of child `app` with the rules of `route`: `server: label`, or why not.
fn decide(route: &str, service: &str, label: &str) -> String {
    let config = Config::parse(alloc::format!("<config><default-route>{route}</default-route></config>").as_bytes());
    let request = Request { child: "app", service, label };
    match resolve(&config.unwrap().default_route, request, &Table) {
        Ok((Server::Parent, label)) => alloc::format!("parent: {label}"),
        Ok((Server::Child(child), label)) => alloc::format!("{child}: {label}"),
        Err(denial) => denial.to_string(),
    }
}

const NONE: &str = "no route to service";
const ANY: &str = "<any-service> <parent/> <any-child/> </any-service>";

fn check(table: &[(&str, &str, &str, &str)]) {
    for &(route, service, label, expected) in table {
        assert_eq!(decide(route, service, label), expected, "{service} \"{label}\" by {route}");
    }
}

#[test]
fn order_and_fall_through() {
    check(&[
        (ANY, "LOG", "app -> x", "parent: app -> x"),
        (ANY, "Timer", "app -> ", "timer: app -> "),
        (ANY, "Gui", "app -> ", NONE),
        ("", "LOG", "app -> ", NONE),
        ("<any-service><any-child/><parent/></any-service>", "ROM", "app -> f", "rom_filter: app -> f"),
        (
            r#"<service name="ROM"><child name="fs1"/></service><any-service><parent/></any-service>"#,
            "ROM",
            "app -> f",
            NONE,
        ),
        (
            "<any-service><any-child/></any-service><any-service><parent/></any-service>",
            "LOG",
            "app -> ",
            "parent: app -> ",
        ),
        (
            r#"<any-service><parent/></any-service><service name="LOG"><child name="timer"/></service>"#,
            "LOG",
            "app -> ",
            "parent: app -> ",
        ),
        (r#"<service name="Timer"><parent/><child name="timer"/></service>"#, "Timer", "app -> ", "timer: app -> "),
        (r#"<service name="Timer"/><any-service><any-child/></any-service>"#, "Timer", "app -> ", NONE),
    ]);
}

#[test]
fn children_and_aliases() {
    check(&[
        (r#"<service name="Timer"><child name="timer"/></service>"#, "Timer", "app -> ", "timer: app -> "),
        (r#"<service name="Timer"><child name="t2"/></service>"#, "Timer", "app -> ", NONE),
        (
            r#"<service name="File_system"><child name="storage"/></service>"#,
            "File_system",
            "app -> /",
            "fs2: app -> /",
        ),
        ("<any-service><any-child/></any-service>", "File_system", "app -> /", "ambiguous routes to service"),
        ("<any-service><any-child/></any-service>", "Nic", "app -> ", "service was abandoned"),
        (r#"<service name="Nic"><child name="old_nic"/></service>"#, "Nic", "app -> ", "service was abandoned"),
        (r#"<service name="LOG"><child/></service>"#, "LOG", "app -> ", NONE),
    ]);
}

/// Whether `<service name="ROM" ATTRIBUTES>` applies to a label.
fn applies(attributes: &str, label: &str) -> bool {
    let route = alloc::format!(r#"<service name="ROM" {attributes}><parent/></service>"#);
    decide(&route, "ROM", label) != NONE
}

#[test]
fn label_attributes() {
    for (attributes, label, expected) in [
        ("", "app -> x", true),
        ("", "app_binary", true),
        (r#"label="x""#, "app -> x", true),
        (r#"label="x""#, "app -> x -> y", false),
        (r#"label="x -> y""#, "app -> x -> y", true),
        (r#"label=" x ""#, "app -> x", true),
        (r#"label="x""#, "app -> x ", true),
        (r#"label="x""#, "x", false),
        (r#"label="""#, "app -> ", true),
        (r#"label="""#, "app -> x", false),
        (r#"label_prefix="x ->""#, "app -> x -> y", true),
        (r#"label_prefix="x ->""#, "app -> x", false),
        (r#"label_prefix="app""#, "app -> x", false),
        (r#"label_suffix="-> y""#, "app -> x -> y", true),
        (r#"label_suffix="y""#, "app -> x", false),
        (r#"label_prefix="x" label_suffix="z""#, "app -> x -> z", true),
        (r#"label_prefix="x" label_suffix="z""#, "app -> x -> y", false),
        (r#"label="x" label_prefix="z""#, "app -> x", false),
        (r#"label_last="y""#, "app -> x -> y", true),
        (r#"label_last="y""#, "y", true),
        (r#"label_last="x""#, "app -> x -> y", false),
        (r#"label_last="y" label="other""#, "app -> x -> y", true),
        (r#"label_last="y" unscoped_label="other""#, "app -> x -> y", true),
        (r#"unscoped_label="app -> x""#, "app -> x", true),
        (r#"unscoped_label="x""#, "app -> x", false),
        (r#"unscoped_label="app_binary""#, "app_binary", true),
        (r#"unscoped_label="app -> x" label="other""#, "app -> x", true),
    ] {
        assert_eq!(applies(attributes, label), expected, "[{attributes}] on \"{label}\"");
    }
}

#[test]
fn labels_are_rewritten_for_the_server_only() {
    let to = |attributes: &str| {
        let route = alloc::format!(r#"<service name="ROM"><parent {attributes}/></service>"#);
        decide(&route, "ROM", "app -> sub -> f")
    };
    assert_eq!(to(""), "parent: app -> sub -> f");
    assert_eq!(to(r#"label="other""#), "parent: other");
    assert_eq!(to(r#"label="other" resource="g""#), "parent: other");
    assert_eq!(to(r#"resource="g""#), "parent: app -> sub -> g");
    assert_eq!(to(r#"identity="me""#), "parent: me -> f");
    assert_eq!(to(r#"identity="" "#), "parent: f");
    assert_eq!(to(r#"prepend_resource="/dir/""#), "parent: app -> sub -> /dir/f");
    assert_eq!(to(r#"identity="me" prepend_resource="/" resource="g""#), "parent: me -> /g");
}
