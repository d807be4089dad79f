//! Differentiated System Description Table: the devices that cannot be enumerated (ACPI 5.2.11.1).

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed, Name, ONE, Package,
    PackageBuilder, ResourceTemplate, Scope, ZERO,
};
use acpi_tables::sdt::Sdt;
use device_models::acpi_pm::{PM1_CONTROL_BYTES, PM1_EVENT_BYTES};
use device_models::i8042;
use device_models::pci::hostbridge::CONFIG_PORTS;
use device_models::pmtimer::PM_TIMER_BYTES;
use device_models::rtc::RTC_PORTS;
use device_models::uart16550::UART_PORTS;

use super::{FixedHardware, MachineDescription, OEM_ID, OEM_REVISION, OEM_TABLE_ID, PciDescription, encode};
use crate::memory::MemoryRange;

const HEADER_BYTES: u32 = 36;
/// Revision 2 makes AML integers 64 bits wide.
const REVISION: u8 = 2;
/// The first of CONFIG_ADDRESS and CONFIG_DATA, which split the bridge's I/O window.
const PCI_CONFIG_PORT: u16 = 0xcf8;
const PCI_DEVICES: u32 = 32;
const PCI_PINS: u32 = 4;

/// The table.
pub(super) fn table(machine: &MachineDescription) -> Vec<u8> {
    let mut table = Sdt::new(*b"DSDT", HEADER_BYTES, REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(&soft_off(&machine.fixed));
    table.append_slice(&processors(machine));
    table.append_slice(&motherboard(machine));
    if let Some(pci) = &machine.pci {
        table.append_slice(&host_bridge(pci));
    }
    table.append_slice(&legacy_devices(machine));
    table.as_slice().to_vec()
}

/// `\_S5`: SLP_TYP values of the PM1a and PM1b control registers, and two reserved elements.
fn soft_off(fixed: &FixedHardware) -> Vec<u8> {
    let sleep_type = fixed.sleep_type_s5;
    let package = Package::new(vec![&sleep_type, &sleep_type, &ZERO, &ZERO]);
    encode(&Name::new("_S5_".into(), &package))
}

fn processors(machine: &MachineDescription) -> Vec<u8> {
    let mut children = Vec::new();
    for uid in 0..machine.apic_ids.len() as u32 {
        let hid = Name::new("_HID".into(), &"ACPI0007");
        let id = Name::new("_UID".into(), &uid);
        let path = format!("C{uid:03X}");
        children.extend(encode(&Device::new(path.as_str().into(), vec![&hid, &id])));
    }
    Scope::raw("_SB_".into(), children)
}

/// What belongs to no other device: fixed hardware and ECAM, which must not be given away.
fn motherboard(machine: &MachineDescription) -> Vec<u8> {
    let fixed = &machine.fixed;
    let event = port_range(fixed.pm1a_event, PM1_EVENT_BYTES);
    let control = port_range(fixed.pm1a_control, PM1_CONTROL_BYTES);
    let timer = fixed.pm_timer.map(|port| port_range(port, PM_TIMER_BYTES));
    let ecam = machine.pci.as_ref().and_then(ecam_window);
    let mut resources: Vec<&dyn Aml> = vec![&event, &control];
    resources.extend(timer.as_ref().map(|timer| timer as &dyn Aml));
    resources.extend(ecam.as_ref().map(|ecam| ecam as &dyn Aml));
    let hid = Name::new("_HID".into(), &EISAName::new("PNP0C02"));
    let crs = Name::new("_CRS".into(), &ResourceTemplate::new(resources));
    let device = Device::new("MBRD".into(), vec![&hid, &crs]);
    encode(&Scope::new("_SB_".into(), vec![&device]))
}

fn ecam_window(pci: &PciDescription) -> Option<Memory32Fixed> {
    let range = pci.ecam_range()?;
    Some(Memory32Fixed::new(true, u32::try_from(range.start).ok()?, u32::try_from(range.size()).ok()?))
}

fn port_range(first: u16, count: u16) -> IO {
    const ALIGNMENT: u8 = 1;
    IO::new(first, first, ALIGNMENT, count as u8)
}

fn host_bridge(pci: &PciDescription) -> Vec<u8> {
    let hid = Name::new("_HID".into(), &EISAName::new("PNP0A08"));
    let cid = Name::new("_CID".into(), &EISAName::new("PNP0A03"));
    let bus = Name::new("_BBN".into(), &pci.first_bus);
    let uid = Name::new("_UID".into(), &ZERO);
    let coherent = Name::new("_CCA".into(), &ONE);
    let crs = bridge_windows(pci);
    let prt = interrupt_routing(pci);
    let device = Device::new("PCI0".into(), vec![&hid, &cid, &bus, &uid, &coherent, &crs, &prt]);
    encode(&Scope::new("_SB_".into(), vec![&device]))
}

fn bridge_windows(pci: &PciDescription) -> Name {
    let buses = AddressSpace::new_bus_number(u16::from(pci.first_bus), u16::from(pci.last_bus));
    let config = port_range(PCI_CONFIG_PORT, CONFIG_PORTS);
    let low_ports = AddressSpace::new_io(0, PCI_CONFIG_PORT - 1, None);
    let high_ports = AddressSpace::new_io(PCI_CONFIG_PORT + CONFIG_PORTS, u16::MAX, None);
    let memory = memory_window(pci.memory_window);
    let high_memory = pci.high_memory_window.and_then(high_memory_window);
    let mut resources: Vec<&dyn Aml> = vec![&buses, &config, &low_ports, &high_ports];
    resources.extend(memory.as_ref().map(|window| window as &dyn Aml));
    resources.extend(high_memory.as_ref().map(|window| window as &dyn Aml));
    Name::new("_CRS".into(), &ResourceTemplate::new(resources))
}

fn memory_window(range: MemoryRange) -> Option<AddressSpace<u32>> {
    let first = u32::try_from(range.start).ok()?;
    let last = u32::try_from(range.end.checked_sub(1)?).ok()?;
    (first < last).then(|| AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, first, last, None))
}

