//! A virtual CPU: from an exit to the state with which it continues.
//!
//! An exit is decoded once ([`Exit`]), handled in the file of its kind, and answered with the parts of
//! the state that have changed ([`Mtd`]) and what to [inject](injection). Nothing is transferred
//! that a handler does not read: where it turns out to need more (an exception is due, a register
//! that is rarely accessed), it leaves everything as it is, recalls the virtual CPU and handles the
//! same exit again with all of its state.

mod completion;
mod control;
mod cpuid;
mod debug;
mod emulation;
mod exit;
mod halt;
mod injection;
mod length;
mod msr;
mod port_io;
mod report;
mod selection;
mod startup;
mod task;
mod transfer;
mod window;

use std::fmt;

use abi::event::EventWords;
use abi::hip::Features;
use abi::state::{Injection, Mtd};
use vm_memory::GuestMemoryBackend;

use crate::board::VcpuNews;
use crate::cpuid::GuestCpuid;
use crate::emulator::Emulator;
use crate::exit_stats::ExitKind;
use crate::kernel::Kernel;
use crate::msr::MsrFile;
use crate::state::{VcpuState, Xcr0};
use crate::vm::{EXIT_FAILURE, Inside, Machine, Vm, Who};
pub use exit::{EntryFailure, Exit, MemoryFault, NextRip, Vendor};
use injection::{Boundary, Injector};
use report::Report;
pub use selection::{events, selection};

/// The handler of all exits of one virtual CPU.
pub struct Vcpu<'vm, K, M: GuestMemoryBackend> {
    vm: &'vm Vm<K, M>,
    index: usize,
    traits: Traits,
    emulator: Emulator<'vm, M>,
    /// What the emulator works on; here so that it is not moved around.
    scratch: VcpuState,
    cpuid: GuestCpuid,
    msrs: MsrFile,
    injector: Injector,
    /// What the guest has added to its TSC.
    tsc_adjust: u64,
    /// The machine's when this CPU started.
    generation: u64,
    /// It has not started since the machine was reset: it has no state that an INIT could keep.
    is_fresh: bool,
    deferred: Option<Deferred>,
    /// INIT and start-up messages.
    news: VcpuNews,
    /// Instructions of user code that could not be emulated.
    undefined: u64,
}

/// What a virtual CPU is told about the machine it runs on.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// Of the hypervisor.
    pub features: Features,
    /// What XCR0 may hold; nothing without XSAVE.
    pub xcr0: Xcr0,
    /// Width of guest-physical addresses.
    pub physical_address_bits: u8,
}

/// An exit that waits for more state.
#[derive(Clone, Copy, Debug)]
struct Deferred {
    exit: Exit,
    words: EventWords,
    selection: Mtd,
}

/// An exit in the course of being handled.
#[derive(Clone, Copy, Debug)]
struct Call {
    words: EventWords,
    /// What of the state was delivered.
    delivered: Mtd,
    /// Whose the words are.
    vendor: Vendor,
}

impl Call {
    /// Asks for more state unless it is there.
    fn require(&self, selection: Mtd) -> Result<(), Trouble> {
        if self.delivered.contains(selection) { Ok(()) } else { Err(Trouble::NeedState(selection)) }
    }
}

/// How an exit was handled.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// State that was changed.
    changed: Mtd,
    /// Where the CPU continues.
    boundary: Boundary,
    /// It continues only when there is something to do.
    halts: bool,
}

impl Step {
    /// Continues at `boundary` with `changed` state.
    fn new(changed: Mtd, boundary: Boundary) -> Self {
        Step { changed, boundary, halts: false }
    }

    /// It brings no event and does not halt.
    #[inline]
    fn is_plain(&self) -> bool {
        !self.halts && self.boundary.event().is_none()
    }
}

/// Why an exit was not handled.
enum Trouble {
    /// More state is needed.
    NeedState(Mtd),
    /// The guest cannot continue.
    Stop(Box<Report>),
    /// The machine has to start over.
    Restart,
}

/// Activity of a virtual CPU that is to execute instructions. HLT is emulated, so it never is to do anything else.
const ACTIVE: u32 = 0;

impl<'vm, K: Kernel, M: GuestMemoryBackend> Vcpu<'vm, K, M> {
    /// Virtual CPU `index` of a machine.
    #[must_use]
    pub fn new(vm: &'vm Vm<K, M>, index: usize, cpuid: GuestCpuid, traits: Traits) -> Self {
        Vcpu {
            vm,
            index,
            traits,
            emulator: Emulator::new(&vm.memory),
            scratch: VcpuState::default(),
            cpuid,
            msrs: MsrFile::new(traits.physical_address_bits),
            injector: Injector::default(),
            tsc_adjust: 0,
            generation: 0,
            is_fresh: true,
            deferred: None,
            news: VcpuNews::default(),
            undefined: 0,
        }
    }

