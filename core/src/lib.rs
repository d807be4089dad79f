//! The root task: it owns all physical resources and hands them out as sessions.
//!
//! | module | |
//! |---|---|
//! | [`rom`], [`log`], [`pd`], [`region_map`], [`cpu`], [`rm`], [`io_mem`], [`io_port`], [`irq`], [`vm`] | one service each |
//! | [`dataspace`] | what is attached to address spaces and guests |
//! | [`pager`] | page faults and exceptions of all components |
//! | [`parent`], [`session`], [`launcher`] | core as the parent of init |
//! | [`account`], [`ranges`], [`regions`], [`affinity`], [`isa_lines`], [`boot`] | pure logic |
//! | [`object`], [`kernel`] | portals, and the kernel behind a trait |
//!
//! Everything happens in one portal handler, so the kernel serialises it, and each call is one transaction: it is
//! checked, then paid for, then done, and undone completely where a later step fails.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "tests state their expectations tersely"))]

extern crate alloc;

pub mod account;
pub mod affinity;
pub mod boot;
pub mod cpu;
pub mod dataspace;
pub mod io_mem;
pub mod io_port;
pub mod irq;
pub mod isa_lines;
pub mod kernel;
pub mod launcher;
pub mod log;
pub mod object;
pub mod pager;
pub mod parent;
pub mod pd;
pub mod ranges;
pub mod region_map;
pub mod regions;
pub mod rm;
pub mod rom;
pub mod session;
pub mod vm;

#[cfg(test)]
mod tests;

use abi::hip::{Features, VcpuAbsence};
use abi::session::rpc::Refusal;
use abi::session::wire::{Buffer, Message};
use account::Ledger;
use affinity::CpuSet;
use alloc::collections::BTreeMap;
use alloc::string::String;
use kernel::{Kernel, Machine};
use object::{Handle, Key, Kind, Object};
use ranges::Ranges;

/// What core tells about the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineInfo {
    /// TSC ticks per second.
    pub tsc_hz: u64,
    /// All CPUs.
    pub cpus: CpuSet,
    /// What the CPUs offer.
    pub features: Features,
    /// Why there are no virtual CPUs, if there are none.
    pub vcpu_absence: VcpuAbsence,
}

/// The state of core.
#[derive(Debug)]
pub struct Core<'m, M> {
    kernel: Kernel<'m, M>,
    machine_info: MachineInfo,
    ledger: Ledger<Kernel<'m, M>>,
    /// Free selectors of core.
    selectors: Ranges,
    /// Free RAM.
    ram: Ranges,
    /// Device memory that nobody has.
    io_mem: Ranges,
    /// I/O ports that nobody has.
    ports: Ranges,
    /// Interrupt lines that nobody has.
    lines: Ranges,
    isa_lines: isa_lines::IsaLines,
    /// Boot modules by name.
    modules: BTreeMap<String, Key>,
    /// All objects; the maps below hold the state of those of one kind.
    objects: BTreeMap<Key, Object>,
    pds: BTreeMap<Key, pd::Pd>,
    /// Events object to its PD.
    events: BTreeMap<Key, Key>,
    maps: BTreeMap<Key, region_map::Map>,
    dataspaces: BTreeMap<Key, dataspace::Dataspace>,
    cpus: BTreeMap<Key, cpu::Cpu>,
    threads: BTreeMap<Key, cpu::Thread>,
    rms: BTreeMap<Key, rm::Rm>,
    /// LOG session to its label.
    logs: BTreeMap<Key, String>,
    /// ROM session to its module's dataspace.
    roms: BTreeMap<Key, Key>,
    /// `IO_MEM` session to its dataspace.
    io_mems: BTreeMap<Key, Key>,
    io_ports: BTreeMap<Key, io_port::IoPort>,
    irqs: BTreeMap<Key, irq::Irq>,
    vms: BTreeMap<Key, vm::Vm>,
    child: Option<parent::Child>,
}

impl<M: Machine> Core<'_, M> {
    /// Handles the call of portal `id`.
    pub fn dispatch<B: Buffer<Cap = Handle>>(&mut self, id: u64, buffer: &B, message: Message) -> Message {
        use abi::session::{
            cpu, cpu_thread, dataspace, io_mem, io_port, irq, log, parent, pd, region_map, rm, rom, vm,
        };
        let (core, key) = (self, Key(abi::cap::Sel(id)));
        match core.objects.get(&key).map(|object| object.kind) {
            Some(Kind::Parent) => parent::dispatch(&mut self::parent::Call { core }, buffer, message),
            Some(Kind::Rom) => rom::dispatch(&mut self::rom::Call { core, key }, buffer, message),
            Some(Kind::Log) => log::dispatch(&mut self::log::Call { core, key }, buffer, message),
            Some(Kind::Pd) => pd::dispatch(&mut self::pd::Call { core, key }, buffer, message),
            Some(Kind::RegionMap) => region_map::dispatch(&mut self::region_map::Call { core, key }, buffer, message),
            Some(Kind::Dataspace) => dataspace::dispatch(&mut self::dataspace::Call { core, key }, buffer, message),
            Some(Kind::Cpu) => cpu::dispatch(&mut self::cpu::Call { core, key }, buffer, message),
            Some(Kind::CpuThread) => cpu_thread::dispatch(&mut self::cpu::ThreadCall { core, key }, buffer, message),
            Some(Kind::Rm) => rm::dispatch(&mut self::rm::Call { core, key }, buffer, message),
            Some(Kind::IoMem) => io_mem::dispatch(&mut self::io_mem::Call { core, key }, buffer, message),
            Some(Kind::IoPort) => io_port::dispatch(&mut self::io_port::Call { core, key }, buffer, message),
            Some(Kind::Irq) => irq::dispatch(&mut self::irq::Call { core, key }, buffer, message),
            Some(Kind::Vm) => vm::dispatch(&mut self::vm::Call { core, key }, buffer, message),
            // Events portals carry no permission to be called.
            Some(Kind::Events) | None => Refusal::NoObject.message(),
        }
    }
}
