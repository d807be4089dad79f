//! What is said about a guest that cannot continue.

use vm_memory::GuestMemoryBackend;

use super::{Call, Inside, Kernel, Step, Trouble, Vcpu, transfer};
use crate::config::TripleFault;
use crate::state::{SegmentRegister, VcpuState};
use device_models::bus::power::PowerEvent;

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// The state at the exit, in one line.
    #[cold]
    pub(super) fn report(&self) -> String {
        let bits = self.traits.physical_address_bits;
        let state = self.vm.kernel.with_state(|arch| transfer::read(arch, bits));
        describe(&state)
    }

    /// Triple fault: one line, and then what the configuration says.
    #[cold]
    pub(super) fn shutdown(&self, call: &Call, inside: &mut Inside<'_>) -> Result<Step, Trouble> {
        let report = self.report();
        let rip = call.words.rip;
        match self.vm.config().on_triple_fault {
            TripleFault::Stop => Err(Trouble::Stop(format!("triple fault at {rip:#x}; {report}"))),
            TripleFault::Reset => {
                let kernel = &self.vm.kernel;
                kernel.log(format_args!("triple fault at {rip:#x}, machine is reset; {report}"));
                self.vm.power(inside, PowerEvent::Reset, self.index);
                Err(Trouble::Restart)
            }
        }
    }
}

fn describe(state: &VcpuState) -> String {
    let code = state.segment(SegmentRegister::Cs);
    let stack = state.segment(SegmentRegister::Ss);
    format!(
        "{:?} cs:rip {:#x}:{:#x} ss {:#x} rflags {:#x} cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x} gpr {:x?}",
        state.mode(),
        code.selector,
        state.rip,
        stack.selector,
        state.rflags.bits(),
        state.cr0.bits(),
        state.cr2,
        state.cr3,
        state.cr4.bits(),
        state.efer.bits(),
        state.gpr,
    )
}