    /// Handles event `number`, whose state the kernel holds. Returns the parts of the state to take back.
    pub fn handle(&mut self, number: u64, delivered: Mtd, words: EventWords) -> Mtd {
        let vm = self.vm;
        let vendor = Vendor::of(self.traits.features);
        let mut exit = Exit::of(vendor, number, &words);
        let mut call = Call { words, delivered, vendor };
        if exit == Exit::Cpuid && !vm.counts_exits() && self.injector.is_idle() {
            // Nobody else is concerned and nothing waits for an exit, so there is no need to look at the machine: whoever
            // wants something of this CPU recalls it.
            let step = self.cpuid(&call);
            return if step.is_plain() { step.changed } else { self.resume(vm.enter(), step) };
        }
        let mut inside = vm.enter();
        if inside.machine.generation != self.generation {
            // The guest that did this is no more: the machine was reset or has ended meanwhile. Or there was none yet.
            return self.start(inside);
        }
        if exit == Exit::Recall {
            let host_now = inside.host_now;
            inside.machine.recalled(self.index, host_now);
            if let Some(deferred) = self.deferred.take() {
                self.vm.kernel.select_recall(self.index, selection::RECALL);
                if let Some(stats) = &mut inside.machine.stats {
                    // What it costs is counted with the exit.
                    stats.record(ExitKind::Recall, 0);
                }
                exit = deferred.exit;
                call = Call { words: deferred.words, delivered: deferred.selection, vendor };
            }
        }
        let handled = self.dispatch(exit, &call, &mut inside);
        if let Some(stats) = &mut inside.machine.stats
            && !matches!(handled, Err(Trouble::NeedState(_)))
        {
            let ticks = vm.kernel.now().saturating_sub(inside.host_now);
            stats.record(exit.kind(), ticks);
        }
        match handled {
            Ok(step) if self.is_routine(&inside, &step) => step.changed | self.promise(inside),
            Ok(step) => self.resume(inside, step),
            Err(trouble) => self.recover(inside, exit, call.words, trouble),
        }
    }

    #[inline]
    fn dispatch(&mut self, exit: Exit, call: &Call, inside: &mut Inside<'_>) -> Result<Step, Trouble> {
        match exit {
            Exit::PortOut(access, next) => Ok(self.port_out(access, next, inside)),
            Exit::PortIn(access, next) => Ok(self.port_in(access, next, inside)),
            Exit::Cpuid => Ok(self.cpuid(call)),
            Exit::MsrWrite => self.msr_write(call, inside),
            Exit::MsrRead => self.msr_read(call, inside),
            Exit::NestedFault(fault) => self.nested_fault(call, fault, inside),
            Exit::Halt => Ok(self.halt(call)),
            Exit::InterruptWindow => Ok(self.interrupt_window(call)),
            Exit::Recall => Ok(self.recall(call)),
            Exit::Stepped => Ok(self.stepped()),
            Exit::NmiHandlerEnds => Ok(self.nmi_handler_ends(call)),
            Exit::NmiWindow => Ok(self.nmi_window()),
            Exit::PortString => self.port_string(call, inside),
            Exit::ControlRegister => self.control_register(call, inside),
            Exit::DebugRegister => self.debug_register(call),
            // The caches of the host are not the guest's.
            Exit::CacheControl => Ok(self.skip(call, length::INVD)),
            Exit::Pause => Ok(self.skip(call, length::PAUSE)),
            Exit::Xsetbv => self.xsetbv(call),
            Exit::ReadCounter => self.general_protection(call),
            Exit::Undefined => self.undefined(call),
            Exit::Startup => Err(Trouble::Restart),
            Exit::Shutdown => self.shutdown(inside),
            Exit::TaskSwitch => self.task_switch(call, inside),
            Exit::InvalidState(why) => Err(self.unable(format_args!("state that the CPU refuses to enter ({why})"))),
            Exit::Unexpected => Err(self.unable(format_args!("unexpected exit {:#x}", call.words.reason))),
        }
    }

    /// Whether the guest continues and nobody has to know of anything, as after most exits.
    #[inline]
    fn is_routine(&self, inside: &Inside<'_>, step: &Step) -> bool {
        step.is_plain() && self.injector.is_idle() && inside.machine.is_calm(self.index)
    }

    /// The end of any exit: what the CPU takes and what others have to know.
    fn resume(&mut self, mut inside: Inside<'vm>, step: Step) -> Mtd {
        if self.must_look(&mut inside) {
            return self.look_around(inside, step);
        }
        if inside.machine.board.is_output_full() {
            return self.wait_for_output(inside, step);
        }
        if step.halts && !self.wakes(&inside, &step) {
            return self.wait(inside, step);
        }
        self.enter_guest(inside, step)
    }

