//! What is under the lock of a virtual machine.

use device_models::time::{Tsc, earliest};

use super::slot::{Activity, Errands, Slot};
use crate::board::{Board, VcpuSet};
use crate::exit_stats::ExitStats;
use crate::state::VcpuState;

/// As a deadline: no recall.
const NEVER: u64 = 0;

/// Who leaves the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The handler of a virtual CPU, which continues.
    Vcpu(usize),
    /// The handler of a virtual CPU, which waits until the deadline.
    Waiting(usize),
    /// The entrypoint.
    Entrypoint,
}

impl Who {
    fn vcpu(self) -> Option<usize> {
        match self {
            Who::Vcpu(vcpu) | Who::Waiting(vcpu) => Some(vcpu),
            Who::Entrypoint => None,
        }
    }
}

/// Life of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    /// Over, with the exit code of the component.
    Ended(i64),
}

/// The CPU that boots, and is never without its handler.
pub(crate) const BOOT_CPU: usize = 0;
/// How long output may wait for more.
const FLUSH_US: u64 = 5_000;
/// When a virtual CPU is back that has to be back soon: late enough that it gets somewhere, even where one emulated CPU is slow.
const SOON_US: u64 = 50;
const US_PER_SECOND: u64 = 1_000_000;

/// The machine's state.
pub(crate) struct Machine {
    pub(crate) board: Board,
    slots: Vec<Slot>,
    pub(crate) life: Life,
    /// Changes when a reset is asked for and when the machine ends. Whatever a virtual CPU did in an earlier one has no effect any more.
    pub(crate) generation: u64,
    /// The machine is to be reset as soon as no virtual CPU is in the guest, whose memory changes under it.
    pub(crate) reset_due: bool,
    /// Where the boot CPU starts.
    pub(crate) boot_state: VcpuState,
    /// The host's TSC at tick 0 of the machine's clock.
    pub(crate) origin: u64,
    pub(crate) stats: Option<ExitStats>,
    flush_ticks: u64,
    /// When output has waited long enough.
    flush_at: Option<Tsc>,
    /// When the entrypoint wants to be called again.
    attend_at: Option<Tsc>,
    /// The entrypoint was told to look here and has not done so yet.
    attending: bool,
}

impl Machine {
    pub(super) fn new(board: Board, vcpus: usize, tsc_hz: u64, stats: bool) -> Self {
        Machine {
            board,
            slots: vec![Slot::default(); vcpus],
            life: Life::Running,
            generation: 1,
            reset_due: false,
            boot_state: VcpuState::default(),
            origin: 0,
            stats: stats.then(ExitStats::default),
            flush_ticks: (u128::from(tsc_hz) * u128::from(FLUSH_US) / u128::from(US_PER_SECOND)) as u64,
            flush_at: None,
            attend_at: None,
            attending: false,
        }
    }

    /// The machine's time for a value of the host's TSC. CPUs whose counters are a little apart see no time
    /// before the beginning.
    #[inline]
    pub(crate) fn time(&self, host: u64) -> Tsc {
        Tsc(host.saturating_sub(self.origin))
    }

    /// The host's TSC when a virtual CPU has to do something next, if nothing happens until then: what concerns its own local APIC,
    /// or the whole machine.
    fn host_deadline(&mut self, vcpu: usize) -> Option<u64> {
        let attention = earliest(self.flush_at, self.attend_at);
        let Tsc(ticks) = earliest(self.board.deadline_of(vcpu), attention)?;
        Some(self.origin.saturating_add(ticks))
    }

    /// For a virtual CPU that enters its guest: when the hypervisor has to recall it, unless it has been told a time that is early
    /// enough. Too early a recall is cheaper than to take each time back.
    pub(crate) fn promise(&mut self, vcpu: usize, host_now: u64) -> Option<u64> {
        let deadline = self.host_deadline(vcpu);
        self.promise_by(deadline, vcpu, host_now)
    }

    /// The same where it has to be back soon, whatever the models have to do.
    #[cold]
    pub(super) fn promise_soon(&mut self, vcpu: usize, host_now: u64) -> Option<u64> {
        let soon = host_now.saturating_add(self.flush_ticks / (FLUSH_US / SOON_US));
        let deadline = self.host_deadline(vcpu).map_or(soon, |deadline| deadline.min(soon));
        self.promise_by(Some(deadline), vcpu, host_now)
    }

