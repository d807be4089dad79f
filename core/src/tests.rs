//! Services against a model of the kernel: what they do, what they cost, and that a failure anywhere leaves nothing behind.

use crate::account::Resources;
use crate::boot::Memory;
use crate::kernel::Machine;
use crate::object::{Handle, Key, Kind};
use crate::pager::Verdict;
use crate::ranges::Range;
use crate::session::Session;
use crate::{Core, cpu, io_port, irq, log, parent, pd, region_map, rm, vm};
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Sel, root};
use abi::event::EventWords;
use abi::hip::{self, Features, Hip, RangeKind};
use abi::hypercall::{AssignInt, CreateEc, CreatePd, CreateSc, CreateSm, CreateSpace, CtrlPd, Delegate};
use abi::message::{CapItem, Tag};
use abi::session::affinity::Affinity;
use abi::session::args::Args;
use abi::session::cpu::{Server as _, ThreadPlace};
use abi::session::cpu_thread::Server as _;
use abi::session::io_port::Server as _;
use abi::session::irq::Server as _;
use abi::session::log::Server as _;
use abi::session::parent::{Quota, Server as _, SessionError, UpgradeError};
use abi::session::pd::{AllocError, NotOwned, RefAccountError, Server as _, TransferError};
use abi::session::region_map::{AttachError, Attachment, Server as _};
use abi::session::rm::Server as _;
use abi::session::vm::{GuestAttachment, Server as _, VmError};
use abi::session::wire::{Buffer, Message, Text, Typed};
use abi::status::Status;
use abi::utcb::Utcb;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::cell::{Cell, RefCell};
use core::fmt;
use proptest::prelude::*;

const HELLO_LINE: u64 = 0x9000;
const INIT_LINE: u64 = 0x9100;
const HELLO_BASE: u64 = RAM_BASE + RAM;
const INIT_BASE: u64 = HELLO_BASE + 0x1000;
const RAM_BASE: u64 = 4 << 20;
const RAM: u64 = 64 << 20;
const CAPS: u64 = 1000;

#[derive(Default)]
struct State {
    /// Quota and used pages of each protection domain.
    accounts: BTreeMap<u64, (u64, u64)>,
    /// What each protection domain pays for.
    owned: BTreeMap<u64, Vec<u64>>,
    live: BTreeSet<u64>,
    /// Space and page to physical page.
    pages: BTreeMap<(u64, u64), u64>,
    /// Ports by space.
    ports: BTreeSet<(u64, u64)>,
    zeroed: Vec<Range>,
    copied: Vec<(Range, Range)>,
    log: Vec<String>,
    ups: Vec<Sel>,
}

/// A kernel that keeps accounts and page tables, and fails when told to.
#[derive(Default)]
struct Model {
    state: RefCell<State>,
    /// Calls until one fails; `None`: never.
    fuse: Cell<Option<u32>>,
}

impl Model {
    fn spark(&self) -> Result<(), Status> {
        match self.fuse.get() {
            Some(0) => {
                self.fuse.set(None);
                Err(Status::OutOfMemory)
            }
            fuse => {
                self.fuse.set(fuse.map(|n| n - 1));
                Ok(())
            }
        }
    }

    fn pay(&self, pd: Sel, object: Sel) -> Result<(), Status> {
        self.spark()?;
        let mut state = self.state.borrow_mut();
        if !state.live.insert(object.0) {
            return Err(Status::Busy);
        }
        let account = state.accounts.get_mut(&pd.0).ok_or(Status::BadCapability)?;
        if account.1 == account.0 {
            state.live.remove(&object.0);
            return Err(Status::OutOfMemory);
        }
        account.1 += 1;
        state.owned.entry(pd.0).or_default().push(object.0);
        Ok(())
    }
}

