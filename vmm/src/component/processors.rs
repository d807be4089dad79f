//! Virtual CPUs: each has a context that handles its exits, and a portal for each kind of them.

use std::arch::x86_64::__cpuid_count;

use abi::cap::Sel;
use abi::event::{EventWords, guest};
use abi::hip::Features;
use abi::message::Tag;
use abi::session::vm::Vm as VmSession;
use abi::session::wire::Message;
use abi::state::Mtd;
use runtime::env::Connection;
use runtime::sys::portal::Handler;
use runtime::{Env, Error, selector};
use runtime_guest_memory::GuestRam;
use vmm::cpuid::{CpuidPolicy, CpuidRegisters, GuestCpuid, HostLeaf, extended_state, has_subleaves};
use vmm::state::Xcr0;
use vmm::vcpu::{Traits, Vcpu, events, selection};

use super::hypervisor::Hypervisor;
use super::{Machine, memory};

const STACK: u64 = 128 * 1024;

/// Handles the exits of one virtual CPU.
struct ExitHandler(Vcpu<'static, Hypervisor, GuestRam>);

impl Handler for ExitHandler {
    #[inline]
    fn handle(&mut self, id: u64, message: Message) -> Message {
        let [reason, info1, info2, rip] = message.words;
        let words = EventWords { reason, info1, info2, rip };
        let delivered = Mtd::from_bits_retain(message.tag.0 as u32);
        let reply = self.0.handle(id, delivered, words);
        Message { tag: Tag(reply.bits().into()), ..Message::default() }
    }
}

/// Makes all virtual CPUs and lets them run.
pub fn start(env: &'static Env, vm: &'static Machine, session: &Connection<VmSession>) -> Result<(), Error> {
    let features = Features::from_bits_truncate(env.platform().features);
    let count = vm.config().machine.vcpu_count();
    let cpus = env.spawner().cpus().max(1);
    let host = host_leaves();
    let xcr0 = if features.contains(Features::XSAVE) { extended_state(&host) } else { Xcr0::empty() };
    let starts = 0..count as u32;
    for index in starts.clone() {
        let policy = policy(vm, xcr0, index);
        let cpuid = GuestCpuid::new(&host, &policy);
        let traits = Traits { features, xcr0: policy.xcr0, physical_address_bits: cpuid.physical_address_bits() };
        make(env, vm, session, index, index % cpus, cpuid, traits)?;
    }
    for index in starts {
        memory::with_upgrades(session, || session.start_vcpu(index))?;
    }
    Ok(())
}

fn policy(vm: &Machine, xcr0: Xcr0, apic_id: u32) -> CpuidPolicy {
    let tsc_khz = super::tsc_khz(vm.tsc_hz());
    let cpu_count = vm.config().machine.vcpu_count() as u32;
    CpuidPolicy {
        apic_id,
        cpu_count,
        tsc_khz,
        // The model's timer counts the TSC.
        lapic_khz: tsc_khz,
        xcr0,
        pcid: false,
        x2apic: true,
        tsc_deadline: true,
        // The hypervisor does not switch TSC_AUX. That does not show where it can only be 0.
        tsc_aux: cpu_count == 1,
    }
}

fn make(
    env: &'static Env,
    vm: &'static Machine,
    session: &Connection<VmSession>,
    index: u32,
    cpu: u32,
    cpuid: GuestCpuid,
    traits: Traits,
) -> Result<(), Error> {
    let base = selector::allocate_block(guest::COUNT as usize)
        .ok_or_else(|| Error::input("no room for the portals of another virtual CPU"))?;
    let number = index as usize;
    let handler = env.spawner().handler(cpu, STACK, move |_| ExitHandler(Vcpu::new(vm, number, cpuid, traits)))?;
    let portal = |event: u64| Sel(base.0 + event);
    for event in events(traits.features) {
        let selection = selection(event, traits.features);
        handler.create_portal(portal(event), event, selection)?;
    }
    let vcpu = memory::with_upgrades(session, || session.create_vcpu(cpu, base.0))?;
    vm.kernel().made(number, vcpu, portal(guest::RECALL));
    Ok(())
}

/// CPUID of this CPU: all basic and extended leaves, with their subleaves.
fn host_leaves() -> Vec<HostLeaf> {
    const EXTENDED: u32 = 0x8000_0000;
    /// More subleaves than any leaf has that matters.
    const SUBLEAVES: u32 = 64;
    /// More leaves than any CPU has.
    const LEAVES: u32 = 64;
    let mut leaves = Vec::new();
    for first in [0, EXTENDED] {
        let last = read_leaf(first, 0).eax.clamp(first, first + LEAVES);
        for leaf in first..=last {
            let subleaves = if has_subleaves(leaf) { SUBLEAVES } else { 1 };
            leaves.extend((0..subleaves).map(|subleaf| {
                let registers = read_leaf(leaf, subleaf);
                HostLeaf { leaf, subleaf, registers }
            }));
        }
    }
    leaves
}

fn read_leaf(leaf: u32, subleaf: u32) -> CpuidRegisters {
    let result = __cpuid_count(leaf, subleaf);
    CpuidRegisters { eax: result.eax, ebx: result.ebx, ecx: result.ecx, edx: result.edx }
}
