//! Start of core: from the hypervisor information page to the first thread of init.

use crate::account::{AccountError, AccountId, Ledger, Resources};
use crate::affinity::CpuSet;
use crate::boot::{self, Memory, Module};
use crate::dataspace::Dataspace;
use crate::io_port::PORTS;
use crate::isa_lines::IsaLines;
use crate::kernel::{Kernel, Machine};
use crate::object::{Handle, Key, Kind};
use crate::parent::Child;
use crate::ranges::{Range, Ranges};
use crate::session::Session;
use crate::{Core, MachineInfo};
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Sel, root};
use abi::hip::{Features, Hip, VcpuAbsence};
use abi::session::affinity::Affinity;
use abi::session::args::Args;
use abi::session::cpu::ThreadPlace;
use abi::session::initial::{self, session_id};
use abi::session::parent::SessionError;
use abi::session::pd::AllocError;
use abi::session::region_map::{AttachError, Attachment};
use abi::session::rpc::Interface;
use abi::session::wire::{Text, Typed};
use abi::session::{cpu, log, pd, rom};
use abi::status::Status;
use acpi_reader::madt;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use program::{Plan, ProgramError};

/// Name of core's child, its binary and its label.
pub const INIT: &str = "init";
/// Name of core's own boot module, which is nobody else's business.
const CORE: &str = "core";
/// Pages of kernel memory that core keeps for its own page tables.
const PRESERVED_PAGES: u64 = 64;
/// Selectors that core takes for what costs one capability, at most.
const SELECTORS_PER_CAP: u64 = 2;
/// Ports of a UART.
const UART_PORTS: u64 = 8;
/// Longest command line of a module that is looked at.
const COMMAND_LINE_MAX: usize = 256;

/// Why init was not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LaunchError {
    /// No boot module is called so.
    NoModule,
    /// It is not a program.
    Program(ProgramError),
    /// A session that every component has could not be opened.
    Session(SessionError),
    /// Not enough RAM.
    Ram(AllocError),
    /// Its segments could not be filled.
    Copy(Status),
    /// Its segments could not be attached.
    Attach(AttachError),
    /// An account cannot pay.
    Account(AccountError),
    /// Its first thread could not be made or started.
    Thread,
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoModule => f.write_str("no such boot module"),
            Self::Program(error) => write!(f, "{error}"),
            Self::Session(error) => write!(f, "session of its environment: {error}"),
            Self::Ram(error) => write!(f, "RAM: {error}"),
            Self::Copy(status) => write!(f, "segments: {status:?}"),
            Self::Attach(error) => write!(f, "segments: {error}"),
            Self::Account(error) => write!(f, "account: {error:?}"),
            Self::Thread => f.write_str("no first thread"),
        }
    }
}

impl core::error::Error for LaunchError {}

impl From<SessionError> for LaunchError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<AccountError> for LaunchError {
    fn from(error: AccountError) -> Self {
        Self::Account(error)
    }
}

impl<'m, M: Machine> Core<'m, M> {
    /// Core on the machine that the hypervisor describes. `memory` is what of the described memory core does not use
    /// itself, `first_free` the first selector that it does not use itself.
    pub fn new(machine: &'m M, hip: &Hip, memory: Memory, first_free: Sel) -> Self {
        let kernel = Kernel(machine);
        let (quota, used) = kernel.pages(root::PD);
        let selectors = Sel::COUNT.saturating_sub(first_free.0);
        let caps = caps(quota.saturating_sub(used), selectors);
        let (ledger, own) = Ledger::new(kernel, Resources { ram: memory.ram.total(), caps });
        let read = |address, len| {
            let mut bytes = vec![0; len];
            machine.read(address, &mut bytes);
            Some(bytes)
        };
        let madt = acpi_reader::tables(hip.rsdp, read)
            .and_then(|mut tables| tables.find(|table| table.starts_with(madt::SIGNATURE)))
            .unwrap_or_default();
        let machine_info = MachineInfo {
            tsc_hz: hip.tsc_hz,
            cpus: CpuSet::all(hip.cpu_count),
            features: Features::from_bits_truncate(hip.features),
            vcpu_absence: VcpuAbsence::from_number(hip.vcpu_absence),
        };
        let mut core = Self {
            kernel,
            machine_info,
            ledger,
            selectors: all(first_free.0, selectors),
            ram: memory.ram,
            io_mem: memory.io_mem,
            ports: all(0, PORTS),
            lines: all(0, u64::from(hip.gsi_count)),
            isa_lines: IsaLines::new(madt::entries(&madt)),
            modules: BTreeMap::new(),
            objects: BTreeMap::new(),
            pds: BTreeMap::new(),
            events: BTreeMap::new(),
            maps: BTreeMap::new(),
            dataspaces: BTreeMap::new(),
            cpus: BTreeMap::new(),
            threads: BTreeMap::new(),
            rms: BTreeMap::new(),
            logs: BTreeMap::new(),
            roms: BTreeMap::new(),
            io_mems: BTreeMap::new(),
            io_ports: BTreeMap::new(),
            irqs: BTreeMap::new(),
            vms: BTreeMap::new(),
            child: None,
        };
        if let Some(ports) = Range::new(u64::from(hip.log_port), UART_PORTS).filter(|ports| ports.base() != 0) {
            core.ports.remove(ports);
        }
        // All names first: they may be behind the end of a module, in its last page.
        let modules: Vec<_> =
            memory.modules.iter().filter_map(|module| Some((core.name_of(module)?, module))).collect();
        for (name, module) in modules {
            core.add_module(name, module.memory, own);
        }
        core
    }

