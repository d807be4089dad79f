//! A machine without a hypervisor, for tests.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::num::NonZeroU64;
use std::rc::Rc;

use abi::event::{EventWords, guest};
use abi::hip::Features;
use abi::session::log::LINE_MAX;
use abi::state::{ArchState, Mtd};
use device_models::rtc::UnixSeconds;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::config::VmmConfig;
use crate::cpuid::{CpuidPolicy, CpuidRegisters, GuestCpuid, HostLeaf};
use crate::kernel::Kernel;
use crate::state::{Cr0, Cr4, Efer, Rflags, SegmentAttributes, SegmentRegister, VcpuState, Xcr0};
use crate::vcpu::{Traits, Vcpu, selection};
use crate::vm::{Parts, Vm};

/// What the kernel was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Wait(usize, Option<u64>),
    Wake(usize),
    Recall(usize),
    SelectRecall(usize, Mtd),
    Attend,
    Log(String),
}

/// Something that happens while everybody waits.
type Incident = Box<dyn FnOnce()>;

/// A kernel that does nothing but keep the state and remember what it was asked for.
#[derive(Default)]
pub(crate) struct FakeKernel {
    pub(crate) state: RefCell<ArchState>,
    pub(crate) now: Cell<u64>,
    asked: RefCell<Vec<Asked>>,
    incidents: RefCell<Vec<Incident>>,
}

impl FakeKernel {
    /// What was asked for since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.take()
    }

    /// Lets something happen the next time that somebody waits; the last one first.
    pub(crate) fn when_waiting(&self, incident: impl FnOnce() + 'static) {
        self.incidents.borrow_mut().push(Box::new(incident));
    }

    fn note(&self, asked: Asked) {
        self.asked.borrow_mut().push(asked);
    }
}

impl Kernel for FakeKernel {
    fn now(&self) -> u64 {
        self.now.get()
    }
    fn with_state<R>(&self, access: impl FnOnce(&mut ArchState) -> R) -> R {
        access(&mut self.state.borrow_mut())
    }
    fn wait(&self, vcpu: usize, deadline: Option<u64>) {
        self.note(Asked::Wait(vcpu, deadline));
        let incident = self.incidents.borrow_mut().pop();
        match (incident, deadline) {
            (Some(incident), _) => incident(),
            (None, Some(deadline)) => self.now.set(self.now.get().max(deadline)),
            (None, None) => panic!("vCPU {vcpu} waits for ever"),
        }
    }
    fn wake(&self, vcpu: usize) {
        self.note(Asked::Wake(vcpu));
    }
    fn recall(&self, vcpu: usize) {
        self.note(Asked::Recall(vcpu));
    }
    fn select_recall(&self, vcpu: usize, selection: Mtd) {
        self.note(Asked::SelectRecall(vcpu, selection));
    }
    fn attend(&self) {
        self.note(Asked::Attend);
    }
    fn log_use(&self) {}
    fn log(&self, line: fmt::Arguments<'_>) {
        let line = line.to_string();
        assert!(line.len() <= LINE_MAX, "the log breaks this: {line}");
        self.note(Asked::Log(line));
        *self.state.borrow_mut() = rubbish();
    }
}

pub(crate) type Memory = GuestMemoryMmap<()>;
pub(crate) type Machine = Vm<FakeKernel, Memory>;

/// Where the guest's code is.
pub(crate) const CODE: u64 = 0x8000;
pub(crate) const TSC_HZ: u64 = 1_000_000_000;
/// The host's TSC when the machine is switched on.
pub(crate) const ORIGIN: u64 = 5_000_000_000;

/// Every device there is.
pub(crate) const DEVICES: &str = r#"
    <mem start="0" end="0xa0000"/>
    <nullio io_base="0x80"/>
    <pic io_base="0x20" elcr_base="0x4d0"/>
    <pic io_base="0xa0" irq="2" elcr_base="0x4d1"/>
    <pit io_base="0x40" irq="0"/>
    <scp io_port_a="0x92" io_port_b="0x61"/>
    <kbc io_base="0x60" irq_kbd="1" irq_aux="12"/> <keyb ps2_port="0" host_keyboard="1"/> <mouse ps2_port="1" host_mouse="2"/>
    <rtc io_base="0x70" irq="8"/>
    <serial io_base="0x3f8" irq="4" host_serial="0x4711"/>
    <msi/> <ioapic/>
    <pcihostbridge bus_num="0" bus_count="16" io_base="0xcf8" mem_base="0xe0000000"/>
    <pmtimer io_port="0x8000"/>"#;

