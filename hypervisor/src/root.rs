//! Creation of the root task: the first PD with all kernel memory, and its initial capabilities.

use crate::arch::{apic, fpu, ioapic, log, physmem, tsc, virt};
use crate::boot::{elf, info::BootInfo};
use crate::cpu::{self, Cpu};
use crate::ec::{Ec, State};
use crate::frame::{Kind, Reg};
use crate::hw::Hw;
use crate::ipc;
use crate::journal;
use crate::kernel;
use crate::mem::{Object, PAGE, Page, Phys, object};
use crate::pd::Pd;
use crate::sc::Sc;
use crate::sched;
use crate::sm::Sm;
use crate::space::{Mappings, mem::KERNEL, mem::MemSpace, msr::MsrSpace, obj::ObjSpace, pio::PioSpace};
use ::elf::abi::{PF_W, PF_X};
use ::elf::segment::ProgramHeader;
use abi::cap::{MemRights, Perms, Sel, root};
use abi::hip::{self, Features, Hip};
use abi::status::Status;

/// Budget of the root task's first thread.
const BUDGET_US: u64 = 10_000;
/// Its priority: the highest.
const PRIORITY: u8 = abi::hypercall::CreateSc::PRIORITIES - 1;

fn make<T: Object>(
    pd: &'static Pd,
    sel: Sel,
    perms: Perms,
    init: impl FnOnce(&'static T) -> Result<(), Status>,
) -> Result<&'static T, Status> {
    let object: &'static T = pd.new_object()?;
    init(object)?;
    pd.adopt(object);
    if let Some(obj) = pd.obj.get() {
        obj.prepare(sel)?.store_object(object, perms);
    }
    Ok(object)
}

/// A space of everything, from which its holder may grant.
fn grant<T: Object>(pd: &'static Pd, sel: Sel, init: impl FnOnce(&T)) -> Result<(), Status> {
    let init = |space: &'static T| {
        init(space);
        Ok(())
    };
    make(pd, sel, Perms::SPACE_GRANT, init).map(drop)
}

/// Memory of the root task's image: reserved as a range of its own before the hypervisor's page table is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Where its segments were copied to, one after the other, page aligned.
    pub base: Phys,
    /// The file, for its headers.
    pub file: &'static [u8],
}

/// Pages that the segments of an image need.
pub fn image_pages(file: &[u8]) -> u64 {
    elf::segments(file).map(|s| pages(&s)).sum()
}

/// Pages from the page of the segment's first byte to that of its last.
fn pages(segment: &ProgramHeader) -> u64 {
    (segment.p_vaddr % PAGE + segment.p_memsz).div_ceil(PAGE)
}

impl Image {
    /// Copies the segments to `base`; boot only.
    pub fn load(file: &'static [u8], base: Phys) -> Self {
        let mut at = base;
        for segment in elf::segments(file) {
            let lead = segment.p_vaddr % PAGE;
            physmem::fill(at, &[], pages(&segment) * PAGE);
            let data = &file[segment.p_offset as usize..][..segment.p_filesz as usize];
            physmem::fill(at.offset(lead), data, data.len() as u64);
            at = at.offset(pages(&segment) * PAGE);
        }
        Self { base, file }
    }

    fn map(&self, space: &'static MemSpace) -> Result<(), Status> {
        let mut at = self.base;
        for segment in elf::segments(self.file) {
            let mut rights = MemRights::READ | KERNEL;
            rights.set(MemRights::WRITE, segment.p_flags & PF_W != 0);
            rights.set(MemRights::EXEC, segment.p_flags & PF_X != 0);
            for i in 0..pages(&segment) {
                let address = (segment.p_vaddr & !(PAGE - 1)) + i * PAGE;
                space.set(address, 0, Some((at, rights)))?;
                at = at.offset(PAGE);
            }
        }
        Ok(())
    }
}