    #[inline(always)]
    fn promise_by(&mut self, deadline: Option<u64>, vcpu: usize, host_now: u64) -> Option<u64> {
        let slot = self.slots.get_mut(vcpu)?;
        // It looks now, so a recall for now that it has not yet heard of has nothing to tell: any word about the next one withdraws it.
        if slot.recall_at.is_some_and(|recall_at| recall_at <= host_now) {
            slot.recall_at = deadline;
            return Some(deadline.unwrap_or(NEVER));
        }
        let deadline = deadline.filter(|deadline| slot.recall_at.is_none_or(|recall_at| *deadline < recall_at))?;
        slot.recall_at = Some(deadline);
        Some(deadline)
    }

    /// For a virtual CPU that waits: until when at most.
    pub(super) fn wait(&mut self, vcpu: usize) -> Option<u64> {
        let until = self.host_deadline(vcpu);
        self.set_activity(vcpu, Activity::Waiting { until });
        until
    }

    /// The wait of a virtual CPU is over.
    pub(crate) fn end_wait(&mut self, vcpu: usize) {
        self.set_activity(vcpu, Activity::Running);
    }

    /// A virtual CPU looks here: what it was told to look for is not missed from now on.
    #[inline]
    pub(crate) fn looked(&mut self, vcpu: usize) {
        if let Some(slot) = self.slots.get_mut(vcpu) {
            slot.kicked = false;
        }
    }

    fn set_activity(&mut self, vcpu: usize, activity: Activity) {
        if let Some(slot) = self.slots.get_mut(vcpu) {
            slot.activity = activity;
        }
    }

    /// A virtual CPU has been recalled. It looks even if nobody told it to: the time that it had been given may have come.
    pub(crate) fn recalled(&mut self, vcpu: usize, host_now: u64) {
        if let Some(slot) = self.slots.get_mut(vcpu) {
            slot.kicked = true;
            slot.recall_at = slot.recall_at.filter(|recall_at| *recall_at > host_now);
        }
    }

    /// Brings the models up to `now`.
    #[inline]
    pub(super) fn catch_up(&mut self, now: Tsc) {
        if self.board.deadline().is_some_and(|deadline| deadline <= now) {
            self.board.expire(now);
        }
    }

    /// Whether a virtual CPU that continues has neither to look at anything nor to tell anybody, but perhaps the hypervisor its
    /// [deadline](Machine::promise): nothing has happened to it or to the machine, and somebody will come for the output.
    ///
    /// Whoever ends or resets the machine tells all other CPUs, so that is not asked for here.
    #[inline]
    pub(crate) fn is_calm(&self, vcpu: usize) -> bool {
        self.slots.get(vcpu).is_some_and(|slot| !slot.kicked) && self.board.is_calm(vcpu) && self.is_output_attended()
    }

    #[inline]
    fn is_output_attended(&self) -> bool {
        let serial = self.board.lines();
        serial.is_empty() || (self.attending || self.flush_at.is_some()) && !serial.is_crowded()
    }

    /// Ends the machine; the first reason counts.
    pub(crate) fn end(&mut self, code: i64) {
        if self.life == Life::Running {
            self.life = Life::Ended(code);
            self.generation += 1;
        }
    }

    /// `me`, which is not in the guest, wants the machine to be reset: brings all others out of the guest.
    #[cold]
    pub(super) fn request_reset(&mut self, me: usize) -> Errands {
        self.generation += 1;
        self.reset_due = true;
        let mut errands = Errands::default();
        self.tell(&mut errands, |vcpu, slot| vcpu != me && slot.activity == Activity::Running);
        errands
    }

    /// Has those virtual CPUs look here for which `concerns` holds.
    fn tell(&mut self, errands: &mut Errands, concerns: impl Fn(usize, &Slot) -> bool) {
        for (vcpu, slot) in self.slots.iter_mut().enumerate() {
            if concerns(vcpu, slot) {
                errands.tell(vcpu, slot);
            }
        }
    }

    /// Whether a reset is due and can take place: no virtual CPU but `me` may be in the guest.
    #[cold]
    pub(super) fn can_reset(&self, me: usize) -> bool {
        let mut others = self.slots.iter().enumerate().filter(|(vcpu, _)| *vcpu != me);
        self.reset_due && others.all(|(_, slot)| slot.activity != Activity::Running)
    }