/// A configuration with so many CPUs, and attributes of the top node.
pub(crate) fn config(vcpus: usize, attributes: &str) -> VmmConfig {
    let cpus = "<vcpu/><halifax/><lapic/>".repeat(vcpus);
    let xml = format!("<config {attributes}><machine>{DEVICES}{cpus}</machine></config>");
    VmmConfig::parse(&xml).unwrap()
}

/// 64-bit mode with linear equal to physical addresses below 4 GiB, at [`CODE`].
pub(crate) fn long_mode() -> VcpuState {
    let mut state = VcpuState {
        rip: CODE,
        rflags: Rflags::FIXED_1,
        cr0: Cr0::PE | Cr0::PG | Cr0::WP,
        cr3: 0x1000,
        cr4: Cr4::PAE,
        efer: Efer::LME | Efer::LMA | Efer::NXE,
        physical_address_bits: 40,
        ..VcpuState::default()
    };
    state.segments[SegmentRegister::Cs as usize].attributes = SegmentAttributes::LONG;
    state
}

/// RAM from 0 on, with the page tables of [`long_mode`].
pub(crate) fn memory(size: usize) -> Memory {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), size)]).unwrap();
    // One table of 1 GiB pages.
    memory.write_obj(0x2003_u64, GuestAddress(0x1000)).unwrap();
    for index in 0..4_u64 {
        let entry = GuestAddress(0x2000 + index * 8);
        memory.write_obj(index << 30 | 0x83, entry).unwrap();
    }
    memory
}

/// Where the loader counts.
const LOADS: GuestAddress = GuestAddress(0x7000);

/// How often the loader has filled this memory.
pub(crate) fn loads(memory: &Memory) -> u64 {
    memory.read_obj(LOADS).unwrap()
}

/// A machine that is switched on. It lives for ever, as that of a component does.
pub(crate) fn machine(vcpus: usize, attributes: &str) -> &'static Machine {
    let kernel = FakeKernel::default();
    kernel.now.set(ORIGIN);
    let parts = Parts {
        kernel,
        memory: memory(0xa_0000),
        tsc_hz: NonZeroU64::new(TSC_HZ).unwrap(),
        wall_clock: UnixSeconds(0),
        loader: Box::new(|memory: &Memory| {
            let loads = loads(memory);
            memory.write_obj(loads + 1, LOADS).unwrap();
            Ok(long_mode())
        }),
    };
    Box::leak(Box::new(Vm::new(config(vcpus, attributes), parts).unwrap()))
}

/// A virtual CPU under test, which keeps what is taken back from its handler.
pub(crate) struct Guest {
    pub(crate) vm: &'static Machine,
    pub(crate) vcpu: Vcpu<'static, FakeKernel, Memory>,
    /// The state of the CPU; an exit delivers from here, and a reply is taken back to here.
    pub(crate) state: ArchState,
    /// What recall events deliver.
    recall: Rc<Cell<Mtd>>,
    features: Features,
}

const TRAITS: Traits =
    Traits { features: Features::SVM, xcr0: Xcr0::X87.union(Xcr0::SSE).union(Xcr0::AVX), physical_address_bits: 40 };

/// CPUID of the host: all bits set, but some in EDX of leaf 8000_0001h.
fn cpuid(missing: u32) -> GuestCpuid {
    let registers = CpuidRegisters { eax: !0, ebx: !0, ecx: !0, edx: !0 };
    let host = [(0, !0), (1, !0), (0x8000_0000, !0), (0x8000_0001, !missing)].map(|(leaf, edx)| HostLeaf {
        leaf,
        subleaf: 0,
        registers: CpuidRegisters { edx, ..registers },
    });
    let policy = CpuidPolicy {
        apic_id: 0,
        cpu_count: 1,
        tsc_khz: 1_000_000,
        lapic_khz: 1_000_000,
        xcr0: TRAITS.xcr0,
        pcid: false,
        x2apic: true,
        tsc_deadline: true,
        tsc_aux: true,
    };
    GuestCpuid::new(&host, &policy)
}

