//! A model of the kernel that keeps accounts and page tables, a machine with two boot modules, and short cuts.

use crate::boot::Memory;
use crate::kernel::Machine;
use crate::object::{Handle, Key};
use crate::pager::Verdict;
use crate::ranges::Range;
use crate::session::Session;
use crate::{Core, pd};
use abi::PAGE_SIZE;
use abi::cap::{Sel, root};
use abi::event::EventWords;
use abi::hip::{self, Features, Hip, RangeKind};
use abi::hypercall::{AssignInt, CreateEc, CreatePd, CreateSc, CreateSm, CreateSpace, CtrlPd, Delegate};
use abi::session::affinity::Affinity;
use abi::session::args::Args;
use abi::session::parent::SessionError;
use abi::session::wire::Typed;
use abi::status::Status;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

pub(super) const HELLO_LINE: u64 = 0x9000;
pub(super) const INIT_LINE: u64 = 0x9100;
pub(super) const HELLO_BASE: u64 = RAM_BASE + RAM;
pub(super) const INIT_BASE: u64 = HELLO_BASE + 0x1000;
pub(super) const RAM_BASE: u64 = 4 << 20;
pub(super) const RAM: u64 = 64 << 20;
pub(super) const CAPS: u64 = 1000;
/// A page that the hypervisor does not let anybody map: of an I/O APIC.
pub(super) const PROTECTED: u64 = 0xfec0_0000;

#[derive(Default)]
pub(super) struct State {
    /// Quota and used pages of each protection domain.
    pub(super) accounts: BTreeMap<u64, (u64, u64)>,
    /// What each protection domain pays for.
    pub(super) owned: BTreeMap<u64, Vec<u64>>,
    pub(super) live: BTreeSet<u64>,
    /// Space and page to physical page.
    pub(super) pages: BTreeMap<(u64, u64), u64>,
    /// Ports by space.
    pub(super) ports: BTreeSet<(u64, u64)>,
    pub(super) zeroed: Vec<Range>,
    pub(super) copied: Vec<(Range, Range)>,
    pub(super) log: Vec<String>,
    pub(super) ups: Vec<Sel>,
    /// Capabilities copied: space and selector to core's selector, and with which rights.
    pub(super) given: BTreeMap<(u64, u64), (u64, u32)>,
    pub(super) destroyed: Vec<Sel>,
    /// Calls that removed mappings.
    pub(super) removals: u32,
}

/// A kernel that keeps accounts and page tables, and fails when told to.
#[derive(Default)]
pub(super) struct Model {
    pub(super) state: RefCell<State>,
    /// Calls until one fails; `None`: never.
    pub(super) fuse: Cell<Option<u32>>,
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
        state.destroyed.push(object);
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
        let source = delegate.src..delegate.src + delegate.count;
        if delegate.from == root::PHYS && delegate.rights != 0 && source.contains(&(PROTECTED / PAGE_SIZE)) {
            return Err(Status::BadParameter);
        }
        let mut state = self.state.borrow_mut();
        // At most 1000 units at a time, as a kernel that lets others run.
        let count = delegate.count.min(1000);
        state.removals += u32::from(delegate.from == root::PHYS && delegate.rights == 0);
        for n in 0..count {
            let at = (delegate.to.0, delegate.dst + n);
            match (delegate.from, delegate.rights) {
                (root::PHYS, 0) => drop(state.pages.remove(&at)),
                (root::PHYS, _) => drop(state.pages.insert(at, delegate.src + n)),
                (root::OBJ, 0) => drop(state.given.remove(&at)),
                (root::OBJ, rights) => drop(state.given.insert(at, (delegate.src + n, rights))),
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

pub(super) fn range(kind: RangeKind, base: u64, size: u64, aux: u64) -> hip::Range {
    hip::Range { base, size, kind: kind as u32, reserved: 0, aux }
}

pub(super) fn information() -> Hip {
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
        framebuffer: [0; 2],
        range_count: 3,
        vcpu_absence: 0,
        ranges,
    }
}

/// Start of an ELF file (gABI, ELF-64): code at 0x400000 from offset 0x1000, data at 0x402100 from offset 0x3100.
pub(super) fn program_head() -> Vec<u8> {
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

pub(super) fn model() -> Model {
    let model = Model::default();
    model.state.borrow_mut().accounts.insert(root::PD.0, (CAPS, 0));
    model
}

pub(super) fn core(model: &Model) -> Core<'_, Model> {
    let hip = information();
    Core::new(model, &hip, Memory::new(&hip.ranges[..3]), Sel(100))
}

pub(super) fn open(core: &mut Core<'_, Model>, service: &str, args: &str) -> Result<Session, SessionError> {
    let payer = core.ledger.root();
    core.open_session(payer, service, Args(args), &Affinity::default())
}

pub(super) const QUOTA: &str = r#"label="init -> app", ram_quota=1M, cap_quota=60"#;

pub(super) fn open_pd(core: &mut Core<'_, Model>) -> Session {
    open(core, "PD", QUOTA).unwrap()
}

pub(super) fn pd_call<'a, 'm>(core: &'a mut Core<'m, Model>, pd: Session) -> pd::Call<'a, 'm, Model> {
    pd::Call { core, key: pd.key }
}

pub(super) fn own<K>(key: Key) -> Typed<K, Handle> {
    Typed::new(Handle::Own(key))
}

pub(super) fn map_of(core: &Core<'_, Model>, pd: Session) -> Key {
    core.pds[&pd.key].map
}

/// Everything that an operation without effect leaves alone.
pub(super) fn figures(core: &Core<'_, Model>) -> impl PartialEq + fmt::Debug + use<> {
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

pub(super) const SERVICES: [(&str, &str); 9] = [
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

/// A page fault of `pd` by a read or write.
pub(super) fn fault(core: &mut Core<'_, Model>, pd: Session, address: u64, write: bool) -> Verdict {
    let events = core.pds[&pd.key].events;
    core.handle_event(
        events.0.0,
        &EventWords { reason: 14, info1: if write { 6 } else { 4 }, info2: address, rip: 0x40_1000 },
    )
}
