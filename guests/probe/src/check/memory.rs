//! Memory that is not RAM: every kind of instruction that accesses it.

use crate::report::{check, section};
use crate::sys::memory::{self, BEFORE, Loads, MODIFY};
use crate::sys::{legacy, task};

/// Registers of the I/O APIC (82093AA data sheet, 3.1): the selector of one and the window onto it.
const SELECT: u64 = 0xfec0_0000;
const WINDOW: u64 = 0xfec0_0010;
/// Low half of the entry for input 1, whose line is not active: nothing is delivered, whatever the entry says.
const ENTRY: u32 = 0x12;
/// Configuration space of the PCI host bridge: vendor, device, and so on.
const BRIDGE: u64 = 0xe000_0000;
/// Its vendor and device.
const IDENTITY: u32 = 0x0008_1b36;
/// Where nobody is.
const NOBODY: u64 = 0xd000_0000;

pub fn run() {
    section("memory-mapped registers");
    loads();
    stores();
    modifications();
    strings();
    section("modes without 64-bit code");
    other_modes();
}

fn loads() {
    let ones = |bits: u32| u64::MAX << bits;
    let expected = Loads {
        plain: [ones(8) | 0x36, ones(16) | 0x1b36, u64::from(IDENTITY), u64::MAX],
        extended: [0x36, 0x1b36, 0x1b36],
        string: [ones(8) | 0x36, ones(16) | 0x1b36, u64::from(IDENTITY), u64::MAX],
        moved: [ones(8) | 0x36, ones(16) | 0x1b36, ones(32) | u64::from(IDENTITY), u64::MAX],
        pushed: u64::MAX,
        bit: 0,
        masked: u64::from(IDENTITY),
        conditional: [u64::from(IDENTITY), u64::from(u32::MAX)],
        doubled: u64::from(IDENTITY) << 1,
        divided: (1 << 32) % u64::from(IDENTITY) << 32 | (1 << 32) / u64::from(IDENTITY),
        lowest: 1,
    };
    let mut loads = memory::load(BRIDGE);
    // Configuration space has no accesses of 8 bytes.
    (loads.plain[3], loads.pushed) = (u64::MAX, u64::MAX);
    check("loads of every kind", loads, expected);
    let all_ones = memory::load(NOBODY);
    check("nobody there", (all_ones.plain, all_ones.bit), ([u64::MAX, u64::MAX, ones(32) >> 32, u64::MAX], 1));
}

fn stores() {
    let (mut written, mut count) = ([0; memory::STORES], 0);
    memory::store(SELECT, 0x1122_3344_5566_7713, || {
        if let Some(slot) = written.get_mut(count) {
            *slot = memory::read_dword(SELECT);
        }
        count += 1;
        memory::write_dword(SELECT, 0);
    });
    let mut expected = [0x13; memory::STORES];
    expected[4] = 0x15;
    check("stores of every kind", written, expected);
}

fn modifications() {
    let (mut changed, mut sizes, mut count) = ([0; 4], [0; 4], 0);
    memory::write_dword(SELECT, 0x12);
    memory::or_one(SELECT, |bytes| {
        if let (Some(slot), Some(size)) = (changed.get_mut(count), sizes.get_mut(count)) {
            (*slot, *size) = (memory::read_dword(SELECT), bytes);
        }
        count += 1;
        memory::write_dword(SELECT, 0x12);
    });
    check("read, changed and written in every size", (changed, sizes), ([0x13; 4], [1, 2, 4, 8]));
    for (index, (name, result)) in MODIFY.into_iter().enumerate() {
        memory::write_dword(SELECT, ENTRY);
        memory::write_dword(WINDOW, BEFORE);
        memory::write_dword(SELECT, ENTRY);
        memory::modify(index, WINDOW);
        check(name, memory::read_dword(WINDOW), result);
    }
}

fn strings() {
    let mut header = [0; 4];
    memory::copy(BRIDGE, &mut header);
    check("REP MOVSD", (header[0], header[2]), (IDENTITY, 0x0600_0000));
    check("REPNE SCASB", memory::length(BRIDGE, 16), 3);
    check("CMPSD", (memory::equals(BRIDGE, IDENTITY), memory::equals(BRIDGE, !IDENTITY)), (true, false));
    check("REP STOSD", memory::fill(NOBODY, 5), (0, 20));
}

fn other_modes() {
    let found = legacy::trip();
    check("no paging", found.unpaged, IDENTITY);
    check("real mode", (found.real_nobody, found.real_device), (u32::MAX, IDENTITY));
    check("CPUID there", found.real_cpuid.to_le_bytes(), *b"Kilo");
    check("PAE paging", found.pae_nobody, u32::MAX);
    check("with other page-directory pointers", found.pae_device, IDENTITY);
    check("which exits leave as they are", (found.cpuid.to_le_bytes(), found.pae_again), (*b"Kilo", IDENTITY));
    check("32-bit paging", found.paged, [IDENTITY, IDENTITY >> 16]);
    tasks(&found.tasks);
}

/// Task switches by hardware (SDM vol. 3, 8.3).
fn tasks(found: &task::Found) {
    const NESTED_TASK: u32 = 1 << 14;
    const TASK_SWITCHED: u32 = 1 << 3;
    check("a task that is called: NT", found.flags & NESTED_TASK, NESTED_TASK);
    check("CR0.TS", found.cr0 & TASK_SWITCHED, TASK_SWITCHED);
    check("its register, and the way back", (found.task, found.link), (task::CALLED, task::SELF));
    check("CPUID there", found.cpuid.to_le_bytes(), *b"Kilo");
    check("it goes on where it was", found.own, task::OWN);
    check("so does its caller", (found.callers, found.callers_flags & NESTED_TASK), (task::CALLERS, 0));
    check("a task that is jumped to", found.jumped_flags & NESTED_TASK, 0);
    check("#GP by a task, and its error code", (found.error_code, found.fault_link), (task::BEYOND, task::SELF));
}