    fn name_of(&self, module: &Module) -> Option<String> {
        let mut line = [0; COMMAND_LINE_MAX];
        self.kernel.0.read(module.command_line, &mut line);
        boot::module_name(&line).filter(|name| name != CORE)
    }

    fn add_module(&mut self, name: String, memory: Range, own: AccountId) {
        let pages = memory
            .end()
            .checked_next_multiple_of(PAGE_SIZE)
            .and_then(|end| Range::new(memory.base(), end - memory.base()));
        let Some(pages) = pages.filter(|pages| pages.base().is_multiple_of(PAGE_SIZE)) else {
            self.log(format_args!("boot module \"{name}\" is not at a page boundary, ignored"));
            return;
        };
        // What follows the module in its last page may be anything.
        let tail = Range::new(memory.end(), pages.end() - memory.end());
        if tail.is_some_and(|tail| self.kernel.0.zero(tail).is_err()) {
            self.log(format_args!("boot module \"{name}\" cannot be padded, ignored"));
            return;
        }
        match self.create_object(Kind::Dataspace, own) {
            Ok(key) => {
                self.dataspaces.insert(key, Dataspace::physical(pages, MemRights::READ | MemRights::EXEC));
                self.modules.insert(name, key);
            }
            Err(error) => self.log(format_args!("boot module \"{name}\" ignored: {error:?}")),
        }
    }

    /// Starts init with everything that is left.
    ///
    /// # Errors
    /// As [`LaunchError`] says. The system is of no use then.
    pub fn start_init(&mut self) -> Result<(), LaunchError> {
        let pd = self.create_init_pd()?;
        let Resources { ram, caps } = self.ledger.quota(pd.account)?;
        self.log(format_args!("{} MiB RAM and {caps} caps assigned to {INIT}", ram >> 20));
        self.child = Some(Child { pd, sessions: BTreeMap::from([(session_id::PD, pd)]) });
        let cpu = self.open_environment::<cpu::Cpu>(pd, session_id::CPU)?;
        self.open_environment::<log::Log>(pd, session_id::LOG)?;
        self.open_environment::<rom::Rom>(pd, session_id::BINARY)?;
        let parent = self.create_object(Kind::Parent, pd.account)?;
        self.assign_parent(pd.key, parent.0);
        let entry = self.load(pd.key, INIT)?;
        let place = ThreadPlace { cpu: 0, below: 0, utcb: initial::UTCB };
        let name = Text::from(INIT).map_err(|_| LaunchError::Thread)?;
        let thread = cpu::Server::create_thread(
            &mut crate::cpu::Call { core: self, key: cpu.key },
            Typed::new(Handle::Own(pd.key)),
            name,
            place,
        );
        let thread = thread.ok().and_then(|thread| thread.into_name().own()).ok_or(LaunchError::Thread)?;
        // Init sets up its own stack, but the kernel insists on an address.
        self.start_thread(thread, entry, initial::UTCB).map_err(|_| LaunchError::Thread)
    }

