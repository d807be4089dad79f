//! Port I/O.

use crate::report::{check, section};
use crate::sys::port;

/// PCI configuration mechanism #1, with the host bridge's registers selected.
const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const HOST_BRIDGE: u32 = 1 << 31;
/// Vendor and device of the host bridge.
const IDENTITY: u32 = 0x0008_1b36;

pub fn run() {
    section("ports");
    port::write_dword(ADDRESS, HOST_BRIDGE);
    const BEFORE: u64 = 0x1122_3344_5566_7788;
    let expected = [0x1122_3344_5566_7736, 0x1122_3344_5566_1b36, u64::from(IDENTITY)];
    check("IN of every size", port::read_all(DATA, BEFORE), expected);
    let mut words = [0; 3];
    port::read_string(DATA, &mut words);
    check("REP INSD", words, [IDENTITY; 3]);
    port::read_string(DATA, &mut []);
    check("REP OUTSB", port::write_string(0x80, b"nobody reads this"), 0);
    let [byte, ..] = port::read_all(0x1234, 0);
    check("nobody there", byte, 0xff);
}