impl Machine for Model {
    fn create_portal(&self, sel: Sel) -> Result<(), Status> {
        self.spark()?;
        self.state.borrow_mut().live.insert(sel.0);
        Ok(())
    }
    fn create_pd(&self, create: CreatePd) -> Result<(), Status> {
        self.spark()?;
        let mut state = self.state.borrow_mut();
        let parent = state.accounts.get_mut(&create.parent.0).unwrap();
        if parent.0 - parent.1 < create.quota {
            return Err(Status::OutOfMemory);
        }
        parent.0 -= create.quota;
        state.accounts.insert(create.dst.0, (create.quota, 0));
        state.live.insert(create.dst.0);
        Ok(())
    }
    fn create_space(&self, create: CreateSpace) -> Result<(), Status> {
        self.pay(create.pd, create.dst)
    }
    fn create_ec(&self, create: CreateEc) -> Result<(), Status> {
        self.pay(create.pd, create.dst)
    }
    fn create_sc(&self, create: CreateSc) -> Result<(), Status> {
        self.pay(create.pd, create.dst)
    }
    fn create_sm(&self, create: CreateSm) -> Result<(), Status> {
        self.spark()?;
        self.state.borrow_mut().live.insert(create.dst.0);
        Ok(())
    }
    fn destroy(&self, object: Sel) -> Result<(), Status> {
        let mut state = self.state.borrow_mut();
        if !state.live.remove(&object.0) {
            return Err(Status::BadCapability);
        }
        if let Some((quota, _)) = state.accounts.remove(&object.0) {
            state.accounts.get_mut(&root::PD.0).unwrap().0 += quota;
            for owned in state.owned.remove(&object.0).unwrap_or_default() {
                state.live.remove(&owned);
                state.pages.retain(|&(space, _), _| space != owned);
                state.ports.retain(|&(space, _)| space != owned);
            }
            return Ok(());
        }
        state.pages.retain(|&(space, _), _| space != object.0);
        let state = &mut *state;
        for (pd, owned) in &mut state.owned {
            let before = owned.len();
            owned.retain(|&owned| owned != object.0);
            state.accounts.get_mut(pd).unwrap().1 -= (before - owned.len()) as u64;
        }
        Ok(())
    }
    fn delegate(&self, delegate: Delegate) -> Result<u64, Status> {
        if delegate.rights != 0 {
            self.spark()?;
        }
        let mut state = self.state.borrow_mut();
        // At most 1000 units at a time, as a kernel that lets others run.
        let count = delegate.count.min(1000);
        for n in 0..count {
            let at = (delegate.to.0, delegate.dst + n);
            match (delegate.from, delegate.rights) {
                (root::PHYS, 0) => drop(state.pages.remove(&at)),
                (root::PHYS, _) => drop(state.pages.insert(at, delegate.src + n)),
                (root::ALL_PIO, 0) => drop(state.ports.remove(&at)),
                (root::ALL_PIO, _) => drop(state.ports.insert(at)),
                _ => {}
            }
        }
        Ok(count)
    }
    fn ctrl_pd(&self, ctrl: CtrlPd) -> Result<(u64, u64), Status> {
        let mut state = self.state.borrow_mut();
        match ctrl {
            CtrlPd::Query { pd } => state.accounts.get(&pd.0).copied().ok_or(Status::BadCapability),
            CtrlPd::Transfer { to, from, pages } => {
                let source = state.accounts.get_mut(&from.0).ok_or(Status::BadCapability)?;
                if source.0 - source.1 < pages {
                    return Err(Status::OutOfMemory);
                }
                source.0 -= pages;
                state.accounts.get_mut(&to.0).ok_or(Status::BadCapability)?.0 += pages;
                Ok((0, 0))
            }
        }
    }
    fn consumed(&self, _: Sel) -> Result<u64, Status> {
        Ok(77)
    }
    fn sm_up(&self, sm: Sel) -> Result<(), Status> {
        self.state.borrow_mut().ups.push(sm);
        Ok(())
    }
    fn assign_int(&self, _: AssignInt) -> Result<(u64, u64), Status> {
        self.spark().map(|()| (0xfee0_0000, 0x41))
    }
    fn zero(&self, memory: Range) -> Result<(), Status> {
        self.spark()?;
        self.state.borrow_mut().zeroed.push(memory);
        Ok(())
    }
    fn copy(&self, from: Range, to: Range) -> Result<(), Status> {
        self.spark()?;
        self.state.borrow_mut().copied.push((from, to));
        Ok(())
    }
    fn read(&self, address: u64, into: &mut [u8]) {
        let text = match address {
            HELLO_LINE => b"/boot/hello\0".to_vec(),
            INIT_LINE => b"/boot/init --fast\0".to_vec(),
            INIT_BASE => program_head(),
            _ => Vec::new(),
        };
        into.fill(0);
        into.iter_mut().zip(text).for_each(|(to, from)| *to = from);
    }
    fn log(&self, line: fmt::Arguments<'_>) {
        self.state.borrow_mut().log.push(line.to_string());
    }
}

