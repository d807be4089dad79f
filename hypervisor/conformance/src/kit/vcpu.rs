//! Virtual machines for the checks: a page of code, a page of data, one vCPU, and a handler that does what the check says.

mod handler;

use crate::kit::context::{Handler, PRIORITY};
use crate::kit::memory::{fresh_cells, map, pages, window};
use crate::kit::object::{self, fresh, must, semaphore};
use crate::kit::time::{after, down, down_until, poll};
use crate::report::{is_known_to_fail, skip};
use crate::sys::guest_code::{self, Code};
use crate::sys::memory::cell;
use abi::cap::{MemRights, Sel, root};
use abi::event::guest;
use abi::hip::Features;
use abi::hypercall::{CpuId, CreateEc, CreateSc, CreateSpace, CtrlPt, EcBody, SpaceKind};
use abi::state::{Controls, Injection, Mtd};
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;
use handler::{at, handle};
use runtime::sys::physical::information_page;

/// Where guests have their code. Their data is at 0: interrupt vectors and the words of the programs.
pub const CODE_AT: u64 = 0x1000;
/// Where the interrupt handler is.
pub const IRQ_AT: u64 = 0x1100;
/// Interrupt vector that leads there.
pub const IRQ_VECTOR: u8 = 0x20;

/// Spaces that a machine is made of, besides its memory.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    /// Ports without exit.
    pub pio: Sel,
    /// MSRs without exit.
    pub msr: Sel,
}

impl Default for Maps {
    fn default() -> Self {
        Self { pio: Sel::NONE, msr: Sel::NONE }
    }
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// Its memory.
    pub guest: Sel,
    /// Its vCPU.
    pub ec: Sel,
    /// The vCPU's scheduling context.
    pub sc: Sel,
    /// Window onto the page at 0.
    pub data: u64,
    cells: u64,
    exited: Sel,
    go: Sel,
    /// First of its event portals, and who paid for them.
    events: Sel,
    portals: Sel,
    handler: Option<Handler>,
}

/// What is known of an exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exit {
    /// Event number.
    pub event: u64,
    /// The vendor's number.
    pub reason: u64,
    /// First information word.
    pub info1: u64,
    /// Second information word.
    pub info2: u64,
    /// Instruction pointer.
    pub rip: u64,
}

impl Machine {
    /// A machine with `code`, that has not started.
    pub fn create(cpu: u16, code: Code, maps: Maps) -> Self {
        Self::with_handler_on(cpu, cpu, code, maps)
    }

    /// The same with its handler on another CPU.
    pub fn with_handler_on(cpu: u16, handler_cpu: u16, code: Code, maps: Maps) -> Self {
        let guest = object::space(root::PD, SpaceKind::Guest);
        let phys = pages(2);
        let data = window(phys, 2);
        guest_code::copy(code, data + CODE_AT, is_vmx());
        guest_code::copy(Code::Irq, data + IRQ_AT, is_vmx());
        crate::sys::memory::store(data + u64::from(IRQ_VECTOR) * 4, IRQ_AT);
        map(guest, phys, 0, 2, MemRights::READ | MemRights::WRITE | MemRights::EXEC);
        Self::of_space(guest, data, cpu, handler_cpu, maps)
    }

    /// Another vCPU in the memory of `first`, with the same program. The memory goes with the last of them.
    pub fn beside(first: &Self, cpu: u16) -> Self {
        Self::of_space(first.guest, first.data, cpu, cpu, Maps::default())
    }

    fn of_space(guest: Sel, data: u64, cpu: u16, handler_cpu: u16, maps: Maps) -> Self {
        let cells = fresh_cells(at::TOTAL);
        let handler = Handler::create(handler_cpu, handle);
        let base = object::fresh_range(guest::COUNT);
        let mtd = Mtd::GPR | Mtd::RIP | Mtd::RFLAGS | Mtd::STA | Mtd::INJ | Mtd::CR | Mtd::XMM | Mtd::PDPTE;
        let portals = object::portals(base, guest::COUNT, handler.ec, cells << 8, mtd);
        let this = Self {
            guest,
            ec: fresh(),
            sc: fresh(),
            data,
            cells,
            exited: semaphore(0),
            go: semaphore(0),
            events: base,
            portals,
            handler: Some(handler),
        };
        cell(cells + at::EXITED).store(this.exited.0, Relaxed);
        cell(cells + at::GO).store(this.go.0, Relaxed);
        must(vcpu(this.ec, root::PD, cpu, base, guest, maps).encode());
        this
    }

