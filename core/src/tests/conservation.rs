//! Whatever clients do, in whatever order their sessions end and wherever the kernel runs out of memory: nothing is
//! lost and nothing is left.

use super::model::*;
use crate::object::{Handle, Key};
use crate::session::Session;
use crate::{Core, cpu, io_port, irq, region_map, rm, vm};
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Perms, Sel};
use abi::session::cpu::{Server as _, ThreadPlace};
use abi::session::cpu_thread::Server as _;
use abi::session::io_port::Server as _;
use abi::session::irq::Server as _;
use abi::session::pd::Server as _;
use abi::session::region_map::{Attachment, Server as _};
use abi::session::rm::Server as _;
use abi::session::vm::{GuestAttachment, Server as _};
use abi::session::wire::{InterruptSemaphore, Kind as _, Text, Typed};
use alloc::vec::Vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// What a client does, to whatever there is of the kinds that it takes.
#[derive(Clone, Copy, Debug)]
enum Op {
    Open(Index),
    Close(Index),
    Alloc(Index, u64),
    Free(Index, Index),
    NewMap(Index, u64),
    DropMap(Index, Index),
    Attach(Index, Index, u64, u64),
    Detach(Index, u64),
    Fault(Index, u64, bool),
    FaultHandler(Index),
    Reference(Index, Index),
    Transfer(Index, Index, u64),
    NewThread(Index, Index),
    StartThread(Index),
    KillThread(Index, Index),
    BindPorts(Index, Index),
    BindInterrupt(Index, u64),
    BindVm(Index, Index),
    AttachGuest(Index, Index, u64),
    DetachGuest(Index, u64),
    NewVcpu(Index),
    StartVcpu(Index),
}

fn op() -> impl Strategy<Value = Op> {
    let any = any::<Index>;
    let pages = || 0u64..8;
    prop_oneof![
        6 => any().prop_map(Op::Open),
        3 => any().prop_map(Op::Close),
        4 => (any(), pages()).prop_map(|(pd, pages)| Op::Alloc(pd, pages)),
        1 => (any(), any()).prop_map(|(pd, ram)| Op::Free(pd, ram)),
        2 => (any(), pages()).prop_map(|(rm, pages)| Op::NewMap(rm, pages)),
        1 => (any(), any()).prop_map(|(rm, map)| Op::DropMap(rm, map)),
        6 => (any(), any(), pages(), pages()).prop_map(|(map, what, at, offset)| Op::Attach(map, what, at, offset)),
        2 => (any(), pages()).prop_map(|(map, at)| Op::Detach(map, at)),
        4 => (any(), pages(), proptest::bool::ANY).prop_map(|(pd, at, write)| Op::Fault(pd, at, write)),
        1 => any().prop_map(Op::FaultHandler),
        1 => (any(), any()).prop_map(|(pd, to)| Op::Reference(pd, to)),
        1 => (any(), any(), 0u64..10).prop_map(|(pd, to, n)| Op::Transfer(pd, to, n)),
        2 => (any(), any()).prop_map(|(cpu, pd)| Op::NewThread(cpu, pd)),
        2 => any().prop_map(Op::StartThread),
        1 => (any(), any()).prop_map(|(cpu, thread)| Op::KillThread(cpu, thread)),
        1 => (any(), any()).prop_map(|(ports, pd)| Op::BindPorts(ports, pd)),
        1 => (any(), 50u64..53).prop_map(|(irq, sm)| Op::BindInterrupt(irq, sm)),
        2 => (any(), any()).prop_map(|(vm, pd)| Op::BindVm(vm, pd)),
        3 => (any(), any(), pages()).prop_map(|(vm, what, at)| Op::AttachGuest(vm, what, at)),
        1 => (any(), pages()).prop_map(|(vm, at)| Op::DetachGuest(vm, at)),
        2 => any().prop_map(Op::NewVcpu),
        1 => any().prop_map(Op::StartVcpu),
    ]
}

/// One of the keys, if there is any.
fn pick<'a>(index: Index, keys: impl Iterator<Item = &'a Key>) -> Option<Key> {
    let keys: Vec<Key> = keys.copied().collect();
    (!keys.is_empty()).then(|| *index.get(&keys))
}

