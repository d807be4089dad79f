//! From the first Rust code ([`start`] comes before it) to the first thread.

mod start;

use super::{
    acpi_pm, apic, cpuid, descriptor, entry, features, fpu, ioapic, kernel_map, log, percpu, physmem, timer, transient,
    tsc, virt, x86,
};
use crate::boot::{acpi, elf, info::BootInfo, multiboot};
use crate::cpu;
use crate::kernel;
use crate::mem::{PAGE, Phys, pool};
use crate::root;
use abi::hip::RangeKind;
use abi::status::Status;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use start::TRAMPOLINE;

/// Share of RAM for the kernel: a sixteenth, inside these bounds.
const POOL_SHARE: u64 = 16;
const POOL_MIN: u64 = 16 << 20;
const POOL_MAX: u64 = 512 << 20;
const LARGE_PAGE: u64 = abi::LARGE_PAGE_SIZE;
/// How long to wait for a CPU to come up. Those of an emulator on a busy machine take their time.
const AP_PATIENCE_US: u64 = 2_000_000;

unsafe extern "C" {
    static ap_start: u8;
    static ap_end: u8;
    static IMAGE_START: u8;
    static TEXT_START: u8;
    static TEXT_END: u8;
    static RODATA_END: u8;
    static IMAGE_END: u8;
}

/// Address of a linker symbol.
macro_rules! symbol {
    ($name:ident) => {
        (&raw const $name).addr() as u64
    };
}

/// Stack and area of the CPU that is being started.
static AP_STACK: AtomicU64 = AtomicU64::new(0);
static AP_AREA: AtomicU64 = AtomicU64::new(0);

struct BootMemory;

impl multiboot::Memory for BootMemory {
    fn bytes(&self, at: u64, len: u64) -> Option<&[u8]> {
        physmem::bytes(Phys(at), len)
    }
}

fn fail(what: &str) -> ! {
    log::fatal(format_args!("cannot start: {what}"))
}

fn or_fail<T>(result: Result<T, Status>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(_) => fail(what),
    }
}

/// First Rust code on the boot CPU: `magic` and `info` are the loader's.
extern "sysv64" fn boot_main(magic: u64, info: u64) -> ! {
    let Some(mut info) = multiboot::parse(&BootMemory, magic as u32, info) else {
        log::init("");
        fail("not started by a Multiboot loader");
    };
    log::init(command_line(&info));
    log::line(format_args!("Kilonova {}, ABI {}", env!("CARGO_PKG_VERSION"), abi::VERSION));
    let image_start = symbol!(IMAGE_START);
    info.add(image_start, symbol!(IMAGE_END) - kernel_map::IMAGE_BASE - image_start, RangeKind::Hypervisor as u32, 0);
    info.add(TRAMPOLINE, PAGE, RangeKind::Hypervisor as u32, 0);
    if cpuid::Flag::SMAP.is_set() {
        entry::clear_ac();
    }
    let facts = acpi::parse(&BootMemory, info.rsdp).unwrap_or_default();
    info.rsdp = facts.rsdp;
    let image = load_root(&mut info);
    let quota = make_pool(&mut info);
    devices(&facts);
    let area = new_cpu(0);
    area.cpu.root.set(kernel::page_table().phys().0);
    bring_up(area);
    timer::calibrate(acpi_pm::init(&facts.fixed));
    timer::init();
    cpu::register(&area.cpu);
    start_others(&facts);
    report(&info);
    protect(&info, &facts);
    let created = root::create(&area.cpu, quota, &image, &info);
    or_fail(created, "the first module is no program, or kernel memory does not suffice");
    kernel_map::drop_boot_mapping();
    entry::start(&area.cpu)
}

fn command_line(info: &BootInfo) -> &'static str {
    let (at, len) = info.command_line;
    physmem::bytes(Phys(at), len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
}

/// Copies the root task, the first module, to memory of its own.
fn load_root(info: &mut BootInfo) -> root::Image {
    let Some(module) = info.root_task() else {
        fail("no boot module: the first one must be the root task");
    };
    let file = physmem::bytes(Phys(module.base), module.size).unwrap_or(&[]);
    if elf::entry(file).is_none() {
        fail("the first boot module is not an ELF program for x86-64");
    }
    let size = root::image_pages(file) * PAGE;
    let Some(base) = info.find_free(size, PAGE, physmem::LIMIT) else { fail("no memory for the root task") };
    info.add(base, size, RangeKind::Hypervisor as u32, 0);
    root::Image::load(file, Phys(base))
}

/// Reserves the pool, builds the kernel's page table. Returns the pages of quota.
fn make_pool(info: &mut BootInfo) -> u64 {
    let mut size = (info.free_bytes() / POOL_SHARE).clamp(POOL_MIN, POOL_MAX) & !(LARGE_PAGE - 1);
    let base = loop {
        match info.find_free(size, LARGE_PAGE, physmem::LIMIT) {
            Some(base) => break base,
            None if size > LARGE_PAGE => size -= LARGE_PAGE,
            None => fail("not enough memory"),
        }
    };
    info.add(base, size, RangeKind::Hypervisor as u32, 0);
    // SAFETY: free RAM, reserved above; the boot page table and `kernel_map` both have it in the direct map.
    let pages = unsafe { pool::init(Phys(base), size) };
    let image = [symbol!(TEXT_START), symbol!(TEXT_END), symbol!(RODATA_END), symbol!(IMAGE_END)];
    or_fail(kernel_map::build(image, Phys(base), size), "no memory for the kernel's page table");
    // What the kernel itself takes before the root task has its account: tables and CPU blocks.
    pages - CPU_PAGES * (abi::hip::MAX_CPUS as u64).min(pages / 4 / CPU_PAGES) - KERNEL_TABLES
}