    /// Starts it. The first exit is the startup event.
    pub fn start(&self) {
        must(CreateSc { dst: self.sc, pd: root::PD, ec: self.ec, priority: PRIORITY, budget_us: 1000 }.encode());
    }

    fn read(&self, index: u64) -> u64 {
        cell(self.cells + index).load(Relaxed)
    }

    fn write(&self, index: u64, value: u64) {
        cell(self.cells + index).store(value, Relaxed);
    }

    /// Waits for the next exit.
    ///
    /// # Errors
    /// `Timeout` if there is none.
    pub fn exit(&self) -> Result<Exit, Status> {
        down(self.exited).map(|_| self.last())
    }

    /// The same, without much patience if the machine is known to fail this check.
    ///
    /// # Errors
    /// `Timeout` if there is none.
    pub fn exit_of(&self, check: &str) -> Result<Exit, Status> {
        const SHORT_US: u64 = 100_000;
        if !is_known_to_fail(check) {
            return self.exit();
        }
        down_until(self.exited, after(SHORT_US)).map(|_| self.last())
    }

    /// Whether there is no exit for so long.
    pub fn runs_for(&self, us: u64) -> bool {
        down_until(self.exited, after(us)) == Err(Status::Timeout)
    }

    /// An exit that nobody has waited for.
    pub fn unexpected(&self) -> Option<Exit> {
        poll(self.exited).ok().map(|_| self.last())
    }

    /// What is known of the last exit.
    pub fn last(&self) -> Exit {
        Exit {
            event: self.read(at::EVENT),
            reason: self.read(at::REASON),
            info1: self.read(at::INFO1),
            info2: self.read(at::INFO2),
            rip: self.read(at::RIP),
        }
    }

    /// RAX at the last exit.
    pub fn rax(&self) -> u64 {
        self.read(at::RAX)
    }

    /// Low half of XMM0 at the last exit.
    pub fn xmm0(&self) -> u64 {
        self.read(at::XMM0)
    }

    /// Instruction length at the last exit; 0 if unknown.
    pub fn inst_len(&self) -> u64 {
        self.read(at::INST_LEN) & 0xffff_ffff
    }

    /// RFLAGS at the last exit.
    pub fn rflags(&self) -> u64 {
        self.read(at::RFLAGS)
    }

    /// When the handler of the last exit had its turn.
    pub fn time(&self) -> u64 {
        self.read(at::TIME)
    }

    /// First page-directory pointer at the last exit.
    pub fn pdpte0(&self) -> u64 {
        self.read(at::PDPTE0)
    }

    /// Event whose delivery the last exit interrupted.
    pub fn interrupted(&self) -> Injection {
        Injection(self.read(at::INTERRUPTED))
    }

    /// Parts of vector registers that the handler found not to be zero.
    pub fn leftovers(&self) -> u64 {
        self.read(at::LEFTOVERS)
    }

    /// Lets it go on as it is.
    pub fn go(&self) {
        self.write(at::MTD, 0);
        object::up(self.go);
    }

    /// Lets it go on `bytes` further.
    pub fn skip(&self, bytes: u64) {
        self.go_with(bytes, None, None);
    }

    /// Lets it go on `bytes` further, with RAX and an injection if given.
    pub fn go_with(&self, bytes: u64, rax: Option<u64>, injection: Option<u64>) {
        self.write(at::NEW_RIP, self.read(at::RIP) + bytes);
        let mut mtd = Mtd::RIP;
        if let Some(rax) = rax {
            self.write(at::NEW_RAX, rax);
            mtd |= Mtd::ACDB;
        }
        if let Some(injection) = injection {
            self.write(at::INJECTION, injection);
            mtd |= Mtd::INJ;
        }
        self.write(at::MTD, mtd.bits().into());
        object::up(self.go);
    }

    /// Lets it go on `bytes` further with this EFER.
    pub fn go_with_efer(&self, bytes: u64, efer: u64) {
        self.write(at::NEW_RIP, self.read(at::RIP) + bytes);
        self.write(at::NEW_EFER, efer);
        self.write(at::MTD, (Mtd::RIP | Mtd::EFER).bits().into());
        object::up(self.go);
    }

    /// Lets it go on `bytes` further with these intercepts.
    pub fn go_with_controls(&self, bytes: u64, controls: Controls) {
        self.write(at::NEW_RIP, self.read(at::RIP) + bytes);
        self.write(at::CONTROLS, u64::from(controls.bits()) << 32);
        self.write(at::MTD, (Mtd::RIP | Mtd::CTRL).bits().into());
        object::up(self.go);
    }