/// Does it. What is refused is refused.
fn act(core: &mut Core<'_, Model>, sessions: &mut Vec<Session>, op: Op) -> Option<()> {
    let foreign = |sel, perms| Handle::Foreign(Sel(sel), perms);
    match op {
        Op::Open(which) => {
            let (service, args) = *which.get(&SERVICES);
            sessions.extend(open(core, service, args));
        }
        Op::Close(which) if !sessions.is_empty() => {
            let session = sessions.swap_remove(which.index(sessions.len()));
            core.close_session(session);
        }
        Op::Close(_) => {}
        Op::Alloc(pd, pages) => {
            let _ = core.alloc_ram_step(pick(pd, core.pds.keys())?, pages * PAGE_SIZE);
        }
        Op::Free(pd, ram) => {
            let (key, ram) = (pick(pd, core.pds.keys())?, pick(ram, core.dataspaces.keys())?);
            let _ = crate::pd::Call { core, key }.free_ram(own(ram));
        }
        Op::NewMap(rm, pages) => {
            let key = pick(rm, core.rms.keys())?;
            let _ = rm::Call { core, key }.create(pages * PAGE_SIZE);
        }
        Op::DropMap(rm, map) => {
            let (key, map) = (pick(rm, core.rms.keys())?, pick(map, core.maps.keys())?);
            rm::Call { core, key }.destroy(own(map));
        }
        Op::Attach(map, what, at, offset) => {
            let (key, what) = (pick(map, core.maps.keys())?, pick(what, core.dataspaces.keys())?);
            let wish = Attachment { offset: offset * PAGE_SIZE, ..Attachment::at(at * PAGE_SIZE, MemRights::all()) };
            let _ = region_map::Call { core, key }.attach(own(what), wish);
        }
        Op::Detach(map, at) => {
            let key = pick(map, core.maps.keys())?;
            let _ = region_map::Call { core, key }.detach(at * PAGE_SIZE);
        }
        Op::Fault(pd, at, write) => {
            let pd = pick(pd, core.pds.keys())?;
            let session = sessions.iter().copied().find(|session| session.key == pd)?;
            fault(core, session, at * PAGE_SIZE, write);
        }
        Op::FaultHandler(map) => {
            let key = pick(map, core.maps.keys())?;
            region_map::Call { core, key }.fault_handler(Typed::new(foreign(50, Perms::SM_UP)));
        }
        Op::Reference(pd, to) => {
            let (key, to) = (pick(pd, core.pds.keys())?, pick(to, core.pds.keys())?);
            let _ = crate::pd::Call { core, key }.ref_account(own(to));
        }
        Op::Transfer(pd, to, n) => {
            let (key, to) = (pick(pd, core.pds.keys())?, pick(to, core.pds.keys())?);
            let mut call = crate::pd::Call { core, key };
            let _ = (call.transfer_ram(own(to), n * PAGE_SIZE), call.transfer_caps(own(to), n));
        }
        Op::NewThread(cpu, pd) => {
            let (key, pd) = (pick(cpu, core.cpus.keys())?, pick(pd, core.pds.keys())?);
            let place = ThreadPlace { cpu: 0, below: 0, utcb: 0x7000_0000 };
            let _ = cpu::Call { core, key }.create_thread(own(pd), Text::new(), place);
        }
        Op::StartThread(thread) => {
            let key = pick(thread, core.threads.keys())?;
            let _ = cpu::ThreadCall { core, key }.start(0x40_0000, 0);
        }
        Op::KillThread(cpu, thread) => {
            let (key, thread) = (pick(cpu, core.cpus.keys())?, pick(thread, core.threads.keys())?);
            cpu::Call { core, key }.kill_thread(own(thread));
        }
        Op::BindPorts(ports, pd) => {
            let (key, pd) = (pick(ports, core.io_ports.keys())?, pick(pd, core.pds.keys())?);
            let _ = io_port::Call { core, key }.bind(own(pd));
        }
        Op::BindInterrupt(irq, sm) => {
            let key = pick(irq, core.irqs.keys())?;
            let _ = irq::Call { core, key }.bind(Typed::new(foreign(sm, InterruptSemaphore::PERMS)));
        }
        Op::BindVm(vm, pd) => {
            let (key, pd) = (pick(vm, core.vms.keys())?, pick(pd, core.pds.keys())?);
            let _ = vm::Call { core, key }.bind(own(pd));
        }
        Op::AttachGuest(vm, what, at) => {
            let (key, what) = (pick(vm, core.vms.keys())?, pick(what, core.dataspaces.keys())?);
            let wish = GuestAttachment { guest_address: at * PAGE_SIZE, offset: 0, size: 0, rights: 3 };
            let _ = vm::Call { core, key }.attach(own(what), wish);
        }
        Op::DetachGuest(vm, at) => {
            let key = pick(vm, core.vms.keys())?;
            let _ = vm::Call { core, key }.detach(at * PAGE_SIZE, 4 * PAGE_SIZE);
        }
        Op::NewVcpu(vm) => {
            let key = pick(vm, core.vms.keys())?;
            let _ = vm::Call { core, key }.create_vcpu(0, 0x100);
        }
        Op::StartVcpu(vm) => {
            let key = pick(vm, core.vms.keys())?;
            let _ = vm::Call { core, key }.start_vcpu(0);
        }
    }
    Some(())
}

/// Memory that is mapped somewhere belongs to a dataspace.
fn mapped_is_somebodys(core: &Core<'_, Model>) -> bool {
    let state = core.kernel.0.state.borrow();
    state
        .pages
        .values()
        .all(|page| !core.ram.iter().any(|free| (free.base()..free.end()).contains(&(page * PAGE_SIZE))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn everything_returns(
        ops in prop::collection::vec((op(), prop::option::weighted(0.3, 0u32..12)), 0..120),
        order in any::<Index>(),
    ) {
        let model = model();
        let mut core = core(&model);
        let (total, before) = (core.ledger.total(), figures(&core));
        let mut sessions = Vec::new();
        for (op, fuse) in ops {
            model.fuse.set(fuse);
            act(&mut core, &mut sessions, op);
            model.fuse.set(None);
            prop_assert_eq!(core.ledger.total(), total);
            prop_assert!(mapped_is_somebodys(&core), "{:?}", op);
        }
        while !sessions.is_empty() {
            core.close_session(sessions.swap_remove(order.index(sessions.len())));
        }
        prop_assert_eq!(figures(&core), before);
    }
}
