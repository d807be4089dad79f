//! Debug registers, and single steps of instructions that exited.

use abi::event::EventWords;
use abi::state::{Injection, Mtd};
use vm_memory::GuestMemoryBackend;

use super::injection::WINDOWS;
use super::{Boundary, Call, Deferred, Exit, Kernel, Step, Trouble, Vcpu, selection, transfer};
use crate::emulator::InterceptedOperation;
use crate::state::Cr4;

/// Reset value of DR6, the bits that are always set (APM2 13.1.1.3).
pub(super) const DR6_RESET: u64 = 0xffff_0ff0;
/// Reset value of DR7, the bit that is always set (APM2 13.1.1.4).
pub(super) const DR7_RESET: u64 = 0x400;
/// Bits of DR6 that software can change (APM2 13.1.1.3).
const DR6_WRITABLE: u64 = 0xe00f;
/// DR6: an access of a debug register (APM2 13.1.1.3).
const DR6_ACCESS: u64 = 1 << 13;
/// Bits of DR7 that exist, and the one that is always set (APM2 13.1.1.4); that which has accesses of debug registers fault.
const DR7_WRITABLE: u64 = 0xffff_23ff;
const DR7_GENERAL_DETECT: u64 = 1 << 13;
/// The upper half of DR6 and DR7, which has to be clear (APM2 13.1.1).
const DR_HIGH: u64 = !0xffff_ffff;
/// DR6: the exception comes after a single step (APM2 13.1.1).
const DR6_SINGLE_STEP: u64 = 1 << 14;
/// DR6: the exception comes after a switch to a task with its trap bit set (SDM3 18.2.3).
pub(super) const DR6_TASK: u64 = 1 << 15;
/// DR7: what is on for the current task only (SDM3 18.2.4).
pub(super) const DR7_LOCAL: u64 = 0x155;

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
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
        let aliases = !state.cr4.contains(Cr4::DE);
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
            Step::new(Mtd::DR, Boundary::at_exit(arch).with_debug_exception())
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
            6 => arch.dr6 = DR6_RESET | value & DR6_WRITABLE,
            7 => arch.dr7 = DR7_RESET | value & DR7_WRITABLE,
            number => {
                if let Some(address) = arch.dr.get_mut(usize::from(number)) {
                    *address = value;
                }
            }
        });
        Mtd::DR
    }

    /// Has the exception of a single step wait for a recall that delivers DR6, which keeps what it holds. Nothing else is injected
    /// meanwhile.
    #[cold]
    pub(super) fn defer_step(&mut self, injection: Injection, boundary: &Boundary) -> Mtd {
        let selection = selection::RECALL | Mtd::DR;
        self.deferred = Some(Deferred { exit: Exit::Stepped, words: EventWords::default(), selection });
        self.vm.kernel.select_recall(self.index, selection);
        self.vm.kernel.recall(self.index);
        self.inject(Injection(injection.0 & WINDOWS), boundary)
    }

    /// The exception of a single step.
    pub(super) fn stepped(&self) -> Step {
        self.vm.kernel.with_state(|arch| {
            arch.dr6 |= DR6_SINGLE_STEP;
            Step::new(Mtd::DR, Boundary::at_exit(arch).with_debug_exception())
        })
    }
}