/// Pages of a CPU: its block, and those of virtualisation.
const CPU_PAGES: u64 = (1 << percpu::ORDER) + virt::CPU_PAGES;
/// Pages for the kernel's page tables: pool, image, devices.
const KERNEL_TABLES: u64 = 64;

/// Finds the interrupt controllers. Device windows are in the kernel's page table
/// only, so that one is loaded, with the boot mapping's low half added until the end of boot.
fn devices(facts: &acpi::Facts) {
    kernel_map::keep_boot_mapping();
    kernel_map::load();
    or_fail(apic::choose(), "no memory for device mappings");
    for &(address, first) in &facts.ioapics {
        or_fail(ioapic::add(Phys(u64::from(address)), first), "no memory for device mappings");
    }
    mask_pic();
}

/// Masks the two 8259 (data sheet, OCW1): interrupts come through the I/O APICs.
fn mask_pic() {
    const PIC_MASKS: [u16; 2] = [0x21, 0xa1];
    for port in PIC_MASKS {
        x86::outb(port, 0xff);
    }
}

fn new_cpu(id: usize) -> &'static percpu::Area {
    let Some(page) = pool::alloc(percpu::ORDER, 0) else { fail("no memory for a CPU") };
    let area = percpu::Area::at(page);
    area.cpu.init(id);
    area.cpu.stack.set(area.stack_top());
    area
}

/// Sets up the CPU that executes this. On the boot CPU also looks for virtualisation.
fn bring_up(area: &'static percpu::Area) {
    let boot = area.cpu.index() == 0;
    if boot {
        descriptor::build_idt();
        kernel::set_physical_bits(x86::cpuid(cpuid::leaf::ADDRESSES, 0).eax & 0xff);
    }
    area.tables.load(area);
    area.load();
    features::init();
    fpu::init();
    apic::init();
    area.cpu.apic_id.set(apic::id());
    if boot {
        virt::detect();
    }
    or_fail(virt::enable(&area.cpu), "no memory for the state of virtualisation");
}

/// Starts all other CPUs, one after the other.
fn start_others(facts: &acpi::Facts) {
    let (from, len) = (symbol!(ap_start), symbol!(ap_end) - symbol!(ap_start));
    if let Some(code) = physmem::bytes(Phys(from), len) {
        physmem::fill(Phys(TRAMPOLINE), code, len);
    }
    let own = apic::id();
    let mut id = 1;
    for apic_id in facts.cpus.iter().copied().map(u64::from).filter(|&apic_id| apic_id != own) {
        if id >= cpu::MAX_CPUS {
            break;
        }
        let area = new_cpu(id);
        AP_STACK.store(area.stack_top(), Relaxed);
        // Ordering: Release pairs with the Acquire in `ap_main`.
        AP_AREA.store(area.cpu.this.get(), Release);
        apic::send_init(apic_id);
        timer::spin(10_000);
        apic::send_startup(apic_id, (TRAMPOLINE >> abi::PAGE_BITS) as u8);
        let deadline = tsc::read() + tsc::from_us(AP_PATIENCE_US);
        while cpu::count() <= id && tsc::read() < deadline {
            core::hint::spin_loop();
        }
        if cpu::count() > id {
            id += 1;
        } else {
            // Nor may it later, on the stack of the next one.
            apic::send_init(apic_id);
            log::line(format_args!("CPU with APIC id {apic_id} does not start"));
        }
    }
}

/// First Rust code on another CPU.
extern "sysv64" fn ap_main() -> ! {
    kernel_map::load();
    let Some(cpu) = percpu::at(AP_AREA.load(Acquire)) else { x86::halt() };
    let area = percpu::Area::of(cpu);
    bring_up(area);
    timer::init();
    cpu.root.set(kernel::page_table().phys().0);
    cpu::register(cpu);
    entry::start(cpu)
}

fn report(info: &BootInfo) {
    let mode = if apic::is_x2apic() { "x2APIC" } else { "xAPIC" };
    log::line(format_args!(
        "{} CPU(s), {mode}, TSC {} MHz, {} GSIs",
        cpu::count(),
        tsc::hz() / 1_000_000,
        ioapic::gsi_count()
    ));
    log::line(format_args!("virtualisation: {}", virt::Description));
    transient::report();
    log::line(format_args!("{} MiB RAM", info.free_bytes() >> 20));
}

/// Makes everything that is the hypervisor's unmappable.
fn protect(info: &BootInfo, facts: &acpi::Facts) {
    let own = info.ranges.iter().filter(|r| r.kind == RangeKind::Hypervisor as u32);
    let mut fits = own.fold(true, |fits, range| kernel::protect(range.base, range.size) && fits);
    fits &= kernel::protect(apic::MSI_RANGE.0, apic::MSI_RANGE.1);
    for &(address, _) in &facts.ioapics {
        fits &= kernel::protect(u64::from(address) & !(PAGE - 1), PAGE);
    }
    if !fits {
        fail("too many ranges to protect");
    }
}
