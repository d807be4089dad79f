//! Events of the guest's: those that an entry injects or delivers as virtual interrupts, and those whose delivery an exit interrupts.

use super::features::VIRTUAL_INTERRUPTS;
use super::vmcb::at;
use super::{Vmcb, intercept3};
use crate::arch::virt::WINDOWS;
use crate::frame::{Frame, Reg};
use abi::state::{EventKind, Injection};
use core::sync::atomic::Ordering::Relaxed;

/// A virtual interrupt is pending (APM vol. 2, 15.21.4); the processor clears it when the guest takes it.
const V_IRQ_PENDING: u64 = 1 << 8;
/// The same with the highest priority, ignoring the task priority.
const V_IRQ: u64 = V_IRQ_PENDING | 0xf << 16 | 1 << 20;
const V_VECTOR_SHIFT: u32 = 32;
/// Interrupts of the host do not depend on the guest's flag (APM vol. 2, 15.21.1).
pub const V_INTR_MASKING: u64 = 1 << 24;

impl Vmcb {
    /// Injects an event, and asks for windows by a virtual interrupt that exits when it could be taken.
    pub(super) fn inject(self, frame: Frame, injection: u64) {
        self.ask(frame, injection & WINDOWS);
        if injection & Injection::INTERRUPT_WINDOW != 0 {
            self.0.write(at::VIRTUAL_INTERRUPT, V_INTR_MASKING | V_IRQ);
            self.0.write(at::EVENTINJ, injection & !WINDOWS);
        } else {
            self.set_event(injection & !WINDOWS);
        }
    }

    /// Intercepts what opens these windows, and no others.
    fn ask(self, frame: Frame, windows: u64) {
        if frame.get(Reg::Windows) != windows {
            frame.set(Reg::Windows, windows);
            let when = |window, intercept| if windows & window != 0 { intercept } else { 0 };
            let (interrupt, iret) = (Injection::INTERRUPT_WINDOW, Injection::NMI_WINDOW);
            let intercepts = when(interrupt, intercept3::VINTR) | when(iret, intercept3::IRET);
            let others = self.0.read(at::EXCEPTIONS_3) & !(intercept3::VINTR | intercept3::IRET);
            self.0.write(at::EXCEPTIONS_3, others | intercepts);
        }
    }

    /// Has the next entry deliver an event, where no interrupt window is asked for. A virtual interrupt stays pending by itself if an
    /// interrupt of the host comes first; nothing else can, because the guest can take it at once.
    fn set_event(self, event: u64) {
        let injection = Injection(event);
        let is_interrupt = injection.is_valid() && injection.kind() == Some(EventKind::Interrupt);
        let (event, pending) = if is_interrupt && VIRTUAL_INTERRUPTS.load(Relaxed) {
            (0, V_IRQ | u64::from(injection.vector()) << V_VECTOR_SHIFT)
        } else {
            (event, 0)
        };
        self.0.write(at::VIRTUAL_INTERRUPT, V_INTR_MASKING | pending);
        self.0.write(at::EVENTINJ, event);
    }

    /// The interrupt that is to be delivered as a virtual one, as an event.
    pub(super) fn pending_interrupt(self) -> Option<u64> {
        let pending = self.0.read(at::VIRTUAL_INTERRUPT);
        let is_event = pending & V_IRQ_PENDING != 0 && self.0.read(at::EXCEPTIONS_3) & intercept3::VINTR == 0;
        is_event.then_some(Injection::event(EventKind::Interrupt, (pending >> V_VECTOR_SHIFT) as u8).0)
    }

    /// The event whose delivery the exit interrupted. Of a virtual interrupt, which it has left pending, QEMU reports another type.
    pub(super) fn interrupted_event(self) -> u64 {
        let event = self.0.read(at::EXITINTINFO);
        match self.pending_interrupt().filter(|_| event & Injection::VALID != 0) {
            Some(interrupt) => {
                self.0.write(at::VIRTUAL_INTERRUPT, V_INTR_MASKING);
                interrupt
            }
            None => event,
        }
    }

    /// A host interrupt that arrived while an event was being delivered to the guest: deliver it at the next entry.
    pub(super) fn keep_event(self) {
        let interrupted = self.0.read(at::EXITINTINFO);
        if interrupted & Injection::VALID == 0 || self.pending_interrupt().is_some() {
            return;
        }
        if self.0.read(at::EXCEPTIONS_3) & intercept3::VINTR == 0 {
            self.set_event(interrupted);
        } else {
            self.0.write(at::EVENTINJ, interrupted);
        }
    }
}