impl Guest {
    /// Virtual CPU `index` of `vm`, before its first exit.
    pub(crate) fn new(vm: &'static Machine, index: usize, features: Features) -> Self {
        Self::without(0, vm, index, features)
    }

    /// The same on a CPU that lacks some of the features in leaf 8000_0001h, EDX.
    pub(crate) fn without(missing: u32, vm: &'static Machine, index: usize, features: Features) -> Self {
        let traits = Traits { features, ..TRAITS };
        Guest {
            vm,
            vcpu: Vcpu::new(vm, index, cpuid(missing), traits),
            state: ArchState::default(),
            recall: Rc::new(Cell::new(selection(guest::RECALL, features))),
            features,
        }
    }

    /// The only CPU of a machine, started.
    pub(crate) fn started(attributes: &str) -> Self {
        Self::started_on(Features::SVM, attributes)
    }

    /// The same on a CPU with these features.
    pub(crate) fn started_on(features: Features, attributes: &str) -> Self {
        let mut guest = Self::new(machine(1, attributes), 0, features);
        assert!(guest.exit(guest::STARTUP, 0, 0).contains(Mtd::GPR | Mtd::CR));
        guest.kernel().asked();
        guest
    }

    pub(crate) fn kernel(&self) -> &'static FakeKernel {
        self.vm.kernel()
    }

    /// An exit: delivers the state that its portal selects, and takes back what the handler says.
    pub(crate) fn exit(&mut self, number: u64, info1: u64, info2: u64) -> Mtd {
        let selected = if number == guest::RECALL { self.recall.get() } else { selection(number, self.features) };
        let words = EventWords { reason: number, info1, info2, rip: self.state.rip };
        // What is not selected holds rubbish, such as the last message.
        let mut delivered = rubbish();
        copy(&mut delivered, &self.state, selected);
        *self.kernel().state.borrow_mut() = delivered;
        let taken = self.vcpu.handle(number, selected, words);
        let reply = *self.kernel().state.borrow();
        // EVENTINJ is cleared by each exit but a recall, before which the guest was not entered.
        if number != guest::RECALL {
            self.state.injection = abi::state::Injection::NONE;
        }
        copy(&mut self.state, &reply, taken);
        if taken.contains(Mtd::INJ) {
            self.state.injection = reply.injection;
        }
        for asked in self.kernel().asked.borrow().iter() {
            if let Asked::SelectRecall(_, selection) = asked {
                self.recall.set(*selection);
            }
        }
        taken
    }

    /// Puts an instruction at the instruction pointer.
    pub(crate) fn code(&self, bytes: &[u8]) {
        self.vm.memory.write_slice(bytes, GuestAddress(self.state.rip)).unwrap();
    }

    /// `mov [rdi], eax` to device memory.
    pub(crate) fn mmio_write(&mut self, address: u64, value: u32) -> Mtd {
        self.state.rip = CODE;
        self.code(&[0x89, 0x07]);
        self.state.gpr[abi::state::gpr::RDI] = address;
        self.state.gpr[abi::state::gpr::RAX] = value.into();
        self.exit(guest::NESTED_FAULT, 1 << 32 | 1 << 1, address)
    }

    /// `out dx, al`.
    pub(crate) fn outb(&mut self, port: u16, value: u8) -> Mtd {
        self.state.gpr[abi::state::gpr::RAX] = value.into();
        let next = self.state.rip + 1;
        self.exit(exits::IOIO, u64::from(port) << 16 | 1 << 4, next)
    }

    /// `in al, dx`.
    pub(crate) fn inb(&mut self, port: u16) -> u8 {
        let next = self.state.rip + 1;
        self.exit(exits::IOIO, u64::from(port) << 16 | 1 << 4 | 1, next);
        self.state.gpr[abi::state::gpr::RAX] as u8
    }

    /// `wrmsr`.
    pub(crate) fn wrmsr(&mut self, msr: u32, value: u64) -> Mtd {
        self.state.gpr[abi::state::gpr::RCX] = msr.into();
        self.state.gpr[abi::state::gpr::RAX] = value & u64::from(u32::MAX);
        self.state.gpr[abi::state::gpr::RDX] = value >> 32;
        self.exit(exits::MSR, 1, 0)
    }

    /// `rdmsr`.
    pub(crate) fn rdmsr(&mut self, msr: u32) -> Mtd {
        self.state.gpr[abi::state::gpr::RCX] = msr.into();
        self.exit(exits::MSR, 0, 0)
    }

    pub(crate) fn set_interrupts(&mut self, enabled: bool) {
        let rflags = Rflags::FIXED_1 | if enabled { Rflags::IF } else { Rflags::empty() };
        self.state.rflags = rflags.bits();
    }
}