    #[inline(always)]
    fn enter_guest(&mut self, mut inside: Inside<'vm>, step: Step) -> Mtd {
        let boundary = &step.boundary;
        let injection = self.injector.decide(&mut inside.machine.board, self.index, boundary);
        let Some(injection) = injection else {
            return step.changed | self.depart(inside);
        };
        let deadline = if self.injector.misses_nmi() { self.depart_briefly(inside) } else { self.depart(inside) };
        let injected =
            if boundary.is_stepped() { self.defer_step(injection, boundary) } else { self.inject(injection, boundary) };
        step.changed | deadline | injected
    }

    /// Leaves for the guest, from which the next deadline has to bring this CPU back.
    #[inline(always)]
    fn depart(&self, inside: Inside<'_>) -> Mtd {
        self.have_recalled(self.vm.depart(inside, self.index))
    }

    /// The same, for as long as it may take until an NMI can be delivered.
    #[cold]
    fn depart_briefly(&self, inside: Inside<'_>) -> Mtd {
        self.have_recalled(self.vm.depart_briefly(inside, self.index))
    }

    /// The same where nobody has to be told anything but, perhaps, the hypervisor.
    #[inline]
    fn promise(&self, mut inside: Inside<'_>) -> Mtd {
        if !inside.machine.board.deadline_moved() {
            return Mtd::empty();
        }
        self.have_recalled(inside.machine.promise(self.index, inside.host_now))
    }

    #[inline]
    fn have_recalled(&self, deadline: Option<u64>) -> Mtd {
        let Some(deadline) = deadline else {
            return Mtd::empty();
        };
        self.vm.kernel.with_state(|arch| arch.deadline = deadline);
        Mtd::DEADLINE
    }

    fn inject(&self, injection: Injection, boundary: &Boundary) -> Mtd {
        let interruptibility = self.injector.interruptibility();
        self.vm.kernel.with_state(|arch| {
            arch.injection = injection;
            (arch.interruptibility, arch.activity) = (interruptibility.bits(), ACTIVE);
        });
        if boundary.ends_shadow { Mtd::INJ | Mtd::STA } else { Mtd::INJ }
    }

    /// Whether something else than interrupts concerns this CPU.
    #[inline]
    fn must_look(&mut self, inside: &mut Inside<'_>) -> bool {
        let machine = &mut *inside.machine;
        machine.looked(self.index);
        if machine.board.has_news(self.index) {
            self.listen(machine);
        }
        machine.board.power_pending() || machine.generation != self.generation || self.news.init
    }

    /// Takes note of what happened to this CPU.
    #[cold]
    fn listen(&mut self, machine: &mut Machine) {
        let news = machine.board.take_news(self.index);
        if news.nmi {
            self.injector.nmi();
        }
        if news.init {
            self.news = news;
        } else {
            self.news.startup = news.startup.or(self.news.startup);
        }
    }

    /// The machine was switched off or reset, or this CPU got an INIT.
    #[cold]
    fn look_around(&mut self, mut inside: Inside<'vm>, step: Step) -> Mtd {
        if let Some((event, source)) = inside.machine.board.take_power() {
            self.vm.kernel.log(format_args!("guest wants {event:?} by {source:?}"));
            self.vm.power(&mut inside, event, self.index);
        }
        if inside.machine.generation != self.generation || self.news.init {
            self.start(inside)
        } else {
            self.enter_guest(inside, step)
        }
    }

    #[cold]
    fn recover(&mut self, mut inside: Inside<'vm>, exit: Exit, words: EventWords, trouble: Trouble) -> Mtd {
        match trouble {
            Trouble::NeedState(selection) => {
                let selection = selection | selection::FULL;
                self.deferred = Some(Deferred { exit, words, selection });
                self.vm.leave(inside, Who::Vcpu(self.index));
                self.vm.kernel.select_recall(self.index, selection);
                self.vm.kernel.recall(self.index);
                Mtd::empty()
            }
            Trouble::Restart => self.start(inside),
            Trouble::Stop(report) => {
                inside.machine.end(EXIT_FAILURE);
                self.log("stopped", &report);
                self.stop(inside)
            }
        }
    }

    /// The machine is over: this CPU stops for good.
    #[cold]
    fn stop(&mut self, inside: Inside<'_>) -> Mtd {
        self.vm.leave(inside, Who::Vcpu(self.index));
        Mtd::KILL
    }

    /// A guest that does what cannot be virtualised.
    #[cold]
    fn unable(&self, what: impl fmt::Display) -> Trouble {
        Trouble::Stop(Box::new(self.report(what)))
    }
}

#[cfg(test)]
mod tests;
