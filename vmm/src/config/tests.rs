use proptest::prelude::*;

use super::*;
use crate::machine::{MachineNode, PciHostBridgeConfig, SerialConfig, VbiosPart};
use crate::memory::MemoryRange;

/// The machine description of the mission's seeds, letter by letter.
pub(crate) const SEED: &str = r#"
<config>
  <machine>
    <mem start="0x0" end="0xa0000"/>
    <mem start="0x100000" end="0x2000000"/>
    <>nullio io_base="0x80" />
    <pic io_base="0x20" elcr_base="0x4d0"/>
    <pic io_base="0xa0" irq="2" elcr_base="0x4d1"/>
    <pit io_base="0x40" irq="0"/>
    <scp io_port_a="0x92" io_port_b="0x61"/>
    <kbcb io_base="0x60" irq_kbd="1" irq_aux="12"/>
    <keyb ps2_port="0" host_keyboard="0x10000"/>
    <mouse ps2_port="1" host_mouse="0x10001"/>
    <rtc io_base="0x70" irq="8"/>
    <serial io_base="0x3f8" irq="0x4" host_serial="0x4711"/>
    <hostsink host_dev="0x4712" buffer="80"/>
    <vga io_base="0x03c0"/>
    <vbios_disk/> <vbios_keyboard/> <vbios_mem/>
    <vbios_time/> <vbios_reset/> <vbios_multiboot/>
    <msi/> <ioapic/>
    <pcihostbridge bus_num="0" bus_count="0x10" io_base="0xcf8" mem_base="0xe0000000"/>
    <pmtimer io_port="0x8000"/>
    <vcpu/> <halifax/> <vbios/> <lapic/>
  </machine>
  <multiboot>
    <rom name="bootstrap"/> <rom name="fiasco"/>
    <rom name="sigma0.foc"/> <rom name="core.foc"/>
  </multiboot>
</config>
"#;

#[test]
fn the_seed_is_accepted() {
    use MachineNode as N;
    let config = VmmConfig::parse(SEED).unwrap();
    let expected = [
        N::Mem { start: 0, end: 0xa_0000 },
        N::Mem { start: 0x10_0000, end: 0x200_0000 },
        N::Nullio { io_base: 0x80, size: 1, value: u32::MAX },
        N::Pic { io_base: 0x20, irq: None, elcr_base: 0x4d0 },
        N::Pic { io_base: 0xa0, irq: Some(2), elcr_base: 0x4d1 },
        N::Pit { io_base: 0x40, irq: 0 },
        N::Scp { io_port_a: 0x92, io_port_b: 0x61 },
        N::Kbc { io_base: 0x60, irq_kbd: 1, irq_aux: 12 },
        N::Keyb { ps2_port: 0, host_keyboard: 0x1_0000 },
        N::Mouse { ps2_port: 1, host_mouse: 0x1_0001 },
        N::Rtc { io_base: 0x70, irq: 8 },
        N::Serial(SerialConfig { io_base: 0x3f8, irq: 4, host_serial: 0x4711 }),
        N::Hostsink { host_dev: 0x4712, buffer: 80 },
        N::Vga { io_base: 0x3c0 },
        N::VbiosPart(VbiosPart::Disk),
        N::VbiosPart(VbiosPart::Keyboard),
        N::VbiosPart(VbiosPart::Memory),
        N::VbiosPart(VbiosPart::Time),
        N::VbiosPart(VbiosPart::Reset),
        N::VbiosPart(VbiosPart::Multiboot),
        N::Msi,
        N::Ioapic,
        N::PciHostBridge(PciHostBridgeConfig {
            bus_num: 0,
            bus_count: 16,
            io_base: Some(0xcf8),
            mem_base: Some(0xe000_0000),
        }),
        N::PmTimer { io_port: 0x8000 },
        N::Vcpu,
        N::Halifax,
        N::Vbios,
        N::Lapic,
    ];
    assert_eq!(config.machine.nodes(), expected);
    let absent: Vec<_> = config.machine.nodes().iter().filter_map(MachineNode::absent).collect();
    let bios = ["vbios_disk", "vbios_keyboard", "vbios_mem", "vbios_time", "vbios_reset", "vbios_multiboot"];
    assert_eq!(absent, [&["vga"][..], &bios, &["vbios"]].concat());
    assert_eq!(config.machine.vcpu_count(), 1);
    let ram = [MemoryRange { start: 0, end: 0xa_0000 }, MemoryRange { start: 0x10_0000, end: 0x200_0000 }];
    assert_eq!(config.machine.memory().ranges(), ram);
    let roms = ["bootstrap", "fiasco", "sigma0.foc", "core.foc"].map(str::to_owned);
    assert_eq!(config.boot, Some(BootConfig::Multiboot(roms.to_vec())));
}

