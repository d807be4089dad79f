//! Exits at which no instruction has ended: the CPU can take an event now, or was recalled.

use abi::state::Mtd;
use vm_memory::GuestMemoryBackend;

use super::{Boundary, Call, Kernel, Step, Vcpu};

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// It can take an interrupt.
    #[inline(always)]
    pub(super) fn interrupt_window(&mut self, call: &Call) -> Step {
        self.injector.window_opened();
        Step::new(Mtd::empty(), self.injector.arrive(call.words.rip, Boundary::at_window()))
    }

    /// It was recalled, or its time has come.
    #[inline(always)]
    pub(super) fn recall(&mut self, call: &Call) -> Step {
        let boundary = self.vm.kernel.with_state(|arch| Boundary::at_recall(arch));
        Step::new(Mtd::empty(), self.injector.arrive(call.words.rip, boundary))
    }

    /// The guest is about to leave its handler of non-maskable interrupts.
    pub(super) fn nmi_handler_ends(&mut self, call: &Call) -> Step {
        self.injector.window_opened();
        self.injector.nmi_handler_ends(Some(call.words.rip));
        let boundary = self.vm.kernel.with_state(|arch| Boundary::at_exit(arch));
        Step::new(Mtd::empty(), self.injector.arrive(call.words.rip, boundary))
    }

    /// The guest has left its handler of non-maskable interrupts.
    pub(super) fn nmi_window(&mut self) -> Step {
        self.injector.window_opened();
        self.injector.nmi_handler_ends(None);
        Step::new(Mtd::empty(), self.vm.kernel.with_state(|arch| Boundary::at_exit(arch)))
    }
}
