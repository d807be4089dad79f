//! The few facts that ring 0 needs from ACPI (6.5): CPUs and I/O APICs from the MADT, PM timer, sleep and reset registers
//! from the FADT. Everything else is for user level.

use super::info::List;
use super::multiboot::Memory;

/// Facts from the tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Physical address of the root pointer.
    pub rsdp: u64,
    /// APIC ids of usable CPUs, in table order.
    pub cpus: List<u32, 255>,
    /// I/O APICs: address, first interrupt.
    pub ioapics: List<(u32, u32), 16>,
    /// Port of the PM timer; 0 if there is none.
    pub pm_timer: u16,
    /// Ports of PM1a and PM1b control.
    pub pm1_control: [u16; 2],
    /// Port and value of the reset register, if it is in I/O space.
    pub reset: Option<(u16, u8)>,
}

/// Byte offsets in the root pointer (5.2.5.3).
mod rsdp {
    pub const REVISION: u64 = 15;
    pub const RSDT: u64 = 16;
    pub const XSDT: u64 = 24;
}

/// Byte offsets in the FADT (5.2.9), and the address space id of I/O ports (5.2.3.2).
mod fadt {
    pub const PM1A_CONTROL: u64 = 64;
    pub const PM1B_CONTROL: u64 = 68;
    pub const PM_TIMER: u64 = 76;
    pub const FLAGS: u64 = 112;
    pub const FLAG_RESET: u32 = 1 << 10;
    pub const RESET_REGISTER: u64 = 116;
    pub const RESET_VALUE: u64 = 128;
    pub const SPACE_IO: u8 = 1;
}

/// Structure types of the MADT (5.2.12) and the "enabled" flag.
mod madt {
    pub const FIRST: u64 = 44;
    pub const LAPIC: u8 = 0;
    pub const IOAPIC: u8 = 1;
    pub const X2APIC: u8 = 9;
    pub const ENABLED: u32 = 1;
}

const HEADER: u64 = 36;
const LENGTH: u64 = 4;

/// Looks for the root pointer where a BIOS puts it (5.2.5.1).
fn find_rsdp(memory: &impl Memory) -> Option<u64> {
    let ebda = u64::from(u16::from_le_bytes(memory.bytes(0x40e, 2)?.try_into().ok()?)) << 4;
    let areas = [(ebda, 1024), (0xe_0000, 0x2_0000)];
    areas.into_iter().find_map(|(start, len)| {
        (start..start + len)
            .step_by(16)
            .find(|&at| memory.bytes(at, 8) == Some(b"RSD PTR ") && sum(memory, at, 20) == Some(0))
    })
}

fn sum(memory: &impl Memory, at: u64, len: u64) -> Option<u8> {
    Some(memory.bytes(at, len)?.iter().fold(0, |sum: u8, b| sum.wrapping_add(*b)))
}

/// Collects the facts. `rsdp` is the loader's copy of the root pointer, or 0. `None` if there are no tables.
pub fn parse(memory: &impl Memory, rsdp: u64) -> Option<Facts> {
    let at = if rsdp == 0 { find_rsdp(memory)? } else { rsdp };
    let mut facts = Facts { rsdp: at, ..Facts::default() };
    let extended = memory.bytes(at + rsdp::REVISION, 1)?[0] >= 2;
    let (root, entry) = match extended.then(|| memory.u64(at + rsdp::XSDT)).flatten() {
        Some(xsdt) if xsdt != 0 => (xsdt, 8),
        _ => (u64::from(memory.u32(at + rsdp::RSDT)?), 4),
    };
    let len = u64::from(memory.u32(root + LENGTH)?);
    for slot in (root + HEADER..root.checked_add(len)?).step_by(entry) {
        let table = if entry == 8 { memory.u64(slot) } else { memory.u32(slot).map(u64::from) }.unwrap_or(0);
        match memory.bytes(table, 4) {
            Some(b"APIC") => parse_madt(memory, table, &mut facts).unwrap_or(()),
            Some(b"FACP") => parse_fadt(memory, table, &mut facts).unwrap_or(()),
            _ => {}
        }
    }
    Some(facts)
}