/// Exit codes of SVM (APM2 appendix C).
pub(crate) mod exits {
    pub(crate) const DR0_WRITE: u64 = 0x30;
    pub(crate) const VINTR: u64 = 0x64;
    pub(crate) const CPUID: u64 = 0x72;
    pub(crate) const XSETBV: u64 = 0x8d;
    pub(crate) const IRET: u64 = 0x74;
    pub(crate) const HLT: u64 = 0x78;
    pub(crate) const IOIO: u64 = 0x7b;
    pub(crate) const MSR: u64 = 0x7c;
    pub(crate) const SHUTDOWN: u64 = 0x7f;
    pub(crate) const VMMCALL: u64 = 0x81;
    pub(crate) const CR8_WRITE: u64 = 0x18;
}

fn rubbish() -> ArchState {
    const RUBBISH: u64 = 0xdead_beef_dead_beef;
    ArchState {
        gpr: [RUBBISH; 16],
        rip: RUBBISH,
        rflags: RUBBISH,
        cr0: RUBBISH,
        cr4: RUBBISH,
        efer: RUBBISH,
        activity: RUBBISH as u32,
        ..ArchState::default()
    }
}

/// Copies the selected parts, as the hypervisor does.
fn copy(to: &mut ArchState, from: &ArchState, selected: Mtd) {
    let has = |part| selected.contains(part);
    for (part, registers) in [(Mtd::ACDB, 0..4), (Mtd::BSD, 4..8), (Mtd::R8_R15, 8..16)] {
        if has(part) {
            to.gpr[registers.clone()].copy_from_slice(&from.gpr[registers]);
        }
    }
    if has(Mtd::RIP) {
        (to.rip, to.inst_len) = (from.rip, from.inst_len);
    }
    if has(Mtd::RFLAGS) {
        to.rflags = from.rflags;
    }
    if has(Mtd::STA) {
        (to.interruptibility, to.activity) = (from.interruptibility, from.activity);
    }
    if has(Mtd::INJ) {
        (to.injection, to.interrupted) = (from.injection, from.interrupted);
    }
    if has(Mtd::CR) {
        (to.cr0, to.cr2, to.cr3, to.cr4) = (from.cr0, from.cr2, from.cr3, from.cr4);
    }
    if has(Mtd::XCR0) {
        to.xcr0 = from.xcr0;
    }
    if has(Mtd::CS_SS) || has(Mtd::DS_ES) || has(Mtd::FS_GS) {
        to.seg = from.seg;
    }
    if has(Mtd::DR) {
        (to.dr, to.dr6, to.dr7) = (from.dr, from.dr6, from.dr7);
    }
    if has(Mtd::EFER) {
        to.efer = from.efer;
    }
    if has(Mtd::SYSCALL) {
        (to.star, to.lstar, to.cstar) = (from.star, from.lstar, from.cstar);
        (to.sfmask, to.kernel_gs_base) = (from.sfmask, from.kernel_gs_base);
    }
    if has(Mtd::PAT) {
        to.pat = from.pat;
    }
    if has(Mtd::TSC) {
        to.tsc_offset = from.tsc_offset;
    }
    if has(Mtd::XMM) {
        to.xmm = from.xmm;
    }
    if has(Mtd::INST_BYTES) {
        (to.inst_bytes_len, to.inst_bytes) = (from.inst_bytes_len, from.inst_bytes);
    }
    if has(Mtd::DEADLINE) {
        to.deadline = from.deadline;
    }
}