    /// The machine starts over with this board, at this value of the host's TSC.
    pub(super) fn replace(&mut self, mut board: Board, origin: u64) {
        board.succeed(&mut self.board);
        (self.board, self.origin) = (board, origin);
        // These are times of the clock that has ended, and may be far ahead in the new one's.
        for due in [&mut self.flush_at, &mut self.attend_at] {
            *due = due.map(|_| Tsc(0));
        }
    }

    /// Finds out what others have to be told when `who` leaves: mostly nothing.
    #[inline(always)]
    pub(super) fn close(&mut self, now: Tsc, who: Who) -> Option<Errands> {
        if let Some(me) = who.vcpu() {
            // It has looked just now.
            self.board.unmark(me);
        }
        let nothing = who != Who::Entrypoint
            && !self.board.concerns_others()
            && self.life == Life::Running
            && self.flush_at.is_none()
            && self.attend_at.is_none();
        if nothing { None } else { Some(self.run_round(now, who)) }
    }

    /// The round of those who may have to be told something.
    #[inline(never)]
    fn run_round(&mut self, now: Tsc, who: Who) -> Errands {
        let mut errands = Errands::default();
        let marked = self.board.take_marked();
        if !marked.is_empty() {
            self.kick(marked, &mut errands);
        }
        if self.life != Life::Running {
            self.finish(who.vcpu(), &mut errands);
        }
        self.flush(now, who, &mut errands);
        if who == Who::Entrypoint {
            self.entrust_deadline(&mut errands);
        }
        errands
    }

    /// Makes sure that a virtual CPU is there at the deadline, for one who cannot be: a virtual CPU promises that itself when it enters
    /// its guest or waits.
    fn entrust_deadline(&mut self, errands: &mut Errands) {
        let Some(deadline) = self.host_deadline(BOOT_CPU) else {
            return;
        };
        if !self.slots.iter().any(|slot| slot.looks_by(deadline))
            && let Some(slot) = self.slots.get_mut(BOOT_CPU)
        {
            errands.tell(BOOT_CPU, slot);
        }
    }

    fn kick(&mut self, marked: VcpuSet, errands: &mut Errands) {
        for vcpu in marked.iter() {
            let something = self.board.interrupt_pending(vcpu) || self.board.has_news(vcpu);
            if something && let Some(slot) = self.slots.get_mut(vcpu) {
                errands.tell(vcpu, slot);
            }
        }
    }

    /// Everybody has to see that the machine has ended.
    #[cold]
    fn finish(&mut self, me: Option<usize>, errands: &mut Errands) {
        self.tell(errands, |vcpu, _| Some(vcpu) != me);
        self.attend(errands);
    }

    /// Everybody who waits has to look whether that is over.
    #[cold]
    pub(super) fn waiters(&mut self) -> Errands {
        let mut errands = Errands::default();
        self.tell(&mut errands, |_, slot| slot.activity != Activity::Running);
        errands
    }

    /// Everybody has to start over.
    #[cold]
    pub(super) fn restart(&mut self, me: usize) -> Errands {
        let mut errands = Errands::default();
        self.tell(&mut errands, |vcpu, _| vcpu != me);
        errands
    }

    fn flush(&mut self, now: Tsc, who: Who, errands: &mut Errands) {
        let waits = matches!(who, Who::Waiting(_));
        let serial = self.board.serial();
        if serial.is_empty() {
            self.flush_at = None;
        } else if waits || serial.is_crowded() || self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            self.attend(errands);
        } else if self.flush_at.is_none() && !self.attending {
            self.flush_at = Some(now.after(self.flush_ticks));
        }
        if self.attend_at.is_some_and(|at| at <= now) {
            self.attend_at = None;
            self.attend(errands);
        }
        if self.board.wants_input() {
            self.attend(errands);
        }
    }

    /// Has the entrypoint called after a while.
    pub(super) fn attend_later(&mut self, now: Tsc) {
        self.attend_at = Some(now.after(self.flush_ticks));
    }

    /// The entrypoint looks here.
    pub(super) fn attended(&mut self) {
        self.attending = false;
    }

    fn attend(&mut self, errands: &mut Errands) {
        errands.attend |= !self.attending;
        self.attending = true;
    }
}
