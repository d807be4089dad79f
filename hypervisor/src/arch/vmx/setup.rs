//! A vCPU's control structure: everything that does not change from exit to exit.

use super::caps::{self, pin, primary};
use super::state::{CR0_CACHE, Vmcs};
use super::vmcs::{self, Code};
use super::{ept, release};
use crate::arch::percpu::Area;
use crate::arch::virt::{Backend, Field, exception, field};
use crate::arch::x86::{self, Msr};
use crate::arch::{descriptor, entry, percpu, tsc};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::frame::{MSRS, MSRS_AT};
use crate::kernel;
use crate::mem::{PAGE, Page, Phys};
use crate::space::{msr::MsrSpace, pio::PioSpace};
use abi::state::{Controls, Injection};

/// No VMCS behind this one (SDM vol. 3, 25.4.2).
const NO_LINK: u64 = u64::MAX;
/// Longest time in a guest without an exit, if there is a preemption timer. Interrupts of the host exit at once by the manual, but
/// Bochs 2.7 holds them back when a guest is entered with interrupts disabled.
const LONGEST_STAY_US: u64 = 1000;
/// PAT after reset (SDM vol. 3, 12.12.4).
const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// Sets up a zeroed page for `ec`, which will run on `cpu` in these spaces.
pub fn init(page: Page, ec: &'static Ec, cpu: &'static Cpu, root: Phys, pio: &PioSpace, msr: &MsrSpace) {
    let (here, frame) = (percpu::current(), ec.frame());
    page.write(0, caps::revision());
    vmcs::clear(here, page.phys());
    for (i, msr) in MSRS.into_iter().enumerate() {
        frame.0.write(MSRS_AT + 2 * i, u64::from(msr));
    }
    let this = Vmcs::with(ec.frame());
    controls(root, pio, msr);
    areas(cpu, frame.0);
    host(cpu);
    guest(this);
    release(here, ec);
}

fn controls(root: Phys, pio: &PioSpace, msr: &MsrSpace) {
    let controls = caps::controls();
    vmcs::write(Code::PinControls, u64::from(controls.pin));
    vmcs::write(Code::ExitControls, u64::from(controls.exit));
    vmcs::write(Code::EntryControls, u64::from(controls.entry));
    set_controls(Controls::HLT, 0);
    vmcs::write(Code::Exceptions, exception::INTERCEPTED);
    vmcs::write(Code::PageFaultMask, 0);
    vmcs::write(Code::PageFaultMatch, 0);
    vmcs::write(Code::Cr3Targets, 0);
    if controls.pin & pin::PREEMPTION_TIMER != 0 {
        let ticks = tsc::from_us(LONGEST_STAY_US) >> caps::preemption_timer_shift();
        vmcs::write(Code::PreemptionTimer, ticks.min(u64::from(u32::MAX)));
    }
    vmcs::write(Code::IoBitmapA, pio.phys().0);
    vmcs::write(Code::IoBitmapB, pio.phys().0 + PAGE);
    vmcs::write(Code::MsrBitmap, msr.phys().0);
    vmcs::write(Code::EptPointer, ept::pointer(root));
    vmcs::write(Code::EntryEvent, 0);
    vmcs::write(Code::EntryError, 0);
    vmcs::write(Code::EntryInstructionLength, 0);
}

/// MSR areas: the guest's is in the context page, loaded by entries and stored by exits; the host's is the same for all vCPUs.
fn areas(cpu: &'static Cpu, frame: Page) {
    let guest = frame.phys().0 + MSRS_AT as u64 * 8;
    let count = MSRS.len() as u64;
    vmcs::write(Code::EntryMsrLoad, guest);
    vmcs::write(Code::ExitMsrStore, guest);
    vmcs::write(Code::ExitMsrLoad, cpu.host_control.get());
    vmcs::write(Code::EntryMsrLoadCount, count);
    vmcs::write(Code::ExitMsrStoreCount, count);
    vmcs::write(Code::ExitMsrLoadCount, count);
}

