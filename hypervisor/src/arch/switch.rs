//! Switching between contexts: what of the CPU's state belongs to the one that runs.

use super::x86::{self, Msr};
use super::{fpu, percpu};
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::frame::{Frame, Kind, Reg};
use crate::kernel;
use crate::mem::{Object, Phys};
use crate::space::pio::PioSpace;

/// Makes `ec` current: saves what its predecessor must find again, loads what `ec` needs.
#[inline(always)]
pub fn to(cpu: &'static Cpu, ec: &'static Ec) {
    from_anything(cpu, ec, ec.frame());
}

/// [`to`] with the frame of `ec`.
#[inline(always)]
pub fn from_anything(cpu: &'static Cpu, ec: &'static Ec, frame: Frame) {
    let kind = frame.kind();
    let mut foreign = true;
    if let Some(prev) = cpu.current() {
        if prev.addr() == ec.addr() {
            return;
        }
        foreign = prev.frame().kind() != Kind::Sysret as u64;
        if foreign {
            fpu::save(prev);
        }
    }
    if kind == Kind::Guest as u64 {
        fpu::restore(ec);
        cpu.set_current(ec, frame);
        return;
    }
    foreign |= load_spaces(cpu, ec, frame);
    if kind != Kind::Sysret as u64 {
        fpu::restore(ec);
    } else if foreign {
        fpu::clear();
    }
    cpu.set_current(ec, frame);
}

/// [`to`] from another context, which is current and in the kernel by a hypercall: it has nothing to be saved.
#[inline(always)]
pub fn from_hypercall(cpu: &'static Cpu, ec: &'static Ec, frame: Frame) {
    let kind = frame.kind();
    if kind != Kind::Guest as u64 {
        let foreign = load_spaces(cpu, ec, frame);
        if foreign && kind == Kind::Sysret as u64 {
            fpu::clear();
        }
    }
    if kind != Kind::Sysret as u64 {
        fpu::restore(ec);
    }
    cpu.set_current(ec, frame);
}

/// Loads what of a host EC does not depend on how it continues. Whether its page table is another one than before.
#[inline(always)]
fn load_spaces(cpu: &'static Cpu, ec: &'static Ec, frame: Frame) -> bool {
    let fs = frame.get(Reg::FsBase);
    let root = ec.root.get();
    let other = root != cpu.root.get();
    if other {
        x86::write_cr3(root);
        cpu.root.set(root);
        if fs != 0 {
            // A thread of the other domain may have loaded the selector, and with it a base that is not `fs_base`.
            cpu.fs_base.set(u64::MAX);
        }
    }
    if fs != cpu.fs_base.get() {
        set_fs(cpu, fs);
    }
    if ec.pio.raw() != cpu.ports.raw() {
        cpu.ports.set(ec.pio.get());
        enable_ports(cpu);
    }
    other
}

/// If `ec` is current, saves what is only in the CPU, so that all of its state is in memory.
pub fn put_down(cpu: &'static Cpu, ec: &'static Ec) {
    if cpu.current().map(Object::addr) != Some(ec.addr()) {
        return;
    }
    if ec.frame().kind() != Kind::Sysret as u64 {
        fpu::save(ec);
    }
    cpu.forget(ec);
}

/// Loads the FS base.
#[inline(always)]
pub fn set_fs(cpu: &'static Cpu, base: u64) {
    x86::wrmsr(Msr::FsBase, base);
    cpu.fs_base.set(base);
}

/// Lets the bitmap in the TSS be in force exactly if it is that of the EC that runs. Loading another one waits until the EC
/// accesses a port ([`missing_ports`]): most never do.
fn enable_ports(cpu: &'static Cpu) {
    percpu::Area::of(cpu).tables.enable_ports(cpu.pio.raw() == cpu.ports.raw());
}

/// A general-protection fault of `ec`, which runs: whether the reason may be that its ports are not loaded. They are now.
#[cold]
pub fn missing_ports(cpu: &'static Cpu, ec: &'static Ec) -> bool {
    let Some(pio) = ec.pio.get().filter(|pio| !cpu.pio.is(pio)) else {
        return false;
    };
    cpu.ports.set(Some(pio));
    load_ports(cpu, pio);
    true
}

/// Loads the port bitmap of `pio` into the TSS: only the words that differ from all ones, there and here.
fn load_ports(cpu: &'static Cpu, pio: &'static PioSpace) {
    close_ports(cpu);
    let tables = &percpu::Area::of(cpu).tables;
    let range = pio.range();
    for index in range.clone() {
        tables.set_ports(index, pio.word(index));
    }
    cpu.pio_range[0].set(range.start as u64);
    cpu.pio_range[1].set(range.end as u64);
    cpu.pio.set(Some(pio));
    // An exit of VMX has cut the segment's limit.
    tables.reload_task_register();
    enable_ports(cpu);
}

fn close_ports(cpu: &'static Cpu) {
    let tables = &percpu::Area::of(cpu).tables;
    for index in cpu.pio_range[0].get()..cpu.pio_range[1].get() {
        tables.set_ports(index as usize, u64::MAX);
    }
    cpu.pio_range[1].set(0);
    cpu.pio.set(None);
}

/// A port space has changed: whoever uses it next loads it anew.
pub fn ports(cpu: &'static Cpu) {
    close_ports(cpu);
    enable_ports(cpu);
}

/// Forgets translations of the page table with this root.
pub fn flush(cpu: &'static Cpu, root: Phys) {
    if cpu.root.get() == root.0 {
        x86::write_cr3(root.0);
    }
}

/// Leaves the page table with this root.
pub fn leave(cpu: &'static Cpu, root: Phys) {
    if cpu.root.get() == root.0 {
        let kernel = kernel::page_table().phys().0;
        x86::write_cr3(kernel);
        cpu.root.set(kernel);
    }
}
