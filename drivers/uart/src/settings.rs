//! The `<uart>` nodes of the configuration, and which of them a client gets.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use runtime::Error;
use runtime::config::{self, Node, number};

use crate::ns16550::Divisor;

/// One UART.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uart {
    /// Name that policies use.
    pub name: String,
    /// First I/O port.
    pub io_port_base: u16,
    /// Interrupt number.
    pub irq: u32,
    /// From the baud rate.
    pub divisor: Divisor,
}

/// All UARTs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    uarts: Vec<Uart>,
}

impl Settings {
    /// Reads the configuration.
    ///
    /// # Errors
    /// It is no XML, or a `<uart>` lacks an attribute or has one out of range.
    pub fn read(config: &str) -> Result<Self, Error> {
        let uarts: Result<Vec<_>, Error> = config::read(config, |config| {
            config.children().filter(|node| node.has_tag_name("uart")).map(read_uart).collect()
        })?;
        uarts.map(|uarts| Self { uarts })
    }

    /// The UARTs in the order of the configuration.
    pub fn uarts(&self) -> &[Uart] {
        &self.uarts
    }
}

fn read_uart(node: Node<'_, '_>) -> Result<Uart, Error> {
    const DEFAULT_BAUD: u64 = 115_200;
    let name = node.attribute("name").ok_or_else(|| Error::input("<uart> without name"))?;
    let wrong = |attribute| Error::Input(format!("<uart name=\"{name}\">: {attribute} missing or wrong"));
    let baud = if node.has_attribute("baud") { number(node, "baud") } else { Some(DEFAULT_BAUD) };
    let narrow = |attribute| number(node, attribute).ok_or_else(|| wrong(attribute));
    Ok(Uart {
        name: name.into(),
        io_port_base: u16::try_from(narrow("io_port_base")?).map_err(|_| wrong("io_port_base"))?,
        irq: u32::try_from(narrow("irq")?).map_err(|_| wrong("irq"))?,
        divisor: baud.and_then(Divisor::for_baud).ok_or_else(|| wrong("baud"))?,
    })
}

/// Name of the UART that the configuration gives to the client with this label.
pub fn uart_for(config: &str, label: &str) -> Option<String> {
    config::read(config, |config| Some(config::policy(config, label)?.attribute("uart")?.into())).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"<config>
        <uart name="com1" io_port_base="0x3f8" irq="4"/>
        <uart name="com2" io_port_base="0x2f8" irq="3" baud="9600"/>
        <policy label_prefix="vmm" uart="com1"/><policy label="log" uart="com2"/>
    </config>"#;

    #[test]
    fn uarts_and_policies_are_read() {
        let settings = Settings::read(CONFIG).unwrap();
        let [com1, com2] = settings.uarts() else { unreachable!() };
        assert_eq!((com1.io_port_base, com1.irq, com1.divisor.value()), (0x3f8, 4, 1));
        assert_eq!((com2.name.as_str(), com2.divisor.value()), ("com2", 12));
        assert_eq!(uart_for(CONFIG, "vmm -> serial").as_deref(), Some("com1"));
        assert_eq!(uart_for(CONFIG, "log").as_deref(), Some("com2"));
        assert_eq!(uart_for(CONFIG, "other"), None);
    }

    #[test]
    fn wrong_ones_are_refused() {
        for uart in [
            "<uart/>",
            r#"<uart name="a" irq="4"/>"#,
            r#"<uart name="a" io_port_base="0x10000" irq="4"/>"#,
            r#"<uart name="a" io_port_base="0x3f8" irq="4" baud="0"/>"#,
            r#"<uart name="a" io_port_base="0x3f8" irq="4" baud="x"/>"#,
        ] {
            assert!(Settings::read(&format!("<config>{uart}</config>")).is_err(), "{uart}");
        }
        assert!(Settings::read("<config>").is_err());
        assert_eq!(Settings::read("").unwrap().uarts(), []);
    }
}