/// Host state: that of `cpu`. Control registers, EFER and PAT are the same on all CPUs.
fn host(cpu: &'static Cpu) {
    let tables = &Area::of(cpu).tables;
    vmcs::write(Code::HostCr0, x86::read_cr0());
    vmcs::write(Code::HostCr3, kernel::page_table().phys().0);
    vmcs::write(Code::HostCr4, x86::read_cr4());
    vmcs::write(Code::HostEfer, x86::rdmsr(Msr::Efer));
    vmcs::write(Code::HostPat, x86::rdmsr(Msr::Pat));
    vmcs::write(Code::HostCs, u64::from(descriptor::KERNEL_CS));
    vmcs::write(Code::HostTr, u64::from(descriptor::TSS));
    for code in [
        Code::HostEs,
        Code::HostSs,
        Code::HostDs,
        Code::HostFs,
        Code::HostGs,
        Code::HostFsBase,
        Code::HostSysenterCs,
        Code::HostSysenterEsp,
        Code::HostSysenterEip,
    ] {
        vmcs::write(code, 0);
    }
    vmcs::write(Code::HostGsBase, cpu.this.get());
    vmcs::write(Code::HostTrBase, tables.task_base());
    vmcs::write(Code::HostGdtrBase, tables.gdt_base());
    vmcs::write(Code::HostIdtrBase, descriptor::idt_base());
    vmcs::write(Code::HostRsp, cpu.stack.get());
    vmcs::write(Code::HostRip, entry::vmx_exit_address());
}

/// Guest state before the first event, which supplies the rest.
fn guest(this: Vmcs) {
    for field in field::all() {
        this.set_field(field, 0);
    }
    this.set_field(Field::Pat, PAT_RESET);
    for code in
        [Code::Interruptibility, Code::Activity, Code::Smbase, Code::GuestDebugctl, Code::PendingDebug, Code::GuestRsp]
    {
        vmcs::write(code, 0);
    }
    vmcs::write(Code::LinkPointer, NO_LINK);
}

/// Sets the execution controls and the masks of CR0 and CR4.
pub(super) fn set_controls(wish: Controls, windows: u64) {
    let all = caps::controls();
    let mut first = all.primary | window_controls(windows);
    for (control, bits) in [
        (Controls::HLT, primary::HLT),
        (Controls::PAUSE, primary::PAUSE),
        (Controls::INVLPG, primary::INVLPG),
        (Controls::RDTSC, primary::RDTSC),
        (Controls::CR3_WRITE, primary::CR3_LOAD),
    ] {
        if wish.contains(control) {
            first |= bits;
        }
    }
    vmcs::write(Code::PrimaryControls, u64::from(first));
    vmcs::write(Code::SecondaryControls, u64::from(all.secondary));
    let (cr0, cr4) = if wish.contains(Controls::CR0_CR4_WRITE) {
        (u64::MAX, u64::MAX)
    } else {
        (caps::cr0_fixed() | CR0_CACHE, caps::cr4_fixed())
    };
    vmcs::write(Code::Cr0Mask, cr0);
    vmcs::write(Code::Cr4Mask, cr4);
}

/// Sets which windows exit.
pub(super) fn set_windows(windows: u64) {
    const ALL: u64 = (primary::INTERRUPT_WINDOW | primary::NMI_WINDOW) as u64;
    let others = vmcs::read(Code::PrimaryControls) & !ALL;
    vmcs::write(Code::PrimaryControls, others | u64::from(window_controls(windows)));
}

fn window_controls(windows: u64) -> u32 {
    let mut controls = 0;
    if windows & Injection::INTERRUPT_WINDOW != 0 {
        controls |= primary::INTERRUPT_WINDOW;
    }
    if windows & Injection::NMI_WINDOW != 0 {
        controls |= primary::NMI_WINDOW;
    }
    controls
}