#[test]
fn linux_boot() {
    let parse = |boot: &str| {
        let xml = format!("<config><machine><mem size=\"64M\"/></machine>{boot}</config>");
        VmmConfig::parse(&xml)
    };
    let config = parse(r#"<linux kernel="bzImage" initrd="initrd" append="console=ttyS0 a=&quot;b&quot;"/>"#);
    let expected = LinuxBootConfig {
        kernel: "bzImage".into(),
        initrd: Some("initrd".into()),
        cmdline: "console=ttyS0 a=\"b\"".into(),
    };
    assert_eq!(config.unwrap().boot, Some(BootConfig::Linux(expected)));
    let minimal = parse(r#"<linux kernel="bzImage"/>"#).unwrap().boot;
    let expected = LinuxBootConfig { kernel: "bzImage".into(), initrd: None, cmdline: String::new() };
    assert_eq!(minimal, Some(BootConfig::Linux(expected)));
    assert_eq!(parse("").unwrap().boot, None);
}

#[test]
fn options_of_the_whole() {
    let parse = |options: &str| {
        let machine = "<machine><mem size=\"64M\"/></machine>";
        let config = VmmConfig::parse(&format!("<config{options}>{machine}</config>")).unwrap();
        (config.exit_stats, config.on_triple_fault)
    };
    assert_eq!(parse(""), (false, TripleFault::Stop));
    let options = " exit_stats=\"on\" on_triple_fault=\"reset\"";
    assert_eq!(parse(options), (true, TripleFault::Reset));
}

fn with(tail: &str) -> String {
    format!("<config><machine><mem size=\"64M\"/></machine>{tail}</config>")
}

fn expect_errors(cases: &[(String, &str)]) {
    for (xml, message) in cases {
        assert_eq!(VmmConfig::parse(xml).unwrap_err().to_string(), *message);
    }
}

#[test]
fn mistakes_in_machines_are_named() {
    let machine = |inner: &str| format!("<config><machine>\n{inner}</machine></config>");
    let ram = |inner: &str| machine(&format!("<mem size=\"64M\"/>{inner}"));
    let cases = [
        (ram("<florp/>"), "line 2: unknown node <florp> in <machine>"),
        (ram("<msi><florp/></msi>"), "line 2: unknown node <florp> in <msi>"),
        (
            ram("<pit io_base=\"0x40\" irq=\"0\" colour=\"red\"/>"),
            "line 2: node <pit>, attribute \"colour\": unknown attribute",
        ),
        (ram("<pit io_base=\"0x40\"/>"), "line 2: node <pit>, attribute \"irq\": missing"),
        (
            ram("<pit io_base=\"forty\" irq=\"0\"/>"),
            "line 2: node <pit>, attribute \"io_base\": \"forty\" is not a number",
        ),
        (
            ram("<pit io_base=\"0xfffe\" irq=\"0\"/>"),
            "line 2: node <pit>, attribute \"io_base\": 0xfffe is outside 0x0..=0xfffc",
        ),
        (
            ram("<keyb ps2_port=\"2\" host_keyboard=\"0\"/>"),
            "line 2: node <keyb>, attribute \"ps2_port\": 0x2 is outside 0x0..=0x1",
        ),
        (
            ram("<pit io_base=\"0x40\" irq=\"0\"/><nullio io_base=\"0x3f\" size=\"2\"/>"),
            "line 2: node <nullio>: I/O ports 0x3f..=0x40 overlap those of <pit>",
        ),
        (
            machine("<mem start=\"0\" end=\"0x2000\"/><mem start=\"0x1000\" end=\"0x3000\"/>"),
            "line 2: node <mem>: memory 0x1000..0x3000 overlaps that of <mem>",
        ),
        (ram("<mem start=\"0\" end=\"0x1000\"/>"), "line 2: node <mem>: memory 0x0..0x1000 overlaps that of <mem>"),
        (
            machine("<mem start=\"0\" end=\"0x200000\"/>"),
            "node <mem>: memory range 0x0..0x200000 overlaps the device region 0xa0000..0x100000",
        ),
        (
            ram(
                "<serial io_base=\"0x3f8\" irq=\"4\" host_serial=\"1\"/>\n<serial io_base=\"0x3e8\" irq=\"4\" host_serial=\"2\"/>",
            ),
            "line 3: node <serial>: interrupt line 4 is that of <serial>",
        ),
        (
            ram("<kbc io_base=\"0x60\" irq_kbd=\"1\" irq_aux=\"1\"/>"),
            "line 2: node <kbc>: interrupt line 1 is that of <kbc>",
        ),
        (
            ram("<rtc io_base=\"0x70\" irq=\"9\"/>"),
            "line 2: node <rtc>: interrupt line 9 is that of the ACPI fixed hardware",
        ),
        (
            ram("<serial io_base=\"0x3f8\" irq=\"2\" host_serial=\"1\"/>"),
            "line 2: node <serial>: interrupt line 2 is that of the cascade",
        ),
        (ram("<pit io_base=\"0x40\" irq=\"5\"/>"), "line 2: node <pit>, attribute \"irq\": 0x5 is outside 0x0..=0x0"),
        (
            ram("<pic io_base=\"0xa0\" irq=\"5\" elcr_base=\"0x4d1\"/>"),
            "line 2: node <pic>, attribute \"irq\": 0x5 is outside 0x2..=0x2",
        ),
        (
            ram("<pcihostbridge bus_num=\"16\" bus_count=\"1\" mem_base=\"0xf00000\"/>"),
            "line 2: node <pcihostbridge>, attribute \"mem_base\": 0xf00000 is outside 0x1000000..=0xfff00000",
        ),
        (ram(&"<vcpu/>".repeat(256)), "line 1: more than 255 nodes <vcpu>"),
        (machine(""), "node <mem>: no guest RAM configured"),
        (ram("text"), "line 1: unexpected text in <machine>"),
    ];
    expect_errors(&cases);
}

#[test]
fn mistakes_around_machines_are_named() {
    let cases = [
        (with("<florp/>"), "line 1: unknown node <florp> in <config>"),
        (
            "<config exit_stats=\"2\"/>".into(),
            "line 1: node <config>, attribute \"exit_stats\": \"2\" is none of yes, true, on, 1, no, false, off, 0",
        ),
        ("<config/>".into(), "node <machine> is missing in <config>"),
        ("<machine/>".into(), "line 1: top-level node is <machine> instead of <config>"),
        (with("<machine/>"), "line 1: node <machine> conflicts with an earlier <machine>"),
        (
            with("<linux kernel=\"k\"/><multiboot><rom name=\"k\"/></multiboot>"),
            "line 1: node <multiboot> conflicts with an earlier <linux>",
        ),
        (with("<linux/>"), "line 1: node <linux>, attribute \"kernel\": missing"),
        (with("<linux kernel=\"\"/>"), "line 1: node <linux>, attribute \"kernel\": empty"),
        (with("<multiboot/>"), "node <rom> is missing in <multiboot>"),
    ];
    expect_errors(&cases);
    let malformed = VmmConfig::parse("<config><machine>").unwrap_err().to_string();
    assert!(malformed.starts_with("configuration is not well-formed XML: "), "{malformed}");
    assert!(!malformed.contains('\n'));
}

#[test]
fn only_misopened_tags_are_mended() {
    assert_eq!(mend_empty_tag_openers("a <>b/> <> <>1"), "a <b/> <> <>1");
    assert_eq!(mend_empty_tag_openers("<a/>"), "<a/>");
}

proptest! {
    #[test]
    fn any_text_is_handled(cut in 0usize..SEED.len(), insert in "\\PC{0,8}") {
        let mut text = SEED.to_owned();
        text.insert_str(cut, &insert);
        let _ = VmmConfig::parse(&text);
        let _ = VmmConfig::parse(&SEED[..cut]);
    }
}