fn high_memory_window(range: MemoryRange) -> Option<AddressSpace<u64>> {
    let last = range.end.checked_sub(1)?;
    (range.start < last).then(|| {
        let cacheable = AddressSpaceCacheable::NotCacheable;
        AddressSpace::new_memory(cacheable, true, range.start, last, None)
    })
}

/// `_PRT` (ACPI 6.2.13): every device and pin directly to a global system interrupt.
fn interrupt_routing(pci: &PciDescription) -> Name {
    /// Function part of an address: all functions.
    const ALL_FUNCTIONS: u32 = 0xffff;
    let mut table = PackageBuilder::new();
    for device in 0..PCI_DEVICES {
        for pin in 0..PCI_PINS {
            let interrupt = pci.interrupts[((device + pin) % PCI_PINS) as usize];
            let address = device << 16 | ALL_FUNCTIONS;
            let entry = Package::new(vec![&address, &pin, &ZERO, &interrupt]);
            table.add_element(&entry);
        }
    }
    Name::new("_PRT".into(), &table)
}

/// ISA devices, edge-triggered and active high.
fn legacy_devices(machine: &MachineDescription) -> Vec<u8> {
    let mut devices = Vec::new();
    for (number, serial) in (1u32..).zip(&machine.serial) {
        let path = format!("COM{number:X}");
        let ports = [port_range(serial.io_base, UART_PORTS)];
        devices.extend(isa_device(&path, "PNP0501", number, &ports, serial.irq));
    }
    if let Some(ps2) = &machine.ps2 {
        let command = ps2.io_base.wrapping_add(i8042::COMMAND_OFFSET);
        let ports = [port_range(ps2.io_base, 1), port_range(command, 1)];
        devices.extend(isa_device("KBD_", "PNP0303", 0, &ports, ps2.keyboard_irq));
        devices.extend(isa_device("MOU_", "PNP0F13", 0, &[], ps2.mouse_irq));
    }
    if let Some(rtc) = &machine.rtc {
        devices.extend(isa_device("RTC_", "PNP0B00", 0, &[port_range(rtc.io_base, RTC_PORTS)], rtc.irq));
    }
    Scope::raw("_SB_".into(), devices)
}

fn isa_device(path: &str, id: &str, uid: u32, ports: &[IO], irq: u8) -> Vec<u8> {
    let interrupt = Interrupt::new(true, true, false, false, irq.into());
    let mut resources: Vec<&dyn Aml> = ports.iter().map(|port| port as &dyn Aml).collect();
    resources.push(&interrupt);
    let hid = Name::new("_HID".into(), &EISAName::new(id));
    let uid = Name::new("_UID".into(), &uid);
    let crs = Name::new("_CRS".into(), &ResourceTemplate::new(resources));
    encode(&Device::new(path.into(), vec![&hid, &uid, &crs]))
}
