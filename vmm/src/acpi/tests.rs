use super::*;
use crate::config::VmmConfig;
use crate::memory::MemoryRange;

const BASE: u64 = 0x9_0000;
const ROOM: usize = 0x1_0000;

fn full() -> MachineDescription {
    let config = VmmConfig::parse(
        r#"<config><machine>
            <mem size="64M"/>
            <pic io_base="0x20" elcr_base="0x4d0"/>
            <kbc io_base="0x60" irq_kbd="1" irq_aux="12"/>
            <rtc io_base="0x70" irq="8"/>
            <serial io_base="0x3f8" irq="4" host_serial="0"/>
            <ioapic/>
            <pcihostbridge bus_num="0" bus_count="0x10" io_base="0xcf8" mem_base="0xe0000000"/>
            <pmtimer io_port="0x8000"/>
            <vcpu/><lapic/><vcpu/><lapic/>
        </machine></config>"#,
    );
    MachineDescription::of(&config.unwrap().machine)
}

fn generate(machine: &MachineDescription) -> AcpiTables {
    AcpiTables::generate(machine, BASE, ROOM).unwrap()
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn number<const N: usize>(table: &[u8], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes[..N].copy_from_slice(&table[offset..offset + N]);
    u64::from_le_bytes(bytes)
}

impl AcpiTables {
    /// The table at a guest-physical address, found like an operating system does.
    fn at(&self, address: u64) -> &[u8] {
        let offset = (address - self.base) as usize;
        let length = number::<4>(&self.bytes, offset + 4) as usize;
        &self.bytes[offset..offset + length]
    }

    fn xsdt(&self) -> &[u8] {
        self.at(number::<8>(&self.bytes, 24))
    }

    fn table(&self, signature: &[u8; 4]) -> Option<&[u8]> {
        self.xsdt()[36..]
            .chunks_exact(8)
            .map(|entry| self.at(number::<8>(entry, 0)))
            .find(|table| table.starts_with(signature))
    }

    fn fadt(&self) -> &[u8] {
        self.table(b"FACP").unwrap()
    }

    fn dsdt(&self) -> &[u8] {
        self.at(number::<8>(self.fadt(), 140))
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn every_table_is_found_and_sums_to_zero() {
    let tables = generate(&full());
    assert_eq!(&tables.bytes[..8], b"RSD PTR ");
    assert_eq!(checksum(&tables.bytes[..20]), 0);
    assert_eq!(checksum(&tables.bytes[..36]), 0);
    for table in
        [tables.xsdt(), tables.fadt(), tables.dsdt(), tables.table(b"APIC").unwrap(), tables.table(b"MCFG").unwrap()]
    {
        assert_eq!(checksum(table), 0, "{:?}", &table[..4]);
    }
    assert!(tables.dsdt().starts_with(b"DSDT"));
    let facs = number::<4>(tables.fadt(), 36);
    assert!(tables.at(facs).starts_with(b"FACS"));
    assert!(facs.is_multiple_of(64));
}

#[test]
fn the_fadt_names_the_fixed_hardware() {
    let tables = generate(&full());
    let fadt = tables.fadt();
    assert_eq!(fadt[8], 6, "revision");
    assert_eq!(number::<4>(fadt, 40), number::<8>(fadt, 140), "both DSDT pointers");
    assert_eq!(number::<2>(fadt, 46), 9, "SCI");
    assert_eq!(number::<4>(fadt, 48), 0, "no SMI command port");
    assert_eq!(number::<4>(fadt, 56), 0x600, "PM1a event");
    assert_eq!(number::<4>(fadt, 64), 0x604, "PM1a control");
    assert_eq!(number::<4>(fadt, 76), 0x8000, "PM timer");
    assert_eq!(fadt[88..92], [4, 2, 0, 4], "block lengths");
    assert_eq!(number::<2>(fadt, 109), 0b111, "legacy devices, 8042, no VGA; RTC present");
    assert_eq!(fadt[116..120], [1, 8, 0, 1], "reset register: 8-bit I/O port");
    assert_eq!((number::<8>(fadt, 120), fadt[128]), (0xcf9, 0x06));
    let hardware_reduced = 1 << 20;
    assert_eq!(number::<4>(fadt, 112) & hardware_reduced, 0);
}

#[test]
fn the_madt_lists_processors_and_overrides() {
    let tables = generate(&full());
    let madt = tables.table(b"APIC").unwrap();
    assert_eq!((number::<4>(madt, 36), number::<4>(madt, 40)), (0xfee0_0000, 1));
    let expected: &[&[u8]] = &[
        &[0, 8, 0, 0, 1, 0, 0, 0],
        &[0, 8, 1, 1, 1, 0, 0, 0],
        &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
        &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        &[2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0],
        &[4, 6, 0xff, 0, 0, 1],
    ];
    assert_eq!(madt[44..], expected.concat());
}

#[test]
fn large_apic_ids_have_x2apic_entries() {
    let mut machine = full();
    machine.apic_ids = vec![0, 255];
    let tables = generate(&machine);
    let madt = tables.table(b"APIC").unwrap();
    assert!(contains(madt, &[9, 16, 0, 0, 255, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]));
    assert!(contains(madt, &[10, 12, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0]));
}

#[test]
fn the_mcfg_is_there_with_an_ecam() {
    let tables = generate(&full());
    let mcfg = tables.table(b"MCFG").unwrap();
    assert_eq!(number::<8>(mcfg, 44), 0xe000_0000);
    assert_eq!(mcfg[52..56], [0, 0, 0, 15]);
    let mut machine = full();
    machine.pci = None;
    assert_eq!(generate(&machine).table(b"MCFG"), None);
}

/// The bridge has the registers of its first bus at `mem_base`, MCFG counts from bus 0.
#[test]
fn the_mcfg_finds_the_registers_of_buses_behind_the_first() {
    let bridge = r#"<pcihostbridge bus_num="16" bus_count="2" mem_base="0xe0000000"/>"#;
    let xml = format!("<config><machine><mem size=\"64M\"/>{bridge}</machine></config>");
    let tables = generate(&MachineDescription::of(&VmmConfig::parse(&xml).unwrap().machine));
    let mcfg = tables.table(b"MCFG").unwrap();
    assert_eq!(mcfg[52..56], [0, 0, 16, 17]);
    assert_eq!(number::<8>(mcfg, 44) + 16 * 0x10_0000, 0xe000_0000);
    // Memory32Fixed of the motherboard's resources.
    assert!(contains(tables.dsdt(), &[0x86, 9, 0, 1, 0, 0, 0, 0xe0, 0, 0, 0x20, 0]));
}

#[test]
fn the_dsdt_has_the_devices_of_the_machine() {
    let tables = generate(&full());
    let dsdt = tables.dsdt();
    let names: &[&[u8; 4]] = &[b"PCI0", b"_PRT", b"_CRS", b"COM1", b"KBD_", b"MOU_", b"RTC_", b"C001", b"MBRD"];
    for name in names {
        assert!(contains(dsdt, *name), "{name:?}");
    }
    assert!(contains(dsdt, &[b'_', b'S', b'5', b'_', 0x12, 8, 4, 0x0a, 5, 0x0a, 5, 0, 0]));
    let bare = generate(&MachineDescription::bare());
    for name in [b"PCI0", b"COM1", b"KBD_", b"RTC_", b"C001"] {
        assert!(!contains(bare.dsdt(), name), "{name:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let machine = full();
    assert_eq!(AcpiTables::generate(&machine, BASE + 8, ROOM), Err(AcpiError::BadBase(BASE + 8)));
    let high = 1 << 32;
    assert_eq!(AcpiTables::generate(&machine, high, ROOM), Err(AcpiError::BadBase(high)));
    let need = generate(&machine).bytes.len();
    assert!(AcpiTables::generate(&machine, BASE, need).is_ok());
    let error = AcpiTables::generate(&machine, BASE, need - 1);
    assert_eq!(error, Err(AcpiError::TooLarge { need, room: need - 1 }));
}

/// Disassembles all tables with ACPICA's `iasl`, and compiles them again.
#[test]
fn iasl_accepts_the_tables() {
    let mut machine = full();
    if let Some(pci) = &mut machine.pci {
        pci.high_memory_window = Some(MemoryRange { start: 1 << 40, end: 1 << 41 });
    }
    let tables = generate(&machine);
    let directory = std::env::temp_dir().join(format!("acpi-tables-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for (name, table) in [
        ("dsdt", tables.dsdt()),
        ("facp", tables.fadt()),
        ("apic", tables.table(b"APIC").unwrap()),
        ("mcfg", tables.table(b"MCFG").unwrap()),
    ] {
        std::fs::write(directory.join(name).with_extension("aml"), table).unwrap();
        let iasl = |argument: &str, file: &str| {
            let run = std::process::Command::new("iasl").args([argument, file]).current_dir(&directory).output();
            let run = run.expect("iasl (Debian's package acpica-tools, which `./x setup` installs) cannot be run");
            (
                run.status.success(),
                String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout),
            )
        };
        let (success, output) = iasl("-d", &format!("{name}.aml"));
        assert!(success && !output.contains("Error"), "{name}: {output}");
        let (success, output) = iasl("-ve", &format!("{name}.dsl"));
        assert!(success && output.contains("0 Errors"), "{name}: {output}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
