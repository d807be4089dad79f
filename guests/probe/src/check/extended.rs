//! XSAVE: what XCR0 takes and CPUID tells of it, and that vector registers survive exits.

use crate::report::{check, holds, section};
use crate::sys::exception::{NOTHING, Taken};
use crate::sys::extended::{self as cpu, PATTERN};
use crate::sys::instruction::cpuid;

const GENERAL_PROTECTION: Taken = Taken { vector: 13, error: 0 };
const UNDEFINED: Taken = Taken::plain(6);
const NONE: Taken = Taken::plain(NOTHING);

/// XCR0: x87, SSE, AVX (SDM vol. 1, 13.3).
const X87: u64 = 1 << 0;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
/// Legacy area and header of an XSAVE area; the same with AVX.
const SIZE: u32 = 576;
const SIZE_WITH_AVX: u32 = 832;
/// Exits between filling and looking.
const EXITS: u64 = 1000;

pub fn run() {
    section("extended state");
    let [_, _, features, _] = cpuid(1, 0);
    check("XSAVE and AVX, not enabled", (features >> 26 & 1, features >> 28 & 1, features >> 27 & 1), (1, 1, 0));
    check("XSETBV", cpu::set_xcr0(0, X87), UNDEFINED);
    check("VMOVDQU", cpu::use_avx(), UNDEFINED);
    cpu::enable();
    let [_, _, features, _] = cpuid(1, 0);
    check("enabled, as CPUID tells", features >> 27 & 1, 1);
    let supported = u64::from(cpuid(0xd, 0)[0]);
    check("x87, SSE and AVX can be had", supported & (X87 | SSE | AVX), X87 | SSE | AVX);
    check("x87 alone", (cpu::set_xcr0(0, X87), cpu::xcr0(), cpuid(0xd, 0)[1]), (NONE, X87, SIZE));
    check("VMOVDQU without its state", cpu::use_avx(), UNDEFINED);
    for (name, register, value) in [
        ("nothing", 0, 0),
        ("without x87", 0, SSE | AVX),
        ("a component that is none", 0, X87 | 1 << 62),
        ("XCR7", 7, X87),
    ] {
        check(name, (cpu::set_xcr0(register, value), cpu::xcr0()), (GENERAL_PROTECTION, X87));
    }
    let all = X87 | SSE | AVX;
    check("with AVX", (cpu::set_xcr0(0, all), cpu::xcr0(), cpuid(0xd, 0)[1]), (NONE, all, SIZE_WITH_AVX));
    check("VMOVDQU", cpu::use_avx(), NONE);
    check("registers after many exits", cpu::hold(EXITS), [PATTERN; 4 * 16]);
    check("all that there is", (cpu::set_xcr0(0, supported), cpu::xcr0()), (NONE, supported));
    cpu::disable();
    holds("not enabled any more", cpuid(1, 0)[2] >> 27 & 1 == 0);
}
