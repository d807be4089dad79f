//! Control registers: MOV and XSETBV. MOV to or from a [debug register](super::debug) is found out and finished in the same way.

use abi::state::{Mtd, gpr, seg};
use vm_memory::GuestMemoryBackend;

use super::{Boundary, Call, Inside, Kernel, Step, Trouble, Vcpu, length, selection, transfer};
use crate::emulator::{ControlRegister, Intercepted, InterceptedOperation};
use crate::state::{SegmentAttributes, VcpuState, Xcr0};

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// What the intercepted instruction is, as the CPU says, or from its bytes. `None`: executing it again is right.
    pub(super) fn decode(&mut self, call: &Call) -> Result<Option<(VcpuState, Intercepted)>, Trouble> {
        call.require(selection::EMULATE)?;
        let bits = self.traits.physical_address_bits;
        let (state, length) = self.vm.kernel.with_state(|arch| (transfer::read(arch, bits), arch.inst_len as u8));
        let told = call.vendor.special_move(self.traits.features, &call.words);
        if let Some(operation) = told.filter(|_| length != 0) {
            return Ok(Some((state, Intercepted { operation, length })));
        }
        match self.emulator.decode_intercepted(&state) {
            Ok(Some(intercepted)) => Ok(Some((state, intercepted))),
            Ok(None) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn again(&self) -> Step {
        let boundary = self.vm.kernel.with_state(|arch| Boundary::at_exit(arch));
        Step::new(Mtd::empty(), boundary)
    }

    /// An instruction is done and has changed `state`.
    pub(super) fn finished(&self, mut state: VcpuState, length: u8) -> Step {
        let rflags = state.rflags.bits();
        state.advance_rip(length);
        let changed = self.vm.kernel.with_state(|arch| transfer::write(arch, &state));
        self.completed(changed, rflags)
    }

    /// MOV to or from CR8. CR0 and CR4 are the CPU's business, which lets VMX exit for bits that the guest cannot have.
    pub(super) fn control_register(&mut self, call: &Call, inside: &mut Inside<'_>) -> Result<Step, Trouble> {
        let Some((mut state, intercepted)) = self.decode(call)? else {
            return Ok(self.again());
        };
        let board = &mut inside.machine.board;
        match intercepted.operation {
            InterceptedOperation::ReadControl { control: ControlRegister::Cr8, register } => {
                state.set_gpr(register, board.cr8(self.index).into());
            }
            InterceptedOperation::WriteControl { control: ControlRegister::Cr8, register } => {
                const PRIORITIES: u64 = 16;
                let value = state.gpr(register);
                if value >= PRIORITIES {
                    return self.general_protection(call);
                }
                board.set_cr8(self.index, value as u8);
            }
            InterceptedOperation::WriteControl { control: ControlRegister::Cr0 | ControlRegister::Cr4, .. } => {
                return self.general_protection(call);
            }
            _ => return Err(self.unable("access to a control register")),
        }
        Ok(self.finished(state, intercepted.length))
    }

    /// XSETBV (APM2 11.5.2): at CPL 0 only, which SVM does not check first.
    pub(super) fn xsetbv(&self, call: &Call) -> Result<Step, Trouble> {
        if self.traits.xcr0.is_empty() {
            return self.undefined(call);
        }
        let (register, value, rflags) =
            self.vm.kernel.with_state(|arch| (arch.gpr[gpr::RCX] as u32, transfer::edx_eax(arch), arch.rflags));
        let wanted = Xcr0::from_bits_retain(value);
        let stack = self.vm.kernel.with_state(|arch| SegmentAttributes::from_bits_retain(arch.seg[seg::SS].attributes));
        if stack.dpl() != 0 || register != 0 || !wanted.is_valid() || !self.traits.xcr0.contains(wanted) {
            return self.general_protection(call);
        }
        self.vm.kernel.with_state(|arch| {
            arch.xcr0 = value;
            length::advance(arch, call, length::XSETBV);
        });
        Ok(self.completed(Mtd::RIP | Mtd::XCR0, rflags))
    }
}