    fn create_init_pd(&mut self) -> Result<Session, LaunchError> {
        let own = self.ledger.root();
        let account = self.ledger.open(own, pd::Pd::LEAST.into())?;
        self.ledger.set_reference(account, own)?;
        let rest = self.ledger.quota(own)?.saturating_sub(self.ledger.used(own)?);
        self.ledger.transfer(own, account, rest)?;
        let key = self.create_pd(INIT, account, self.machine_info.cpus)?;
        Ok(Session { key, account })
    }

    fn open_environment<I: Interface>(&mut self, pd: Session, id: u64) -> Result<Session, LaunchError> {
        let args = format!("label=\"{INIT}\", ram_quota={}, cap_quota={}", I::RAM_QUOTA, I::CAP_QUOTA);
        let session = self.open_session(pd.account, I::NAME, Args(&args), &Affinity::default())?;
        if let Some(child) = self.child.as_mut() {
            child.sessions.insert(id, session);
        }
        Ok(session)
    }

    /// Allocates zeroed RAM at once: nobody waits yet.
    fn alloc_ram(&mut self, pd: Key, size: u64) -> Result<Key, LaunchError> {
        loop {
            match self.alloc_ram_step(pd, size) {
                Err(AllocError::Unfinished) => {}
                result => return result.map_err(LaunchError::Ram),
            }
        }
    }

    /// Loads a boot module into a protection domain and returns its entry point.
    fn load(&mut self, pd: Key, name: &str) -> Result<u64, LaunchError> {
        let &module = self.modules.get(name).ok_or(LaunchError::NoModule)?;
        let image = self.physical(module).ok_or(LaunchError::NoModule)?;
        let mut head = vec![0; program::HEAD_SIZE];
        self.kernel.0.read(image.base(), &mut head);
        let plan = Plan::parse(&head, image.size(), program::ADDRESSES).map_err(LaunchError::Program)?;
        let map = self.pds.get(&pd).map(|pd| pd.map).ok_or(LaunchError::Thread)?;
        for segment in &plan.segments {
            let (dataspace, offset) = match &segment.content {
                program::Content::Shared { offset } => (module, *offset),
                program::Content::Private { file, at } => {
                    let dataspace = self.alloc_ram(pd, segment.size)?;
                    let memory = self.physical(dataspace).ok_or(LaunchError::Thread)?;
                    let length = file.end - file.start;
                    let from = Range::new(image.base() + file.start, length);
                    let to = Range::new(memory.base() + at, length);
                    if let Some((from, to)) = from.zip(to) {
                        self.kernel.0.copy(from, to).map_err(LaunchError::Copy)?;
                    }
                    (dataspace, 0)
                }
            };
            let at = Attachment::at(segment.address, segment.rights());
            let attachment = Attachment { offset, size: segment.size, ..at };
            self.attach(map, dataspace, &attachment).map_err(LaunchError::Attach)?;
        }
        Ok(plan.entry)
    }
}

/// How many capabilities there are, of so many unused pages of kernel memory and so many free selectors of core: all can be
/// used, and returned, whatever core's own object space has grown to meanwhile.
fn caps(pages: u64, selectors: u64) -> u64 {
    let pages = pages.saturating_sub(PRESERVED_PAGES);
    let tables = pages.saturating_mul(SELECTORS_PER_CAP).min(selectors).div_ceil(Sel::PER_PAGE);
    pages.saturating_sub(tables).min(selectors / SELECTORS_PER_CAP)
}

/// The set of `size` units from `base`.
fn all(base: u64, size: u64) -> Ranges {
    let mut ranges = Ranges::new();
    if let Some(range) = Range::new(base, size) {
        let freed = ranges.free(range);
        debug_assert!(freed.is_ok(), "the set was empty");
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_leave_room_for_the_object_space_of_core() {
        assert_eq!(caps(0, 1000), 0);
        assert_eq!(caps(64 + 1, 1000), 0);
        // A small machine: 256 MiB have some 2000 pages of kernel memory.
        assert_eq!(caps(64 + 2560, Sel::COUNT), 2560 - 20);
        // A large one: no more than there are selectors for.
        assert_eq!(caps(1 << 20, 1 << 17), 1 << 16);
        for pages in [100, 1000, 10_000, 100_000] {
            let caps = caps(pages, 100_000);
            let tables = (caps * SELECTORS_PER_CAP).min(100_000).div_ceil(Sel::PER_PAGE);
            assert!(caps + tables + PRESERVED_PAGES <= pages && caps * SELECTORS_PER_CAP <= 100_000, "{pages}");
        }
    }
}