fn parse_madt(memory: &impl Memory, table: u64, facts: &mut Facts) -> Option<()> {
    let end = table + u64::from(memory.u32(table + LENGTH)?);
    let mut at = table + madt::FIRST;
    while at + 2 <= end {
        let head = memory.bytes(at, 2)?;
        let (kind, len) = (head[0], u64::from(head[1]).max(2));
        match kind {
            madt::LAPIC if memory.u32(at + 4)? & madt::ENABLED != 0 => {
                facts.cpus.push(u32::from(memory.bytes(at + 3, 1)?[0]));
            }
            madt::X2APIC if memory.u32(at + 8)? & madt::ENABLED != 0 => {
                let id = memory.u32(at + 4)?;
                if !facts.cpus.as_slice().contains(&id) {
                    facts.cpus.push(id);
                }
            }
            madt::IOAPIC => {
                facts.ioapics.push((memory.u32(at + 4)?, memory.u32(at + 8)?));
            }
            _ => {}
        }
        at += len;
    }
    Some(())
}

fn parse_fadt(memory: &impl Memory, table: u64, facts: &mut Facts) -> Option<()> {
    let len = u64::from(memory.u32(table + LENGTH)?);
    facts.pm1_control =
        [memory.u32(table + fadt::PM1A_CONTROL)? as u16, memory.u32(table + fadt::PM1B_CONTROL)? as u16];
    facts.pm_timer = memory.u32(table + fadt::PM_TIMER)? as u16;
    // Old, short tables have no reset register.
    if len > fadt::RESET_VALUE && memory.u32(table + fadt::FLAGS)? & fadt::FLAG_RESET != 0 {
        let space = memory.bytes(table + fadt::RESET_REGISTER, 1)?[0];
        let port = memory.u64(table + fadt::RESET_REGISTER + 4)?;
        if space == fadt::SPACE_IO {
            facts.reset = Some((u16::try_from(port).ok()?, memory.bytes(table + fadt::RESET_VALUE, 1)?[0]));
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Ram(Vec<u8>);

    impl Memory for Ram {
        fn bytes(&self, at: u64, len: u64) -> Option<&[u8]> {
            self.0.get(usize::try_from(at).ok()?..usize::try_from(at.checked_add(len)?).ok()?)
        }
    }

    impl Ram {
        fn put(&mut self, at: usize, bytes: &[u8]) {
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
        }

        fn table(&mut self, at: usize, signature: &[u8], len: u32) {
            self.put(at, signature);
            self.put(at + 4, &len.to_le_bytes());
        }
    }

    /// Root pointer at 0xe0010, RSDT at 0x1000, MADT at 0x2000, FADT at 0x3000.
    fn machine() -> Ram {
        let mut ram = Ram(vec![0; 0x10_0000]);
        ram.put(0xe_0010, b"RSD PTR ");
        ram.put(0xe_0010 + 16, &0x1000u32.to_le_bytes());
        let sum = ram.0[0xe_0010..0xe_0024].iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
        ram.0[0xe_0010 + 8] = 0u8.wrapping_sub(sum);
        ram.table(0x1000, b"RSDT", 36 + 8);
        ram.put(0x1000 + 36, &0x2000u32.to_le_bytes());
        ram.put(0x1000 + 40, &0x3000u32.to_le_bytes());
        ram.table(0x2000, b"APIC", 44 + 8 + 8 + 12);
        ram.put(0x2000 + 44, &[0, 8, 0, 5, 1, 0, 0, 0]);
        ram.put(0x2000 + 52, &[0, 8, 0, 6, 0, 0, 0, 0]); // not enabled
        ram.put(0x2000 + 60, &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 24, 0, 0, 0]);
        // Shorter than the reset register, as on one emulator.
        ram.table(0x3000, b"FACP", 116);
        ram.put(0x3000 + 64, &0x604u32.to_le_bytes());
        ram.put(0x3000 + 76, &0x608u32.to_le_bytes());
        ram
    }

    #[test]
    fn facts_of_a_small_machine() {
        let facts = parse(&machine(), 0).unwrap();
        assert_eq!(facts.rsdp, 0xe_0010);
        assert_eq!(facts.cpus.as_slice(), [5]);
        assert_eq!(facts.ioapics.as_slice(), [(0xfec0_0000, 24)]);
        assert_eq!((facts.pm1_control[0], facts.pm_timer, facts.reset), (0x604, 0x608, None));
    }

    proptest! {
        #[test]
        fn damaged_tables_are_survived(at in 0x1000usize..0x3100, bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            let mut ram = machine();
            ram.put(at, &bytes);
            let _ = parse(&ram, 0);
        }
    }
}
