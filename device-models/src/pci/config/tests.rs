use super::*;
use crate::bus::pci::Bdf;
use crate::bus::port::PortSize;
use proptest::prelude::*;

const IDENTITY: Identity =
    Identity { vendor: 0x1af4, device: 0x1041, revision: 1, class: 0x02_0000, subsystem_vendor: 0x1af4, subsystem: 1 };

fn at(offset: u16, size: PortSize) -> ConfigAccess {
    ConfigAccess { bdf: Bdf::new(0, 1, 0), offset, size }
}

fn dword(offset: u16) -> ConfigAccess {
    at(offset, PortSize::Dword)
}

#[test]
fn identity_is_read_only() {
    let mut space = ConfigSpace::new(&IDENTITY);
    space.write(dword(0), 0);
    assert_eq!(space.read(dword(0)), 0x1041_1af4);
    assert_eq!(space.read(at(0x0a, PortSize::Word)), 0x0200);
    assert_eq!(space.read(at(0x2e, PortSize::Word)), 1);
    assert_eq!(space.read(dword(0x100)), 0);
}

#[test]
fn bars_size_themselves() {
    let mut space = ConfigSpace::new(&IDENTITY);
    space.add_bar(0, Bar::Io, 32).unwrap();
    space.add_bar(1, Bar::Memory32, 4096).unwrap();
    space.add_bar(4, Bar::Memory64 { prefetchable: true }, 1 << 33).unwrap();
    assert_eq!(space.add_bar(5, Bar::Memory32, 16), Err(LayoutError::NoBar));
    assert_eq!(space.add_bar(2, Bar::Memory32, 24), Err(LayoutError::BarSize));
    for (offset, size) in [(0x10, 0xffff_ffe1), (0x14, 0xffff_f000), (0x18, 0), (0x20, 0xc), (0x24, 0xffff_fffe)] {
        space.write(dword(offset), u32::MAX);
        assert_eq!(space.read(dword(offset)), size, "{offset:#x}");
    }
    space.assign_bar(4, Gpa(0x40_0000_0000));
    assert_eq!(space.bar(4), Some(Gpa(0x40_0000_0000)));
    assert_eq!(space.bar(2), None);
}

#[test]
fn capabilities_form_a_list() {
    let mut space = ConfigSpace::new(&IDENTITY);
    assert_eq!(space.read(at(6, PortSize::Word)) & 0x10, 0);
    space.add_capability(0x09, &[(0x0010_0000, 0), (7, u32::MAX)]).unwrap();
    space.add_capability(0x11, &[(0, u32::MAX)]).unwrap();
    space.write(dword(0x48), 0xabcd_ffff);
    assert_eq!(space.read(at(6, PortSize::Word)) & 0x10, 0x10);
    assert_eq!(space.read(at(0x34, PortSize::Byte)), 0x40);
    assert_eq!(space.read(dword(0x40)), 0x0010_4809);
    assert_eq!(space.read(dword(0x48)), 0xabcd_0011, "links are read-only");
    assert_eq!(space.add_capability(9, &[(0, 0); 46]), Err(LayoutError::Full));
}

#[test]
fn command_gates_intx() {
    let mut space = ConfigSpace::new(&IDENTITY);
    space.set_interrupt(1, 11);
    assert!(space.set_intx(true));
    assert_eq!(space.read(at(6, PortSize::Word)) & 8, 8);
    space.write(at(4, PortSize::Word), 0xffff);
    assert_eq!(space.read(at(4, PortSize::Word)), 0x407);
    assert!(!space.set_intx(true));
    assert!(space.memory_enabled() && space.io_enabled() && space.bus_master());
}

proptest! {
    #[test]
    fn writes_reach_writable_bits_only(writes in proptest::collection::vec((0u16..4096, any::<u32>(), 0usize..3), 0..100)) {
        let mut space = ConfigSpace::new(&IDENTITY);
        space.add_bar(0, Bar::Memory64 { prefetchable: false }, 4096).unwrap();
        let before = space.clone();
        for (offset, value, size) in writes {
            let size = [PortSize::Byte, PortSize::Word, PortSize::Dword][size];
            space.write(at(offset & !(size.bytes() - 1), size), value);
        }
        for i in 0..DWORDS {
            prop_assert_eq!(space.values[i] & !space.writable[i], before.values[i] & !before.writable[i]);
        }
    }
}