fn range(kind: RangeKind, base: u64, size: u64, aux: u64) -> hip::Range {
    hip::Range { base, size, kind: kind as u32, reserved: 0, aux }
}

fn information() -> Hip {
    let mut ranges = [hip::Range::default(); hip::MAX_RANGES];
    ranges[0] = range(RangeKind::Free, RAM_BASE, RAM + 0x1000, 0);
    ranges[1] = range(RangeKind::Module, HELLO_BASE, 0x800, HELLO_LINE);
    ranges[2] = range(RangeKind::Module, INIT_BASE, 0x4000, INIT_LINE);
    Hip {
        magic: hip::MAGIC,
        version: abi::VERSION,
        cpu_count: 4,
        features: Features::SVM.bits(),
        tsc_hz: 1_000_000_000,
        rsdp: 0,
        command_line: 0,
        gsi_count: 24,
        log_port: 0x3f8,
        apic_id: [0; 256],
        framebuffer: [0; 2],
        range_count: 3,
        reserved: 0,
        ranges,
    }
}

/// Start of an ELF file (gABI, ELF-64): code at 0x400000 from offset 0x1000, data at 0x402100 from offset 0x3100.
fn program_head() -> Vec<u8> {
    let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    head.extend([2u16, 62].iter().flat_map(|n| n.to_le_bytes()));
    head.extend(1u32.to_le_bytes());
    head.extend([0x40_0010u64, 64, 0].iter().flat_map(|n| n.to_le_bytes()));
    head.extend(0u32.to_le_bytes());
    head.extend([64u16, 56, 2, 64, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
    for (flags, offset, address, in_file, in_memory) in
        [(5u32, 0x1000u64, 0x40_0000u64, 0x2000u64, 0x2000u64), (6, 0x3100, 0x40_2100, 0x10, 0x1000)]
    {
        head.extend([1, flags].iter().flat_map(|n| n.to_le_bytes()));
        head.extend([offset, address, address, in_file, in_memory, PAGE_SIZE].iter().flat_map(|n| n.to_le_bytes()));
    }
    head
}

fn model() -> Model {
    let model = Model::default();
    model.state.borrow_mut().accounts.insert(root::PD.0, (CAPS, 0));
    model
}

fn core(model: &Model) -> Core<'_, Model> {
    let hip = information();
    Core::new(model, &hip, Memory::new(&hip.ranges[..3]), Sel(100))
}

fn open(core: &mut Core<'_, Model>, service: &str, args: &str) -> Result<Session, SessionError> {
    let payer = core.ledger.root();
    core.open_session(payer, service, Args(args), &Affinity::default())
}

const QUOTA: &str = r#"label="init -> app", ram_quota=1M, cap_quota=60"#;

fn open_pd(core: &mut Core<'_, Model>) -> Session {
    open(core, "PD", QUOTA).unwrap()
}

fn pd_call<'a, 'm>(core: &'a mut Core<'m, Model>, pd: Session) -> pd::Call<'a, 'm, Model> {
    pd::Call { core, key: pd.key }
}

fn own<K>(key: Key) -> Typed<K, Handle> {
    Typed::new(Handle::Own(key))
}

fn map_of(core: &Core<'_, Model>, pd: Session) -> Key {
    core.pds[&pd.key].map
}

/// Everything that an operation without effect leaves alone.
fn figures(core: &Core<'_, Model>) -> impl PartialEq + fmt::Debug + use<> {
    let accounts: Vec<_> =
        core.pds.values().map(|pd| (core.ledger.quota(pd.account), core.ledger.used(pd.account))).collect();
    let own = core.ledger.root();
    let state = core.kernel.0.state.borrow();
    (
        (core.ledger.quota(own), core.ledger.used(own), core.ledger.total(), accounts),
        (core.selectors.total(), core.ram.total(), core.io_mem.total(), core.ports.total(), core.lines.total()),
        (core.objects.len(), core.dataspaces.len(), core.maps.len(), core.threads.len(), core.events.len()),
        (state.accounts.clone(), state.live.clone(), state.pages.clone(), state.ports.clone()),
    )
}

#[test]
fn init_gets_everything_and_asks_core_as_its_parent() {
    let model = model();
    let mut core = core(&model);
    core.start_init().unwrap();
    let (ram, caps) = (RAM >> 20, CAPS - 64 - 2);
    assert_eq!(model.state.borrow().log, [format!("[core] {ram} MiB RAM and {caps} caps assigned to init")]);
    let own = core.ledger.root();
    assert_eq!(core.ledger.quota(own), core.ledger.used(own));
    let pd = core.child.as_ref().unwrap().pd;
    assert_eq!(fault(&mut core, pd, 0x40_1234, false), Verdict::Resume);
    assert_eq!(fault(&mut core, pd, 0x40_2ff8, true), Verdict::Resume);
    let state = model.state.borrow();
    let mapped: Vec<_> = state.pages.iter().map(|(&(_, page), &to)| (page, to)).collect();
    let (from, to) = state.copied[0];
    let (code, data) = (INIT_BASE / PAGE_SIZE, to.base() / PAGE_SIZE);
    assert_eq!(mapped, [(0x400, code + 1), (0x401, code + 2), (0x402, data), (0x403, data + 1)]);
    assert_eq!((from.base(), from.size(), to.base() % PAGE_SIZE), (INIT_BASE + 0x3100, 0x10, 0x100));
    drop(state);

    let before = pd_call(&mut core, pd).account();
    let mut call = parent::Call { core: &mut core };
    let mut ask =
        |id, args: &str| call.session(id, Text::from("LOG").unwrap(), Text::from(args).unwrap(), Affinity::default());
    let tick = r#"label="tick", ram_quota=8K, cap_quota=2"#;
    let log = ask(16, tick).unwrap().unwrap().into_name().own().unwrap();
    assert_eq!(ask(16, tick).map(drop), Err(SessionError::Denied));
    assert_eq!(ask(3, tick).map(drop), Err(SessionError::Denied));
    log::Call { core: &mut core, key: log }.write(Text::from("hello").unwrap());
    assert_eq!(model.state.borrow().log.last().unwrap(), "[init -> tick] hello");
    let mut call = parent::Call { core: &mut core };
    let more = Quota { ram: 4096, caps: 1 };
    call.upgrade(16, more).unwrap();
    assert_eq!(call.upgrade(16, Quota { ram: u64::MAX, caps: 0 }), Err(UpgradeError::OutOfRam));
    assert_eq!(call.upgrade(17, more), Err(UpgradeError::NoSession));
    call.close(16).unwrap();
    assert!(call.close(16).is_err() && call.close(3).is_err());
    call.exit(-7);
    assert_eq!(model.state.borrow().log.last().unwrap(), "[core] system exit: -7");
    assert_eq!(pd_call(&mut core, pd).account(), before);
}

#[test]
fn what_keeps_init_from_starting_is_told() {
    let hip = information();
    let model = model();
    let mut core = Core::new(&model, &hip, Memory::new(&hip.ranges[..2]), Sel(100));
    assert_eq!(core.start_init().unwrap_err().to_string(), "session of its environment: Denied");
    assert_eq!(model.state.borrow().log[1], "[core] no boot module \"init\" (wanted as \"init\")");
}

#[test]
fn ram_is_zeroed_rounded_and_paid() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let before = pd_call(&mut core, pd).account();
    let dataspace = pd_call(&mut core, pd).alloc_ram(5000).unwrap().into_name().own().unwrap();
    let after = pd_call(&mut core, pd).account();
    assert_eq!((after.ram_used - before.ram_used, after.cap_used - before.cap_used), (8192, 1));
    assert_eq!(model.state.borrow().zeroed.last().unwrap().size(), 8192);
    let other = open_pd(&mut core);
    assert_eq!(pd_call(&mut core, other).free_ram(own(dataspace)), Err(NotOwned::NotOwned));
    pd_call(&mut core, pd).free_ram(own(dataspace)).unwrap();
    assert_eq!(pd_call(&mut core, pd).account(), before);
    assert_eq!(pd_call(&mut core, pd).free_ram(own(dataspace)), Err(NotOwned::NotOwned));
}

