//! Task switches by hardware, which exit with VMX only.

use abi::state::{EventKind, Injection, Interruptibility, Mtd};
use vm_memory::GuestMemoryBackend;

use super::debug::{DR6_TASK, DR7_LOCAL};
use super::exit::Vendor;
use super::{Boundary, Call, Inside, Kernel, Step, Trouble, Vcpu, selection, transfer};
use crate::emulator::{Cause, Exception, Switched};
use crate::paging::page_directory_pointers;
use crate::state::VcpuState;

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// A task switch is due.
    #[cold]
    #[inline(never)]
    pub(super) fn task_switch(&mut self, call: &Call, inside: &mut Inside<'_>) -> Result<Step, Trouble> {
        call.require(selection::TASK_SWITCH)?;
        let bits = self.traits.physical_address_bits;
        let (mut state, event) = self.vm.kernel.with_state(|arch| {
            let mut state = transfer::read(arch, bits);
            transfer::read_tables(&mut state, arch);
            (state, arch.interrupted)
        });
        let request = Vendor::task_switch(&call.words, event);
        let by = request.by;
        match self.emulator.switch_task(&mut state, request)? {
            Switched::Again => Ok(self.vm.kernel.with_state(|arch| Step::new(Mtd::empty(), Boundary::at_exit(arch)))),
            Switched::Refused(exception) => self.raised_in_delivery(Mtd::empty(), event, exception, inside),
            Switched::Faulted(exception) => {
                let changed = self.begin_task(&state, by);
                self.raised_in_delivery(changed, event, exception, inside)
            }
            Switched::Done { traps } => {
                let changed = self.begin_task(&state, by);
                let boundary = Boundary::after_instruction(state.rflags.bits());
                if !traps {
                    return Ok(Step::new(changed, boundary));
                }
                self.vm.kernel.with_state(|arch| arch.dr6 |= DR6_TASK);
                Ok(Step::new(changed, boundary.with_debug_exception()))
            }
        }
    }

    /// Puts the new task into place. Returns what has changed.
    fn begin_task(&mut self, state: &VcpuState, by: Cause) -> Mtd {
        // Impossible ones were refused with the task; those that changed since then are no worse than none.
        let pointers = page_directory_pointers(&self.vm.memory, state, state.cr3).unwrap_or_default();
        if by == Cause::Iret {
            self.injector.nmi_handler_ends(None);
        }
        self.vm.kernel.with_state(|arch| {
            let changed = transfer::write_task(arch, state);
            arch.dr7 &= !DR7_LOCAL;
            arch.pdpte = pointers;
            if by == Cause::Iret {
                arch.interruptibility &= !Interruptibility::NMI_BLOCKED.bits();
            }
            changed | Mtd::DR | Mtd::PDPTE | Mtd::STA | Mtd::TLB_FLUSH
        })
    }

    /// An exception of the switch, perhaps in the delivery of an event, which it takes the place of.
    fn raised_in_delivery(
        &self,
        changed: Mtd,
        event: Injection,
        exception: Exception,
        inside: &mut Inside<'_>,
    ) -> Result<Step, Trouble> {
        let Some(injection) = combined(event, exception) else {
            return self.shutdown(inside);
        };
        Ok(self.vm.kernel.with_state(|arch| {
            arch.cr2 = exception.cr2.unwrap_or(arch.cr2);
            let changed = if exception.cr2.is_some() { changed | Mtd::CR } else { changed };
            let boundary = Boundary { interrupted: Injection::NONE, ..Boundary::at_exit(arch) };
            Step::new(changed, boundary.with_exception(injection))
        }))
    }
}

/// What an exception in the delivery of an event becomes (SDM3 table 6-5); `None`: the CPU shuts down.
fn combined(event: Injection, exception: Exception) -> Option<Injection> {
    const DOUBLE_FAULT: u8 = 8;
    const PAGE_FAULT: u8 = 14;
    let is_contributory = |vector| matches!(vector, 0 | 10..=13);
    let second = exception.vector as u8;
    let plain = Some(Injection::exception(second, exception.error_code));
    if !event.is_valid() || event.kind() != Some(EventKind::Exception) {
        return plain;
    }
    match (event.vector(), second) {
        (DOUBLE_FAULT, _) => None,
        (PAGE_FAULT, _) => Some(Injection::exception(DOUBLE_FAULT, Some(0))),
        (first, second) if is_contributory(first) && is_contributory(second) => {
            Some(Injection::exception(DOUBLE_FAULT, Some(0)))
        }
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::ExceptionVector;

    #[test]
    fn exceptions_in_the_delivery_of_others_are_worse() {
        let second = |vector| Exception { vector, error_code: Some(0x28), cr2: None };
        let (invalid, page) = (second(ExceptionVector::InvalidTss), second(ExceptionVector::Page));
        let first = |vector| Injection::exception(vector, None);
        let plain = |vector| Some(Injection::exception(vector, Some(0x28)));
        let double = Some(Injection::exception(8, Some(0)));
        assert_eq!(combined(Injection::NONE, invalid), plain(10));
        assert_eq!(combined(Injection::event(EventKind::Interrupt, 13), invalid), plain(10));
        assert_eq!(combined(first(3), invalid), plain(10));
        assert_eq!(combined(first(13), page), plain(14));
        assert_eq!(
            [combined(first(13), invalid), combined(first(14), invalid), combined(first(14), page)],
            [double; 3]
        );
        assert_eq!(combined(first(8), invalid), None);
    }
}
