//! What runs in every exit, without the hypervisor: exit parsing, bus dispatch, page-table walk, decoding and emulation.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench that cannot be set up is to stop")]

use std::hint::black_box;
use std::ops::RangeInclusive;

use abi::event::EventWords;
use criterion::{Criterion, criterion_group, criterion_main};
use device_models::bus::port::{Lanes, PortAccess, PortBus, PortClaims};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm::emulator::{Bus, Emulator, NestedFault, Width};
use vmm::paging::{Access, AccessKind, translate, walk};
use vmm::state::{Cr0, Cr4, Efer, Gpr, Rflags, Segment, SegmentAttributes, SegmentRegister, VcpuState};
use vmm::vcpu::{Exit, Vendor};

type Memory = GuestMemoryMmap<()>;

/// Where the instruction lies, and where the device.
const CODE: u64 = 0x8000;
const DEVICE: u64 = 0xfec0_0010;

/// Memory with tables that map 4 KiB pages at `CODE` and in 1 GiB pages the rest.
fn memory() -> Memory {
    let memory = Memory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    const TABLE: u64 = 0x23;
    const LARGE: u64 = 0xe3;
    let tables = [(0x1000, 0x2000 | TABLE), (0x2000, 0x3000 | TABLE), (0x3000, 0x4000 | TABLE), (0x4040, CODE | TABLE)];
    for (at, entry) in tables.into_iter().chain((1..4).map(|index| (0x2000 + index * 8, index << 30 | LARGE))) {
        memory.write_obj(entry, GuestAddress(at)).unwrap();
    }
    memory
}

fn long_mode() -> VcpuState {
    let present = SegmentAttributes::PRESENT | SegmentAttributes::NOT_SYSTEM;
    let mut state = VcpuState {
        rip: CODE,
        rflags: Rflags::FIXED_1,
        cr0: Cr0::PE | Cr0::PG | Cr0::WP,
        cr3: 0x1000,
        cr4: Cr4::PAE,
        efer: Efer::LME | Efer::LMA,
        physical_address_bits: 40,
        ..VcpuState::default()
    };
    state.segments[SegmentRegister::Cs as usize] =
        Segment { attributes: present | SegmentAttributes::CODE | SegmentAttributes::LONG, ..Segment::default() };
    state.set_gpr(Gpr::Rbx, DEVICE);
    state
}

/// A device that answers nothing.
struct Silence;

impl Bus for Silence {
    fn read(&mut self, _: GuestAddress, _: Width) -> u64 {
        0
    }
    fn write(&mut self, _: GuestAddress, _: Width, _: u64) {}
    fn port_read(&mut self, _: u16, _: Width) -> u64 {
        0
    }
    fn port_write(&mut self, _: u16, _: Width, _: u64) {}
}

struct Uart;

impl PortClaims for Uart {
    const LANES: Lanes = Lanes::Byte;
    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        [0x3f8..=0x3ff]
    }
}

fn exits(criterion: &mut Criterion) {
    // OUT DX, AL to 3F8h.
    const IOIO: u64 = 0x7b;
    let words = EventWords { reason: IOIO, info1: 0x03f8_0010, info2: CODE, rip: CODE };
    criterion.bench_function("exit: parse", |bench| {
        bench.iter(|| Exit::of(Vendor::Svm, black_box(IOIO), black_box(&words)))
    });
    let mut ports = PortBus::new();
    ports.claim('u', &Uart).unwrap();
    let access = PortAccess::byte(0x3fd);
    criterion.bench_function("port bus: dispatch", |bench| {
        bench.iter(|| ports.read(black_box(access), |id, access| u32::from(access.port) ^ id as u32));
    });
}

fn walks(criterion: &mut Criterion) {
    let (memory, state) = (memory(), long_mode());
    let access = Access { kind: AccessKind::Fetch, user: false };
    criterion.bench_function("page tables: four levels", |bench| {
        bench.iter(|| translate(&memory, &state, black_box(CODE), access).unwrap());
    });
    let (_, path) = walk(&memory, &state, CODE, access).unwrap();
    criterion.bench_function("page tables: remembered walk", |bench| bench.iter(|| black_box(&path).is_unchanged()));
}

fn emulation(criterion: &mut Criterion) {
    let memory = memory();
    // MOV EAX, [RBX]
    memory.write_slice(&[0x8b, 0x03], GuestAddress(CODE)).unwrap();
    let fault = NestedFault { address: GuestAddress(DEVICE), write: false };
    let mut emulator = Emulator::new(&memory);
    let emulate = |emulator: &mut Emulator<'_, _>| {
        let mut state = long_mode();
        emulator.emulate(&mut state, &mut Silence, Some(fault), &[]).unwrap()
    };
    criterion
        .bench_function("emulator: read of a device, decoded before", |bench| bench.iter(|| emulate(&mut emulator)));
    criterion.bench_function("emulator: first read of a device", |bench| {
        bench.iter_batched_ref(|| Emulator::new(&memory), emulate, criterion::BatchSize::SmallInput);
    });
}

criterion_group!(benches, exits, walks, emulation);
criterion_main!(benches);
