//! What is said about a guest that cannot continue. Each line is one of the log, and names the virtual CPU, because other
//! components may log in between.

use std::fmt;

use device_models::bus::power::PowerEvent;
use vm_memory::GuestMemoryBackend;

use super::{Inside, Kernel, Step, Trouble, Vcpu, transfer};
use crate::config::TripleFault;
use crate::emulator::EmulationError;
use crate::state::{Gpr, SegmentRegister, VcpuState};

/// Why a guest cannot continue.
pub(super) struct Report {
    /// What has happened, and where.
    reason: String,
    state: Box<VcpuState>,
}

impl From<EmulationError> for Trouble {
    fn from(error: EmulationError) -> Self {
        Trouble::Stop(Box::new(Report { reason: error.to_string(), state: error.state }))
    }
}

/// The rest of the state, a few registers a line.
fn registers(state: &VcpuState) -> [String; 3] {
    let [low, high] = [0, 8].map(|first| {
        let general = Gpr::ALL.iter().zip(&state.gpr).skip(first).take(8);
        general.map(|(name, value)| format!(" {name:?} {value:x}")).collect()
    });
    let control = format!(
        " {:?}, SS {:x} RFLAGS {:x} CR0 {:x} CR2 {:x} CR3 {:x} CR4 {:x} EFER {:x}",
        state.mode(),
        state.segment(SegmentRegister::Ss).selector,
        state.rflags.bits(),
        state.cr0.bits(),
        state.cr2,
        state.cr3,
        state.cr4.bits(),
        state.efer.bits(),
    );
    [low, high, control]
}

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// What has happened to the guest where it is.
    #[cold]
    pub(super) fn report(&self, what: impl fmt::Display) -> Report {
        let bits = self.traits.physical_address_bits;
        let state = Box::new(self.vm.kernel.with_state(|arch| transfer::read(arch, bits)));
        Report { reason: format!("{what} at {}", self.emulator.place(&state)), state }
    }

    /// Logs a report of a virtual CPU that `ends` in that way.
    #[cold]
    pub(super) fn log(&self, ends: &str, report: &Report) {
        let (kernel, index) = (&self.vm.kernel, self.index);
        kernel.log(format_args!("Error: vCPU {index} {ends}: {}", report.reason));
        for line in registers(&report.state) {
            kernel.log(format_args!("vCPU {index}:{line}"));
        }
    }

    /// Triple fault: does what the configuration says.
    #[cold]
    pub(super) fn shutdown(&self, inside: &mut Inside<'_>) -> Result<Step, Trouble> {
        let report = self.report("triple fault");
        match self.vm.config().on_triple_fault {
            TripleFault::Stop => Err(Trouble::Stop(Box::new(report))),
            TripleFault::Reset => {
                self.log("resets the machine", &report);
                self.vm.power(inside, PowerEvent::Reset, self.index);
                Err(Trouble::Restart)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use abi::session::log::LINE_MAX;

    use super::*;
    use crate::machine::MAX_VCPUS;

    #[test]
    fn lines_of_registers_fit_into_the_log() {
        let mut state = VcpuState { gpr: [u64::MAX; 16], cr2: u64::MAX, cr3: u64::MAX, ..VcpuState::default() };
        state.rflags = crate::state::Rflags::from_bits_retain(u64::MAX);
        state.cr0 = crate::state::Cr0::from_bits_retain(u64::MAX);
        state.cr4 = crate::state::Cr4::from_bits_retain(u64::MAX);
        state.efer = crate::state::Efer::from_bits_retain(u64::MAX);
        for line in registers(&state) {
            let line = format!("vCPU {MAX_VCPUS}:{line}");
            assert!(line.len() <= LINE_MAX, "{line}");
        }
    }
}
