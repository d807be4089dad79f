//! HLT, and waiting in general: the handler blocks until something happens or the next deadline comes.

use abi::state::Mtd;
use vm_memory::GuestMemoryBackend;

use super::{Call, Inside, Kernel, Step, Vcpu, length};

impl<'vm, K: Kernel, M: GuestMemoryBackend> Vcpu<'vm, K, M> {
    /// HLT.
    pub(super) fn halt(&self, call: &Call) -> Step {
        Step { halts: true, ..self.skip(call, length::HLT) }
    }

    /// Whether there is something to do behind a HLT.
    #[inline]
    pub(super) fn wakes(&self, inside: &Inside<'_>, step: &Step) -> bool {
        self.injector.wakes(&inside.machine.board, self.index, &step.boundary)
    }

    /// Waits behind a HLT. State in the UTCB stays as it is: waiting sends no messages.
    pub(super) fn wait(&mut self, mut inside: Inside<'vm>, step: Step) -> Mtd {
        loop {
            inside = self.block(inside);
            if self.must_look(&mut inside) {
                return self.look_around(inside, step);
            }
            if self.wakes(&inside, &step) {
                return self.enter_guest(inside, step);
            }
        }
    }

    /// Waits until output has been written out, so that a guest writes no faster than its terminal.
    #[cold]
    pub(super) fn wait_for_output(&mut self, mut inside: Inside<'vm>, step: Step) -> Mtd {
        while inside.machine.board.is_output_full() {
            inside = self.block(inside);
            if self.must_look(&mut inside) {
                return self.look_around(inside, step);
            }
        }
        self.resume(inside, step)
    }

    /// Blocks once, with the lock free meanwhile.
    pub(super) fn block(&self, inside: Inside<'vm>) -> Inside<'vm> {
        let vm = self.vm;
        let until = vm.retire(inside, self.index);
        vm.kernel.wait(self.index, until);
        let mut inside = vm.enter();
        inside.machine.end_wait(self.index);
        inside
    }
}