#[test]
fn what_cannot_be_paid_has_no_effect() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let before = figures(&core);
    let error = |core: &mut Core<'_, Model>, size| pd_call(core, pd).alloc_ram(size).map(drop);
    assert_eq!(error(&mut core, 2 << 20), Err(AllocError::OutOfRam));
    assert_eq!(error(&mut core, 0), Err(AllocError::Denied));
    assert_eq!(error(&mut core, u64::MAX), Err(AllocError::Denied));
    assert_eq!(before, figures(&core));
    let mut count = 0;
    let last = loop {
        match error(&mut core, 4096) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(count > 10);
    assert_eq!(last, AllocError::OutOfCaps);
}

#[test]
fn budgets_move_between_an_account_and_its_reference_only() {
    let model = model();
    let mut core = core(&model);
    let [a, b, c] = [(); 3].map(|()| open_pd(&mut core));
    pd_call(&mut core, b).ref_account(own(a.key)).unwrap();
    pd_call(&mut core, c).ref_account(own(a.key)).unwrap();
    assert_eq!(pd_call(&mut core, b).ref_account(own(c.key)), Err(RefAccountError::AlreadySet));
    assert_eq!(pd_call(&mut core, b).transfer_ram(own(c.key), 1), Err(TransferError::Invalid));
    assert_eq!(pd_call(&mut core, a).transfer_ram(own(b.key), 1), Err(TransferError::Exceeded));
    assert_eq!(
        pd_call(&mut core, a).transfer_caps(Typed::new(Handle::Foreign(Sel(5))), 1),
        Err(TransferError::Invalid)
    );
}