    /// Lets it go on `bytes` further with this table of page-directory pointers, of which only the first is anything.
    pub fn go_with_tables(&self, bytes: u64, cr3: u64, pdpte0: u64) {
        self.write(at::NEW_RIP, self.read(at::RIP) + bytes);
        self.write(at::NEW_CR3, cr3);
        self.write(at::NEW_PDPTE0, pdpte0);
        self.write(at::MTD, (Mtd::RIP | Mtd::CR | Mtd::PDPTE | Mtd::TLB_FLUSH).bits().into());
        object::up(self.go);
    }

    /// Lets it go on, to be recalled when the host's TSC is there; 0: not to be.
    pub fn go_until(&self, deadline: u64) {
        self.go_until_with(deadline, Mtd::empty());
    }

    /// The same with a reply that also takes this state, as it was at the exit.
    pub fn go_until_with(&self, deadline: u64, more: Mtd) {
        self.write(at::DEADLINE, deadline);
        self.write(at::NEW_RIP, self.read(at::RIP));
        self.write(at::INJECTION, 0);
        self.write(at::MTD, (Mtd::DEADLINE | more).bits().into());
        object::up(self.go);
    }

    /// Lets it go on with an event, and as it is.
    pub fn inject(&self, injection: u64) {
        self.write(at::INJECTION, injection);
        self.write(at::MTD, Mtd::INJ.bits().into());
        object::up(self.go);
    }

    /// Has event `number` deliver this state.
    pub fn select(&self, number: u64, mtd: Mtd) {
        must(CtrlPt { pt: self.events.offset(number), id: self.cells << 8 | number, mtd }.encode());
    }

    /// Answers the startup event: real mode at [`CODE_AT`], with this XMM0 and CR0.
    pub fn boot(&self, xmm0: u64, cr0: u64) {
        self.write(at::NEW_XMM0, xmm0);
        self.write(at::CR0, cr0);
        self.write(at::MTD, 0);
        object::up(self.go);
    }

    /// Has it start with a breakpoint at writes of the word at this address, of which its interrupt handler is told.
    pub fn watch(&self, address: u64) {
        /// L0, writes, four bytes (SDM vol. 3, 18.2.4), and the vector of #DB.
        const WRITES_OF_FOUR: u64 = 1 | 0xd << 16;
        const DEBUG: u64 = 1;
        crate::sys::memory::store(self.data + DEBUG * 4, IRQ_AT);
        self.write(at::DR0, address);
        self.write(at::DR7, WRITES_OF_FOUR);
    }

    /// Starts it, and lets it go on from the startup event in real mode.
    ///
    /// # Errors
    /// `Timeout` if it does not start.
    pub fn start_and_boot(&self) -> Result<Exit, Status> {
        self.start();
        let exit = self.exit()?;
        self.boot(0, CR0_REAL);
        Ok(exit)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for sel in [self.sc, self.ec] {
            let _gone = object::try_destroy(sel);
        }
        self.handler = None;
        for sel in [self.portals, self.guest, self.exited, self.go] {
            let _gone = object::try_destroy(sel);
        }
    }
}

/// Whether the vendor is Intel.
pub fn is_vmx() -> bool {
    features().contains(Features::VMX)
}

fn features() -> Features {
    Features::from_bits_truncate(information_page().features)
}

/// Whether the machine can run virtual CPUs.
pub fn has_guests() -> bool {
    features().intersects(Features::SVM | Features::VMX)
}

/// The same; if it cannot, the checks `of` something do not take place.
pub fn has_guests_for(of: &str) -> bool {
    if !has_guests() {
        skip(of, "the machine has neither SVM nor VMX");
    }
    has_guests()
}

/// CR0 in real mode: ET.
pub const CR0_REAL: u64 = 0x10;

/// Creation of a vCPU.
pub fn vcpu(dst: Sel, pd: Sel, cpu: u16, event_base: Sel, guest: Sel, maps: Maps) -> CreateEc {
    CreateEc { dst, pd, cpu: CpuId(cpu), event_base, body: EcBody::Vcpu { guest, pio: maps.pio, msr: maps.msr } }
}

/// Creation of a space for guests.
pub fn guest_space(dst: Sel, pd: Sel) -> CreateSpace {
    CreateSpace { dst, pd, kind: SpaceKind::Guest }
}