/// Creates the root task. `quota` is all kernel memory.
///
/// # Errors
/// `OutOfMemory` if kernel memory does not suffice, `BadParameter` if the image is not an ELF program.
pub fn create(cpu: &'static Cpu, quota: u64, image: &Image, info: &BootInfo) -> Result<(), Status> {
    let entry = elf::entry(image.file).ok_or(Status::BadParameter)?;
    let pd: &'static Pd = object::alloc(None).ok_or(Status::OutOfMemory)?;
    pd.init(quota);
    object::publish(pd);
    let obj: &'static ObjSpace = make(pd, root::OBJ, Perms::ALL, ObjSpace::init)?;
    pd.obj.set(Some(obj));
    obj.prepare(root::OBJ)?.store_object(obj, Perms::ALL);
    obj.prepare(root::PD)?.store_object(pd, Perms::ALL);
    let mem: &'static MemSpace = make(pd, root::MEM, Perms::ALL, MemSpace::init)?;
    pd.mem.set(Some(mem));
    let pio: &'static PioSpace = make(pd, root::PIO, Perms::ALL, PioSpace::init)?;
    pd.pio.set(Some(pio));
    grant(pd, root::PHYS, MemSpace::init_physical)?;
    grant(pd, root::ALL_PIO, PioSpace::init_all)?;
    grant(pd, root::ALL_MSR, MsrSpace::init_all)?;
    let _: &'static Hw = make(pd, root::HW, Perms::ALL, |_| Ok(()))?;
    let bell: &'static Sm = make(pd, root::JOURNAL, Perms::SM_DOWN, |_| Ok(()))?;
    journal::open(shown(pd, mem, abi::journal::ADDRESS)?, bell);
    denials(pd)?;
    image.map(mem)?;
    physmem::store(shown(pd, mem, hip::ADDRESS)?, &describe(info));
    thread(cpu, pd, entry)
}

/// A page that the hypervisor writes and the root task reads.
fn shown(pd: &'static Pd, mem: &'static MemSpace, address: u64) -> Result<Page, Status> {
    let page = pd.alloc(0)?;
    mem.set(address, 0, Some((page.phys(), MemRights::READ | KERNEL)))?;
    Ok(page)
}

/// Spaces for vCPUs that are given none.
fn denials(pd: &'static Pd) -> Result<(), Status> {
    let ports: &'static PioSpace = pd.new_object()?;
    ports.init()?;
    let msrs: &'static MsrSpace = pd.new_object()?;
    msrs.init()?;
    // Alive, but not on the account's list and without capability: nobody can name or destroy them.
    object::publish(ports);
    object::publish(msrs);
    kernel::set_denials(ports, msrs);
    Ok(())
}

/// The first thread.
fn thread(cpu: &'static Cpu, pd: &'static Pd, entry: u64) -> Result<(), Status> {
    let (frame, utcb) = (pd.alloc(0)?, pd.alloc(0)?);
    let ec: &'static Ec = make(pd, root::EC, Perms::ALL, |ec: &'static Ec| {
        ec.init(frame, Some(utcb), cpu.index() as u16, State::Runnable, Kind::Sysret);
        ec.obj.set(pd.obj.get());
        ec.pio.set(pd.pio.get());
        let mem = pd.mem.get().ok_or(Status::BadParameter)?;
        ec.root.set(mem.root().phys().0);
        let frame = ec.frame();
        frame.set(Reg::Rip, entry);
        frame.set(Reg::Rflags, ipc::USER_FLAGS);
        frame.set(Reg::Rdi, hip::ADDRESS);
        frame.set(Reg::UtcbAt, hip::ROOT_UTCB);
        fpu::reset(ec);
        mem.map_kernel_page(hip::ROOT_UTCB, utcb)
    })?;
    let sc: &'static Sc = make(pd, root::SC, Perms::ALL, |sc: &'static Sc| {
        sc.init(ec, PRIORITY, tsc::from_us(BUDGET_US));
        Ok(())
    })?;
    ec.sc.set(Some(sc));
    sched::ready(cpu, sc);
    Ok(())
}

fn describe(info: &BootInfo) -> Hip {
    let mut features = virt::features();
    features.set(Features::XSAVE, fpu::host_xcr0() != 0);
    features.set(Features::X2APIC, apic::is_x2apic());
    let mut hip = Hip {
        magic: hip::MAGIC,
        version: abi::VERSION,
        cpu_count: cpu::count() as u32,
        features: features.bits(),
        tsc_hz: tsc::hz(),
        rsdp: info.rsdp,
        command_line: info.command_line.0,
        gsi_count: ioapic::gsi_count(),
        log_port: u32::from(log::port()),
        framebuffer: info.framebuffer,
        range_count: info.ranges.len() as u32,
        vcpu_absence: virt::absence() as u32,
        ranges: [hip::Range::default(); hip::MAX_RANGES],
    };
    for (slot, range) in hip.ranges.iter_mut().zip(&info.ranges) {
        *slot = *range;
    }
    hip
}