#[test]
fn every_session_returns_everything_when_closed() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    for (service, args) in SERVICES {
        let session = open(&mut core, service, args).unwrap();
        core.close_session(session);
        assert_eq!(before, figures(&core), "{service}");
    }
}

const SERVICES: [(&str, &str); 9] = [
    ("ROM", r#"label="init -> hello", ram_quota=64K, cap_quota=10"#),
    ("LOG", QUOTA),
    ("PD", QUOTA),
    ("CPU", QUOTA),
    ("RM", QUOTA),
    ("IO_MEM", "ram_quota=64K, cap_quota=10, base=0xfed00000, size=4096"),
    ("IO_PORT", "ram_quota=64K, cap_quota=10, io_port_base=0x2f8, io_port_size=8"),
    ("IRQ", "ram_quota=64K, cap_quota=10, irq_number=4"),
    ("VM", QUOTA),
];

#[test]
fn a_failure_of_the_kernel_anywhere_leaves_nothing_behind() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    for (service, args) in SERVICES {
        for fuse in 0.. {
            model.fuse.set(Some(fuse));
            let result = open(&mut core, service, args);
            let burnt = model.fuse.take().is_none();
            match result {
                Ok(session) => core.close_session(session),
                Err(_) => assert!(burnt, "{service}"),
            }
            assert_eq!(before, figures(&core), "{service}, failure {fuse}");
            if !burnt {
                break;
            }
        }
    }
}

#[test]
fn too_small_a_donation_is_told_apart_from_an_empty_account() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    for (args, error) in [
        ("cap_quota=100", SessionError::InsufficientRam),
        ("ram_quota=1M, cap_quota=1", SessionError::InsufficientCaps),
        ("ram_quota=10G, cap_quota=100", SessionError::OutOfRam),
        ("ram_quota=1M, cap_quota=100000", SessionError::OutOfCaps),
    ] {
        assert_eq!(open(&mut core, "PD", args), Err(error), "{args}");
    }
    assert_eq!(open(&mut core, "ROM", r#"label="x -> nope", ram_quota=1M, cap_quota=9"#), Err(SessionError::Denied));
    assert_eq!(open(&mut core, "Gui", QUOTA), Err(SessionError::Denied));
    assert_eq!(before, figures(&core));
    let log = model.state.borrow().log.clone();
    assert_eq!(
        log,
        [
            "[core] no boot module \"nope\" (wanted as \"x -> nope\")",
            "[core] no service \"Gui\" (wanted by \"init -> app\")"
        ]
    );
}

#[test]
fn device_resources_are_exclusive() {
    let model = model();
    let mut core = core(&model);
    let quota = "ram_quota=64K, cap_quota=10";
    for (service, first, conflicts) in [
        (
            "IO_MEM",
            "base=0xfed00000, size=0x2000",
            vec!["base=0xfed01800, size=16", "base=0x500000, size=4096", "size=1"],
        ),
        (
            "IO_PORT",
            "io_port_base=0x2f8, io_port_size=8",
            vec![
                "io_port_base=0x2ff, io_port_size=1",
                "io_port_base=0x3fd, io_port_size=1",
                "io_port_base=0xffff, io_port_size=2",
            ],
        ),
        ("IRQ", "irq_number=4", vec!["irq_number=4", "irq_number=24"]),
    ] {
        open(&mut core, service, &format!("{quota}, {first}")).unwrap();
        for conflict in conflicts {
            let result = open(&mut core, service, &format!("{quota}, {conflict}"));
            assert_eq!(result, Err(SessionError::Denied), "{service} {conflict}");
        }
    }
}

#[test]
fn ports_vanish_with_their_session() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let session = open(&mut core, "IO_PORT", SERVICES[6].1).unwrap();
    io_port::Call { core: &mut core, key: session.key }.bind(own(pd.key)).unwrap();
    assert_eq!(model.state.borrow().ports.len(), 8);
    core.close_session(session);
    assert!(model.state.borrow().ports.is_empty());
}

