//! What the others know of a virtual CPU, and how they tell it that something has become its business.

use crate::board::VcpuSet;
use crate::kernel::Kernel;

/// What a virtual CPU does, as far as others have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It executes instructions, or its exit is being handled.
    Running,
    /// Its handler waits for something to happen, or has yet to be called for the first time: it is not in the guest, and enters it
    /// only after a look here.
    Waiting {
        /// The host's TSC when it looks here unless it is woken earlier.
        until: Option<u64>,
    },
}

impl Default for Activity {
    fn default() -> Self {
        Activity::Waiting { until: None }
    }
}

/// A virtual CPU as others see it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub(super) activity: Activity,
    /// It was told to look here and has not done so yet.
    pub(super) kicked: bool,
    /// The host's TSC at which the hypervisor recalls it. A value in the past is one of which it has yet to hear, except that it
    /// may itself have been faster.
    pub(super) recall_at: Option<u64>,
}

impl Slot {
    /// Whether it looks here by `deadline`, a value of the host's TSC, without being told.
    pub(super) fn looks_by(&self, deadline: u64) -> bool {
        let back_at = match self.activity {
            Activity::Running => self.recall_at,
            Activity::Waiting { until } => until,
        };
        self.kicked || back_at.is_some_and(|back_at| back_at <= deadline)
    }
}

/// Whom to tell once the lock is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Errands {
    recall: VcpuSet,
    wake: VcpuSet,
    /// The entrypoint, too.
    pub(super) attend: bool,
}

impl Errands {
    /// Has a virtual CPU look, which is told once.
    pub(super) fn tell(&mut self, vcpu: usize, slot: &mut Slot) {
        if !slot.kicked {
            slot.kicked = true;
            match slot.activity {
                Activity::Running => self.recall.insert(vcpu),
                Activity::Waiting { .. } => self.wake.insert(vcpu),
            }
        }
    }

    /// Runs them.
    pub(super) fn run(self, kernel: &impl Kernel) {
        self.recall.iter().for_each(|vcpu| kernel.recall(vcpu));
        self.wake.iter().for_each(|vcpu| kernel.wake(vcpu));
        if self.attend {
            kernel.attend();
        }
    }
}
