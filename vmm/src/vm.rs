//! A virtual machine: its board, and what its virtual CPUs and the component's entrypoint share.
//!
//! Everybody [enters](Vm::enter) under one lock, which brings the models up to date, and
//! [leaves](Vm::leave), which tells the others what has become their business: a virtual CPU that runs
//! is recalled, one that waits is woken.
//!
//! Nobody waits for the deadlines of models but virtual CPUs. One whose handler waits does so until the next deadline; one that enters
//! its guest has the hypervisor recall it then. Each looks after those of its own local APIC, which only its own accesses bring
//! forward, and each after those that concern the whole machine: whoever brings one of these forward is there when it comes. Only the
//! entrypoint is not: if nobody else is there in time, it tells the boot CPU.
//!
//! A reset takes two steps, because the loader rewrites memory that guests run in. Whoever is asked for one recalls all virtual CPUs,
//! which come to their handlers and wait there; the last one resets the machine and wakes the others. From the first step on
//! nothing that a virtual CPU brings from the old machine has an effect: neither an access nor a triple fault.

mod machine;
mod slot;

use std::num::NonZeroU64;

use device_models::bus::power::PowerEvent;
use device_models::bus::serial::HostSerial;
use device_models::rtc::UnixSeconds;
use device_models::time::{Clock, Tsc};
use runtime::sync::{Mutex, MutexGuard};

use crate::acpi::MachineDescription;
use crate::board::{Board, BoardError, Environment};
use crate::config::VmmConfig;
use crate::exit_stats::ExitStats;
use crate::kernel::Kernel;
use crate::state::VcpuState;
pub(crate) use machine::{BOOT_CPU, Life, Machine, Who};

/// Puts kernel, tables and whatever else into guest memory, and says where the boot CPU starts.
pub type Loader<M> = Box<dyn Fn(&M) -> Result<VcpuState, String> + Send + Sync>;

/// Why a machine cannot be switched on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Its board cannot be built.
    #[error("machine: {0}")]
    Board(#[from] BoardError),
    /// There is nothing to start.
    #[error("boot: {0}")]
    Boot(String),
}

/// What a machine is made of, beside its configuration.
pub struct Parts<K, M> {
    /// The hypervisor.
    pub kernel: K,
    /// Guest RAM.
    pub memory: M,
    /// Ticks of the TSC per second.
    pub tsc_hz: NonZeroU64,
    /// The time of day now.
    pub wall_clock: UnixSeconds,
    /// Fills the memory.
    pub loader: Loader<M>,
}

/// A virtual machine.
pub struct Vm<K, M> {
    pub(crate) kernel: K,
    pub(crate) memory: M,
    config: VmmConfig,
    description: MachineDescription,
    clock: Clock,
    /// The time of day, and the host's TSC then.
    wall_clock: (UnixSeconds, u64),
    loader: Loader<M>,
    machine: Mutex<Machine>,
}

/// Access to the machine, with its models brought up to `now`.
pub(crate) struct Inside<'a> {
    pub(crate) machine: MutexGuard<'a, Machine>,
    pub(crate) now: Tsc,
    /// The host's TSC at this time.
    pub(crate) host_now: u64,
}