#[test]
fn an_interrupt_is_bound_again_and_released() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    let session = open(&mut core, "IRQ", SERVICES[7].1).unwrap();
    for _ in 0..2 {
        let info = irq::Call { core: &mut core, key: session.key }.bind(Typed::new(Handle::Foreign(Sel(50))));
        assert!(!info.unwrap().msi);
    }
    core.close_session(session);
    assert_eq!(before, figures(&core));
    let session = open(&mut core, "IRQ", r#"ram_quota=64K, cap_quota=10, irq_type="msi""#).unwrap();
    let info = irq::Call { core: &mut core, key: session.key }.bind(Typed::new(Handle::Foreign(Sel(50)))).unwrap();
    assert_eq!((info.msi, info.address, info.data), (true, 0xfee0_0000, 0x41));
}

/// A page fault of `pd` by a read or write.
fn fault(core: &mut Core<'_, Model>, pd: Session, address: u64, write: bool) -> Verdict {
    let events = core.pds[&pd.key].events;
    core.handle_event(
        events.0.0,
        &EventWords { reason: 14, info1: if write { 6 } else { 4 }, info2: address, rip: 0x40_1000 },
    )
}

fn attach(core: &mut Core<'_, Model>, map: Key, dataspace: Key, wish: Attachment) -> Result<u64, AttachError> {
    region_map::Call { core, key: map }.attach(own(dataspace), wish)
}

#[test]
fn faults_map_what_is_attached_and_nothing_else() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let map = map_of(&core, pd);
    let dataspace = core.alloc_ram(pd.key, 0x3000).unwrap();
    attach(&mut core, map, dataspace, Attachment::at(0x100_0000, MemRights::READ)).unwrap();
    assert_eq!(fault(&mut core, pd, 0x100_1234, false), Verdict::Resume);
    assert_eq!(model.state.borrow().pages.len(), 3);
    assert_eq!(fault(&mut core, pd, 0x100_1234, true), Verdict::Stop);
    assert_eq!(fault(&mut core, pd, 0x100_3000, false), Verdict::Stop);
    let log = model.state.borrow().log.clone();
    assert_eq!(
        log,
        [
            "[core] init -> app: page fault at 0x1001234 (write), ip 0x401000: not permitted",
            "[core] init -> app: page fault at 0x1003000 (read), ip 0x401000: nothing there",
        ]
    );
    region_map::Call { core: &mut core, key: map }.detach(0x100_0000).unwrap();
    assert!(model.state.borrow().pages.is_empty());
    assert_eq!(fault(&mut core, pd, 0x100_1234, false), Verdict::Stop);
}

#[test]
fn the_parent_hears_of_a_fatal_fault() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let key = map_of(&core, pd);
    region_map::Call { core: &mut core, key }.fault_handler(Typed::new(Handle::Foreign(Sel(50))));
    let events = core.pds[&pd.key].events;
    assert_eq!(
        core.handle_event(events.0.0, &EventWords { reason: 6, info1: 0, info2: 0, rip: 0x1234 }),
        Verdict::Stop
    );
    assert_eq!(model.state.borrow().ups.len(), 1);
    assert_eq!(region_map::Call { core: &mut core, key }.fault().unwrap().address, 0x1234);
}

