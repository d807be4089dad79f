//! The hypervisor, as the library wants it.

use std::fmt;
use std::sync::OnceLock;

use abi::cap::Sel;
use abi::event::guest;
use abi::hypercall::{CtrlPt, SmDown};
use abi::session::pd::{Account, Pd};
use abi::session::wire::{Signal, VcpuContext};
use abi::state::{ArchState, Mtd};
use runtime::Error;
use runtime::capability::Cap;
use runtime::rpc::Client;
use runtime::semaphore;
use runtime::sys::{syscall, tsc, utcb};
use vmm::kernel::Kernel;

/// Kernel objects of one virtual CPU.
struct Processor {
    /// What its handler waits on.
    wake: Sel,
    /// The virtual CPU and its portal for recalls, once it is made.
    made: OnceLock<(Cap<VcpuContext>, Sel)>,
}

/// Kernel objects of the machine.
pub struct Hypervisor {
    processors: Vec<Processor>,
    /// What the entrypoint attends to.
    attention: Cap<Signal>,
    /// The component's budget.
    pd: Client<Pd>,
}

impl Hypervisor {
    /// For a machine with `processors` virtual CPUs, which signals its entrypoint by `attention` and is paid by `pd`.
    pub fn new(processors: usize, attention: Cap<Signal>, pd: Client<Pd>) -> Result<Self, Error> {
        let processor =
            || -> Result<Processor, Error> { Ok(Processor { wake: semaphore::create(0)?, made: OnceLock::new() }) };
        Ok(Self { processors: (0..processors).map(|_| processor()).collect::<Result<_, _>>()?, attention, pd })
    }

    /// Virtual CPU `index` has been made.
    pub fn made(&self, index: usize, vcpu: Cap<VcpuContext>, recall: Sel) {
        if let Some(processor) = self.processors.get(index) {
            // Each is made once.
            let _first = processor.made.set((vcpu, recall));
        }
    }

    fn vcpu(&self, index: usize) -> Option<&(Cap<VcpuContext>, Sel)> {
        self.processors.get(index)?.made.get()
    }
}

/// Takes all there is, or waits. The end of the wait is all that matters, not why.
fn wait(sm: Sel, deadline: Option<u64>) {
    // The value for "no deadline" has passed long ago as a deadline.
    let deadline = deadline.map_or(SmDown::FOREVER, |deadline| deadline.max(SmDown::FOREVER + 1));
    let _woken = syscall::sm_down(SmDown { sm, zero: true, deadline });
}

impl Kernel for Hypervisor {
    #[inline]
    fn now(&self) -> u64 {
        tsc::now()
    }

    #[inline]
    fn with_state<R>(&self, access: impl FnOnce(&mut ArchState) -> R) -> R {
        utcb::with_state(access)
    }

    fn wait(&self, vcpu: usize, deadline: Option<u64>) {
        if let Some(processor) = self.processors.get(vcpu) {
            wait(processor.wake, deadline);
        }
    }

    fn wake(&self, vcpu: usize) {
        if let Some(processor) = self.processors.get(vcpu) {
            // The counter cannot overflow: a handler is woken once for each time that it looks.
            let _woken = semaphore::up(processor.wake);
        }
    }

    fn recall(&self, vcpu: usize) {
        if let Some((vcpu, _)) = self.vcpu(vcpu) {
            // It lives as long as its session, which is this component's.
            let _recalled = syscall::recall(vcpu.name().sel());
        }
    }

    fn select_recall(&self, vcpu: usize, selection: Mtd) {
        if let Some(&(_, pt)) = self.vcpu(vcpu) {
            // The portal is this component's own.
            let _set = syscall::ctrl_pt(CtrlPt { pt, id: guest::RECALL, mtd: selection });
        }
    }

    fn attend(&self) {
        // As for `wake`.
        let _signalled = semaphore::up(self.attention.name().sel());
    }

    fn log_use(&self) {
        if let Ok(Account { ram_used, cap_used, .. }) = self.pd.account() {
            self.log(format_args!("{ram_used} bytes of RAM and {cap_used} caps in use"));
        }
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        runtime::log::print(line);
    }
}