impl<K: Kernel, M> Vm<K, M> {
    /// Builds a machine and switches it on; virtual CPUs do not run yet.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(config: VmmConfig, parts: Parts<K, M>) -> Result<Self, StartError> {
        let Parts { kernel, memory, tsc_hz, wall_clock, loader } = parts;
        let description = MachineDescription::of(&config.machine);
        let clock = Clock::new(tsc_hz);
        let environment = Environment { clock, wall_clock };
        let board = Board::new(&config.machine, &description.fixed, environment)?;
        let (vcpus, stats) = (config.machine.vcpu_count(), config.exit_stats);
        let now = kernel.now();
        let vm = Vm {
            machine: Mutex::new(Machine::new(board, vcpus, tsc_hz.get(), stats)),
            wall_clock: (wall_clock, now),
            kernel,
            memory,
            config,
            description,
            clock,
            loader,
        };
        vm.reset(&mut vm.machine.lock())?;
        Ok(vm)
    }

    /// The hypervisor.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// The configuration.
    pub fn config(&self) -> &VmmConfig {
        &self.config
    }

    /// Whether exits are counted.
    #[inline]
    pub(crate) fn counts_exits(&self) -> bool {
        self.config.exit_stats
    }

    /// Ticks of the TSC per second.
    pub fn tsc_hz(&self) -> u64 {
        self.clock.tsc_hz()
    }

    /// Takes the lock and brings the models up to date.
    #[inline]
    pub(crate) fn enter(&self) -> Inside<'_> {
        let mut machine = self.machine.lock();
        let host_now = self.kernel.now();
        let now = machine.time(host_now);
        machine.catch_up(now);
        Inside { machine, now, host_now }
    }

    /// Gives the lock back and tells others what they need to know.
    #[inline]
    pub(crate) fn leave(&self, inside: Inside<'_>, who: Who) {
        self.leave_with(inside, who, |_| ());
    }

    /// The same, with what is left to say once it is known what others are told.
    #[inline(always)]
    fn leave_with<R>(&self, mut inside: Inside<'_>, who: Who, last: impl FnOnce(&mut Inside<'_>) -> R) -> R {
        let errands = inside.machine.close(inside.now, who);
        let result = last(&mut inside);
        drop(inside);
        if let Some(errands) = errands {
            errands.run(&self.kernel);
        }
        result
    }

    /// [`Self::leave`] for the handler of a virtual CPU that enters its guest. Returns the host's TSC at which the hypervisor has to recall it, if
    /// that has to be told.
    #[inline]
    pub(crate) fn depart(&self, inside: Inside<'_>, vcpu: usize) -> Option<u64> {
        self.leave_with(inside, Who::Vcpu(vcpu), |inside| inside.machine.promise(vcpu, inside.host_now))
    }

    /// The same for one that has to be back soon.
    #[cold]
    pub(crate) fn depart_briefly(&self, inside: Inside<'_>, vcpu: usize) -> Option<u64> {
        self.leave_with(inside, Who::Vcpu(vcpu), |inside| inside.machine.promise_soon(vcpu, inside.host_now))
    }

    /// The same for the handler of a virtual CPU that waits. Returns until when.
    pub(crate) fn retire(&self, inside: Inside<'_>, vcpu: usize) -> Option<u64> {
        self.leave_with(inside, Who::Waiting(vcpu), |inside| inside.machine.wait(vcpu))
    }

    /// Does what the guest wants to happen to the machine. Whoever asks for it goes on where virtual CPUs start.
    pub(crate) fn power(&self, inside: &mut Inside<'_>, event: PowerEvent, me: usize) {
        match event {
            PowerEvent::Off => inside.machine.end(EXIT_OFF),
            // Nobody can do anything before the lock is free.
            PowerEvent::Reset => inside.machine.request_reset(me).run(&self.kernel),
        }
    }

    /// For the handler of a virtual CPU that does not continue: resets the machine if that is due and nobody else is in the guest. The
    /// last one that comes does it, so nobody has to be waited for who waits for another.
    #[cold]
    pub(crate) fn reset_if_due(&self, inside: &mut Inside<'_>, me: usize) {
        if !inside.machine.can_reset(me) {
            return;
        }
        inside.machine.reset_due = false;
        match self.reset(&mut inside.machine) {
            Ok(()) => self.kernel.log_use(),
            Err(error) => {
                self.kernel.log(format_args!("Error: reset: {error}"));
                inside.machine.end(EXIT_FAILURE);
            }
        }
        inside.machine.restart(me).run(&self.kernel);
        inside.host_now = self.kernel.now();
        inside.now = inside.machine.time(inside.host_now);
    }

    /// Rebuilds the models, fills the memory again and starts over. RAM keeps the rest of its content, as it
    /// does in a machine of metal.
    fn reset(&self, machine: &mut Machine) -> Result<(), StartError> {
        // Its clock starts when everything is in place.
        machine.boot_state = (self.loader)(&self.memory).map_err(StartError::Boot)?;
        let origin = self.kernel.now();
        let (UnixSeconds(then), at) = self.wall_clock;
        let elapsed = origin.saturating_sub(at) / self.clock.tsc_hz();
        let wall_clock = UnixSeconds(then.saturating_add_unsigned(elapsed));
        let environment = Environment { clock: self.clock, wall_clock };
        let board = Board::new(&self.config.machine, &self.description.fixed, environment)?;
        machine.replace(board, origin);
        Ok(())
    }

    /// For the entrypoint: takes the output of a serial line; `to` is emptied first.
    pub fn take_output(&self, host: HostSerial, to: &mut Vec<u8>) {
        let mut inside = self.enter();
        inside.machine.attended();
        let was_full = inside.machine.board.is_output_full();
        inside.machine.board.serial().take(host, to);
        let waiters = was_full.then(|| inside.machine.waiters());
        self.leave(inside, Who::Entrypoint);
        if let Some(waiters) = waiters {
            waiters.run(&self.kernel);
        }
    }

    /// For the entrypoint: offers input of a serial line and returns how many bytes were taken. The
    /// entrypoint is called to attend again when there is room for the rest.
    pub fn offer_input(&self, host: HostSerial, bytes: &[u8]) -> usize {
        let mut inside = self.enter();
        inside.machine.attended();
        let now = inside.now;
        let taken = inside.machine.board.receive(now, host, bytes);
        self.leave(inside, Who::Entrypoint);
        taken
    }

    /// For the entrypoint: asks to be called again after a while.
    pub fn attend_later(&self) {
        let mut inside = self.enter();
        let now = inside.now;
        inside.machine.attended();
        inside.machine.attend_later(now);
        self.leave(inside, Who::Entrypoint);
    }

    /// For the entrypoint: the exit code, once the machine has ended.
    pub fn ended(&self) -> Option<i64> {
        match self.machine.lock().life {
            Life::Running => None,
            Life::Ended(code) => Some(code),
        }
    }

    /// How often the machine exited, if the configuration asks for that.
    pub fn stats(&self) -> Option<ExitStats> {
        self.machine.lock().stats.clone()
    }
}

/// The guest switched itself off.
const EXIT_OFF: i64 = 0;
/// The guest cannot continue.
pub(crate) const EXIT_FAILURE: i64 = 1;
