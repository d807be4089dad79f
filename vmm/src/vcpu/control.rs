//! Instructions that name control and debug registers, which the CPU reports without operands; and
//! XSETBV.

use abi::state::{EventKind, Injection, Mtd, gpr, seg};
use vm_memory::GuestMemoryBackend;

use super::{Boundary, Call, Inside, Kernel, Step, Trouble, Vcpu, length, selection, transfer};
use crate::emulator::{ControlRegister, Intercepted, InterceptedOperation};
use crate::state::{Cr4, SegmentAttributes, VcpuState, Xcr0};

/// Bits of DR6 that software can change (APM2 13.1.1.3).
const DR6_WRITABLE: u64 = 0xe00f;
/// DR6: an access of a debug register (APM2 13.1.1.3).
const DR6_ACCESS: u64 = 1 << 13;
/// Bits of DR7 that exist, and the one that is always set (APM2 13.1.1.4); that which has accesses of debug registers fault.
const DR7_WRITABLE: u64 = 0xffff_23ff;
const DR7_GENERAL_DETECT: u64 = 1 << 13;
const DR_HIGH: u64 = !0xffff_ffff;

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// What the intercepted instruction is, as the CPU says, or from its bytes. `None`: executing it again is right.
    fn decode(&mut self, call: &Call) -> Result<Option<(VcpuState, Intercepted)>, Trouble> {
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

    fn again(&self) -> Step {
        let boundary = self.vm.kernel.with_state(|arch| Boundary::at_exit(arch));
        Step::new(Mtd::empty(), boundary)
    }

    /// An instruction is done and has changed `state`.
    fn finished(&self, mut state: VcpuState, length: u8) -> Step {
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

    /// MOV to or from a debug register, which VMX lets exit before it looks at the privilege or at DR7 (SDM3 26.1.3).
    pub(super) fn debug_register(&mut self, call: &Call) -> Result<Step, Trouble> {
        call.require(selection::EMULATE | Mtd::DR)?;
        let bits = self.traits.physical_address_bits;
        if self.vm.kernel.with_state(|arch| transfer::read(arch, bits).cpl()) != 0 {
            return self.general_protection(call);
        }
        let Some((mut state, intercepted)) = self.decode(call)? else {
            return Ok(self.again());
        };
        /// CR4.DE: DR4 and DR5 are no aliases.
        const DEBUGGING_EXTENSIONS: Cr4 = Cr4::from_bits_retain(1 << 3);
        let aliases = !state.cr4.contains(DEBUGGING_EXTENSIONS);
        let resolve = |number: u8| match number {
            4 | 5 if aliases => Some(number + 2),
            4 | 5 => None,
            number => Some(number),
        };
        if self.vm.kernel.with_state(|arch| arch.dr7) & DR7_GENERAL_DETECT != 0 {
            return Ok(self.detected());
        }
        let mut changed = Mtd::empty();
        match intercepted.operation {
            InterceptedOperation::ReadDebug { number, register } => {
                let Some(value) = resolve(number).and_then(|number| self.read_debug(number)) else {
                    return self.undefined(call);
                };
                state.set_gpr(register, value);
            }
            InterceptedOperation::WriteDebug { number, register } => {
                let value = state.gpr(register);
                match resolve(number) {
                    Some(6 | 7) if value & DR_HIGH != 0 => return self.general_protection(call),
                    Some(number) => changed = self.write_debug(number, value),
                    None => return self.undefined(call),
                }
            }
            _ => return Err(self.unable("access to a debug register")),
        }
        let step = self.finished(state, intercepted.length);
        Ok(Step { changed: step.changed | changed, ..step })
    }

    /// #DB instead of an access to a debug register. Its handler has access.
    fn detected(&self) -> Step {
        self.vm.kernel.with_state(|arch| {
            arch.dr6 |= DR6_ACCESS;
            arch.dr7 &= !DR7_GENERAL_DETECT;
            let exception = Injection::event(EventKind::Exception, length::DEBUG);
            Step::new(Mtd::DR, Boundary::at_exit(arch).with_exception(exception))
        })
    }

    fn read_debug(&self, number: u8) -> Option<u64> {
        self.vm.kernel.with_state(|arch| match number {
            6 => Some(arch.dr6),
            7 => Some(arch.dr7),
            number => arch.dr.get(usize::from(number)).copied(),
        })
    }

    fn write_debug(&self, number: u8, value: u64) -> Mtd {
        self.vm.kernel.with_state(|arch| match number {
            6 => arch.dr6 = transfer::DR6_RESET | value & DR6_WRITABLE,
            7 => arch.dr7 = transfer::DR7_RESET | value & DR7_WRITABLE,
            number => {
                if let Some(address) = arch.dr.get_mut(usize::from(number)) {
                    *address = value;
                }
            }
        });
        Mtd::DR
    }

    /// XSETBV (APM2 11.5.2): at CPL 0 only, which SVM does not check first.
    pub(super) fn xsetbv(&self, call: &Call) -> Result<Step, Trouble> {
        if self.traits.xcr0.is_empty() {
            return self.undefined(call);
        }
        let (register, value, rflags) =
            self.vm.kernel.with_state(|arch| (arch.gpr[gpr::RCX] as u32, Self::edx_eax(arch), arch.rflags));
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