#[test]
fn freed_ram_is_nowhere_mapped() {
    let model = model();
    let mut core = core(&model);
    let [a, b] = [(); 2].map(|()| open_pd(&mut core));
    let dataspace = core.alloc_ram(a.key, 0x1000).unwrap();
    for pd in [a, b] {
        let map = map_of(&core, pd);
        let at = attach(&mut core, map, dataspace, Attachment::anywhere(MemRights::READ)).unwrap();
        assert_eq!(fault(&mut core, pd, at, false), Verdict::Resume);
    }
    assert_eq!(model.state.borrow().pages.len(), 2);
    pd_call(&mut core, a).free_ram(own(dataspace)).unwrap();
    assert!(model.state.borrow().pages.is_empty());
    assert_eq!(core.maps[&map_of(&core, b)].regions.len(), 0);
}

#[test]
fn managed_dataspaces_nest_and_unmap() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let session = open(&mut core, "RM", QUOTA).unwrap();
    let create = |core: &mut Core<'_, Model>| {
        rm::Call { core, key: session.key }.create(0x10_0000).unwrap().into_name().own().unwrap()
    };
    let (outer, inner) = (create(&mut core), create(&mut core));
    let dataspace_of = |core: &Core<'_, Model>, map: Key| core.maps[&map].dataspace.unwrap();
    let ram = core.alloc_ram(pd.key, 0x4000).unwrap();
    attach(&mut core, inner, ram, Attachment::at(0x8000, MemRights::READ)).unwrap();
    let (inner_ds, outer_ds) = (dataspace_of(&core, inner), dataspace_of(&core, outer));
    attach(&mut core, outer, inner_ds, Attachment { offset: 0x9000, size: 0x2000, address: 0x1000, rights: 1 })
        .unwrap();
    let map = map_of(&core, pd);
    attach(&mut core, map, outer_ds, Attachment::at(0x100_0000, MemRights::READ | MemRights::WRITE)).unwrap();
    assert_eq!(fault(&mut core, pd, 0x100_1010, false), Verdict::Resume);
    let physical = core.dataspaces[&ram].backing() / PAGE_SIZE;
    let mapped: Vec<_> = model.state.borrow().pages.iter().map(|(&(_, page), &to)| (page, to - physical)).collect();
    assert_eq!(mapped, [(0x1001, 1), (0x1002, 2)]);
    assert_eq!(fault(&mut core, pd, 0x100_3000, false), Verdict::Stop);
    attach(&mut core, inner, inner_ds, Attachment::at(0x2_0000, MemRights::READ)).unwrap_err();
    region_map::Call { core: &mut core, key: inner }.detach(0x8000).unwrap();
    assert!(model.state.borrow().pages.is_empty());
    core.close_session(session);
    assert_eq!(core.maps[&map].regions.len(), 0);
}

#[test]
fn a_thread_starts_once_and_dies_with_its_protection_domain() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    let (pd, session) = (open_pd(&mut core), open(&mut core, "CPU", QUOTA).unwrap());
    let place = ThreadPlace { cpu: 0, below: 0, utcb: 0x7000_0000 };
    let mut call = cpu::Call { core: &mut core, key: session.key };
    assert!(call.create_thread(own(pd.key), Text::new(), ThreadPlace { cpu: 4, ..place }).is_err());
    assert!(call.create_thread(own(pd.key), Text::new(), ThreadPlace { utcb: 1, ..place }).is_err());
    let thread = call.create_thread(own(pd.key), Text::new(), place).unwrap().into_name().own().unwrap();
    let unstarted = call.create_thread(own(pd.key), Text::new(), place).unwrap().into_name().own().unwrap();
    let live = model.state.borrow().live.len();
    let mut call = cpu::ThreadCall { core: &mut core, key: thread };
    call.start(0x40_0000, 0).unwrap();
    assert_eq!(model.state.borrow().live.len(), live + 2);
    assert!(call.start(0x40_0000, 0).is_err());
    assert_eq!(call.consumed(), 77);
    core.close_session(pd);
    assert!(cpu::ThreadCall { core: &mut core, key: unstarted }.start(0x40_0000, 0).is_err());
    core.close_session(session);
    assert_eq!(before, figures(&core));
}

