//! Configurations, among them the one of the Genode summer school 2013.

use super::*;

const SUMMER_SCHOOL: &str = r#"<config> <parent-provides> <service name="ROM"/> <service name="RAM"/> <service name="IRQ"/> <service name="IO_MEM"/> <service name="IO_PORT"/> <service name="CAP"/> <service name="PD"/> <service name="RM"/> <service name="CPU"/> <service name="LOG"/> </parent-provides> <default-route> <any-service> <parent/> <any-child/> </any-service> </default-route> <start name="pci_drv"> <resource name="RAM" quantum="1M"/> <provides><service name="PCI"/></provides> </start> <start name="vesa_drv"> <resource name="RAM" quantum="1M"/> <provides><service name="Framebuffer"/></provides> </start> <start name="ps2_drv"> <resource name="RAM" quantum="1M"/> <provides><service name="Input"/></provides> </start> <start name="timer"> <resource name="RAM" quantum="1M"/> <provides><service name="Timer"/></provides> </start> <start name="nitpicker"> <resource name="RAM" quantum="1M"/> <provides><service name="Nitpicker"/></provides> </start> <start name="launchpad"> <resource name="RAM" quantum="32M"/> </start> </config>"#;

fn parse(text: &str) -> Config {
    Config::parse(text.as_bytes()).unwrap()
}

#[test]
fn the_summer_school_configuration_is_understood_verbatim() {
    let config = parse(SUMMER_SCHOOL);
    let names: Vec<&str> = config.starts.iter().map(|start| start.name.as_str()).collect();
    assert_eq!(names, ["pci_drv", "vesa_drv", "ps2_drv", "timer", "nitpicker", "launchpad"]);
    let last = config.starts.last().unwrap();
    assert_eq!((last.ram, last.caps, last.binary.as_str()), (32 << 20, DEFAULT_CAPS, "launchpad"));
    assert_eq!(config.starts[3].provides, ["Timer"]);
    assert!(config.parent_provides.iter().any(|service| service == "PD"));
    assert_eq!(config.default_route.len(), 1);
    assert_eq!(config.default_route[0].targets.len(), 2);
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn a_start_node_with_everything() {
    let config = parse(
        r#"<config prio_levels="4">
          <affinity-space width="4" height="1"/>
          <default caps="50" ram="2M"/>
          <alias name="t" child="timer"/>
          <start name="app" caps="70" ram="64K" priority="-1" restart="yes">
            <binary name="test"/> <affinity xpos="2" width="2"/> <exit propagate="yes"/>
            <provides><service name="A"/><service name="B"/></provides>
            <route><service name="RAM" label_last="x"><child name="t" label="y"/></service></route>
            <config a="1">
              <machine/></config>
          </start>
          <start name="plain"/>
        </config>"#,
    );
    assert_eq!((config.prio_levels, config.affinity_space), (4, AffinitySpace { width: 4, height: 1 }));
    assert_eq!(config.aliases, [Alias { name: "t".into(), child: "timer".into() }]);
    let [app, plain] = &config.starts[..] else { panic!() };
    assert_eq!((app.caps, app.ram, app.priority, app.binary.as_str()), (70, 64 << 10, -1, "test"));
    assert!(app.restart && app.propagate_exit && !plain.restart && !plain.propagate_exit);
    assert_eq!(app.affinity, Some(AffinityBox { x: 2, y: 0, width: 2, height: 1 }));
    assert_eq!(app.provides, ["A", "B"]);
    let rule = &app.route.as_ref().unwrap()[0];
    assert_eq!((rule.service.as_deref(), rule.pattern.last.as_deref()), (Some("PD"), Some("x")));
    assert_eq!(app.config.as_deref(), Some("<config a=\"1\">\n              <machine/></config>"));
    assert_eq!((plain.caps, plain.ram, &plain.route, &plain.config), (50, 2 << 20, &None, &None));
}

#[test]
fn a_bad_start_node_is_left_out_with_a_reason() {
    let config = parse(
        r#"<config prio_levels="3">
          <start name="ok" ram="1M"/> <start name="ok" ram="2M"/> <start ram="1M"/>
          <start name="poor"/> <start name="odd" ram="lots"/> <start name="high" ram="1M" priority="1"/>
        </config>"#,
    );
    assert_eq!(config.starts.len(), 1);
    assert_eq!(config.starts[0].ram, 1 << 20);
    assert_eq!(
        config.warnings,
        [
            "prio_levels is not a power of two up to 65536, priorities are off",
            "child \"ok\" is already there, second one ignored",
            "<start> node without name ignored",
            "child \"poor\" ignored: no RAM quota",
            "child \"odd\" ignored: ram quota \"lots\" is not a number",
            "child \"high\" ignored: priority above 0",
        ]
    );
}

#[test]
fn what_is_no_configuration_is_refused_in_one_line() {
    for text in ["", "<config>", "<config><start></config>", "<init/>", "\u{1}", "<config/><config/>"] {
        let error = Config::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{error:?}");
    }
    assert!(Config::parse(b"\xff").is_err());
    assert!(Config::parse(b"<config/>\n\0\0\0garbage").is_ok());
}

#[test]
fn there_are_no_more_bands_than_priorities() {
    for (text, levels) in [("65536", 65536), ("131072", 0), ("9223372036854775808", 0), ("-2", 0), ("", 0)] {
        let config = Config::parse(format!(r#"<config prio_levels="{text}"/>"#).as_bytes()).unwrap();
        assert_eq!((config.prio_levels, config.warnings.len()), (levels, usize::from(levels == 0)), "{text}");
    }
}