#[test]
fn guests_get_memory_and_lose_it() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    let (pd, session) = (open_pd(&mut core), open(&mut core, "VM", QUOTA).unwrap());
    let ram = core.alloc_ram(pd.key, 0x4000).unwrap();
    let wish = GuestAttachment { guest_address: 0, offset: 0, size: 0, rights: 3 };
    let mut call = vm::Call { core: &mut core, key: session.key };
    assert_eq!(call.attach(own(ram), wish), Err(VmError::InvalidPd));
    call.bind(own(pd.key)).unwrap();
    assert_eq!(call.bind(own(pd.key)), Err(VmError::InvalidPd));
    call.attach(own(ram), wish).unwrap();
    assert_eq!(call.attach(own(ram), wish), Err(VmError::Conflict));
    assert_eq!(call.attach(own(ram), GuestAttachment { offset: 0x4000, ..wish }), Err(VmError::InvalidDataspace));
    assert_eq!(model.state.borrow().pages.len(), 4);
    assert_eq!(call.detach(0x1000, 0x1000), Err(VmError::BadParameter));
    let vcpu = call.create_vcpu(0, 0x100).unwrap();
    assert!(matches!(vcpu.name(), Handle::Foreign(_)));
    assert_eq!(call.create_vcpu(9, 0x100).map(drop), Err(VmError::NoSuchCpu));
    call.start_vcpu(0).unwrap();
    assert_eq!(call.start_vcpu(0), Err(VmError::BadParameter));
    assert_eq!(call.start_vcpu(1), Err(VmError::BadParameter));
    pd_call(&mut core, pd).free_ram(own(ram)).unwrap();
    assert!(model.state.borrow().pages.is_empty());
    core.close_session(session);
    core.close_session(pd);
    assert_eq!(before, figures(&core));
}

#[test]
fn without_virtualization_there_is_no_vm_service() {
    let model = model();
    let mut core = core(&model);
    core.machine_info.features = Features::empty();
    assert_eq!(open(&mut core, "VM", QUOTA), Err(SessionError::Denied));
    assert_eq!(model.state.borrow().log, ["[core] VM service absent: CPU has no SVM/VMX"]);
}

/// A message as a client would send it.
struct Sent(RefCell<Utcb>);

impl Buffer for Sent {
    type Cap = Handle;
    fn with<R>(&self, access: impl FnOnce(&mut Utcb) -> R) -> R {
        access(&mut self.0.borrow_mut())
    }
    fn send(&self, cap: &Handle, perms: abi::cap::Perms) -> CapItem {
        cap.item(perms)
    }
    fn receive(&self, index: usize) -> Option<Handle> {
        Handle::received(*self.0.borrow().caps.get(index)?)
    }
}

proptest! {
    #[test]
    fn no_message_harms_core(
        calls in prop::collection::vec(
            (any::<prop::sample::Index>(), 0u32..8, prop::array::uniform4(prop_oneof![0u64..20, (0u64..8).prop_map(|n| n << 12), any::<u64>()]),
             prop::collection::vec(any::<u64>(), 0..6), prop::option::of(any::<prop::sample::Index>())),
            0..60,
        ),
    ) {
        let model = model();
        let mut core = core(&model);
        let total = core.ledger.total();
        let mut sessions = Vec::new();
        for (service, args) in SERVICES {
            sessions.push(open(&mut core, service, args).unwrap());
        }
        for (target, label, words, more, cap) in calls {
            let keys: Vec<Key> = core.objects.keys().copied().collect();
            let mut utcb = Utcb {
                words: [0; abi::message::MAX_WORDS],
                caps: [CapItem::default(); abi::message::MAX_CAPS],
                window_base: 0,
                window_count: 0,
                user: [0; 38],
            };
            utcb.words.iter_mut().zip(&more).for_each(|(to, from)| *to = *from);
            if let Some(cap) = cap {
                utcb.caps[0] = CapItem { sel: cap.get(&keys).0.0, info: CapItem::OWN, identity: 1 };
            }
            let message = Message { tag: Tag::new(label, more.len(), usize::from(cap.is_some())), words };
            core.dispatch(target.get(&keys).0.0, &Sent(RefCell::new(utcb)), message);
            prop_assert_eq!(core.ledger.total(), total);
        }
        for session in sessions {
            core.close_session(session);
        }
        prop_assert!(core.objects.values().all(|object| object.kind == Kind::Dataspace), "only modules are left");
        let own = core.ledger.root();
        prop_assert_eq!(core.ledger.quota(own), Ok(total));
        prop_assert_eq!(core.ledger.used(own), Ok(Resources::caps(2)));
        prop_assert_eq!(core.ram.total(), RAM);
    }
}
