//! What a virtual CPU takes before it continues: the event whose delivery the exit interrupted, an
//! exception of the instruction just handled, a non-maskable interrupt, an interrupt, or the promise
//! to be asked again as soon as it can take one. So an interrupt costs no exit of its own if it comes up
//! while another exit is handled.

use abi::state::{ArchState, EventKind, Injection, Interruptibility};

use crate::board::Board;
use crate::state::Rflags;

/// The point at which a virtual CPU continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Boundary {
    /// It can take an interrupt.
    pub(super) interruptible: bool,
    /// It can take a non-maskable interrupt, as far as instructions are concerned.
    pub(super) nmi_possible: bool,
    /// An instruction has ended: the interrupt shadow of the one before ends with it.
    pub(super) ends_shadow: bool,
    /// The event whose delivery was interrupted by the exit, if it is valid.
    pub(super) interrupted: Injection,
    /// The exception that the instruction raised, if it is valid.
    pub(super) exception: Injection,
}

impl Boundary {
    /// Behind an instruction that was handled with these flags.
    #[inline]
    pub(super) fn after_instruction(rflags: u64) -> Self {
        Boundary {
            interruptible: rflags & Rflags::IF.bits() != 0,
            nmi_possible: true,
            ends_shadow: true,
            ..Boundary::default()
        }
    }

    /// Where the exit happened, which delivered flags, interruptibility and interrupted event.
    #[inline]
    pub(super) fn at_exit(arch: &ArchState) -> Self {
        let state = Interruptibility::from_bits_truncate(arch.interruptibility);
        let shadow = state.contains(Interruptibility::SHADOW);
        Boundary {
            interruptible: !shadow && arch.rflags & Rflags::IF.bits() != 0,
            nmi_possible: !shadow,
            interrupted: repeated(arch.interrupted),
            ..Boundary::default()
        }
    }

    /// Where a recall stopped it, before it executed another instruction. What was to be injected has not
    /// been: an earlier reply's event, or one whose delivery an interrupt of the host interrupted.
    #[inline]
    pub(super) fn at_recall(arch: &ArchState) -> Self {
        let interrupted = repeated(Injection(arch.injection.0 & !WINDOWS));
        Boundary { interrupted, ..Self::at_exit(arch) }
    }

    /// Where the CPU has just said that it can take an interrupt.
    pub(super) fn at_window() -> Self {
        Boundary { interruptible: true, nmi_possible: true, ..Boundary::default() }
    }

    /// The same, with an exception.
    pub(super) fn with_exception(self, exception: Injection) -> Self {
        Boundary { exception, ..self }
    }

    /// The event that comes before all others: one interrupted is delivered again before the instruction is.
    #[inline]
    pub(super) fn event(&self) -> Option<Injection> {
        [self.interrupted, self.exception].into_iter().find(|event| event.is_valid())
    }
}

/// The event if its delivery has to be repeated. Those of instructions (INT n, INT3, INTO) are not: RIP is still at the
/// instruction, which raises them again.
fn repeated(event: Injection) -> Injection {
    /// SVM has INT3 and INTO as exceptions (APM2 15.7.2), which nothing else raises.
    const BREAKPOINT: u8 = 3;
    const OVERFLOW: u8 = 4;
    let is_raised_again = match event.kind() {
        Some(EventKind::Software) => true,
        Some(EventKind::Exception) => matches!(event.vector(), BREAKPOINT | OVERFLOW),
        _ => false,
    };
    if event.is_valid() && !is_raised_again { event } else { Injection::NONE }
}

/// What has been promised to and by a virtual CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Injector {
    /// Window requests that the CPU has.
    window: u64,
    nmi_pending: bool,
    /// Until the IRET of the handler.
    nmi_blocked: bool,
    /// Where that IRET is, if the CPU was about to execute it when it was last heard of: the frame is in use until it has.
    iret_ahead: Option<u64>,
}

/// Requests in an injection word that are no events.
const WINDOWS: u64 = Injection::INTERRUPT_WINDOW | Injection::NMI_WINDOW;
/// Vector of non-maskable interrupts.
const NMI: u8 = 2;

impl Injector {
    /// Nothing was promised to the CPU or by it.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.window == 0 && !self.nmi_pending
    }

    /// A non-maskable interrupt arrived.
    pub(super) fn nmi(&mut self) {
        self.nmi_pending = true;
    }

    /// The CPU exited for a window; the request has ended with that.
    pub(super) fn window_opened(&mut self) {
        self.window = 0;
    }

    /// What the CPU must know of NMIs when it is told that a shadow has ended.
    pub(super) fn interruptibility(&self) -> Interruptibility {
        if self.nmi_blocked { Interruptibility::NMI_BLOCKED } else { Interruptibility::empty() }
    }

    /// The CPU has executed the IRET that unblocks NMIs, or is about to execute it `at` this address. In the latter case one that is
    /// pending is delivered behind it: before, it would overwrite the frame that the IRET is to use.
    pub(super) fn nmi_handler_ends(&mut self, at: Option<u64>) {
        self.nmi_blocked = false;
        self.iret_ahead = at;
    }

    /// Notes that the CPU has come to `rip`, and completes what is known of this boundary.
    #[inline]
    pub(super) fn arrive(&mut self, rip: u64, boundary: Boundary) -> Boundary {
        if self.iret_ahead.is_none() {
            return boundary;
        }
        self.iret_ahead = self.iret_ahead.filter(|iret| *iret == rip);
        Boundary { nmi_possible: boundary.nmi_possible && self.iret_ahead.is_none(), ..boundary }
    }

    /// Whether an NMI waits for something of which the CPU does not tell: the end of a shadow, the delivery of an event that goes first,
    /// or an IRET that is ahead. Neither vendor has a window for all of them.
    #[inline]
    pub(super) fn misses_nmi(&self) -> bool {
        self.nmi_pending && !self.nmi_blocked
    }

    /// Whether something could end a HLT.
    #[inline]
    pub(super) fn wakes(&self, board: &Board, vcpu: usize, boundary: &Boundary) -> bool {
        boundary.exception.is_valid() || self.misses_nmi() || boundary.interruptible && board.interrupt_pending(vcpu)
    }

    /// What to inject; `None` if nothing changes, and no NMI [waits](Self::misses_nmi).
    #[inline]
    pub(super) fn decide(&mut self, board: &mut Board, vcpu: usize, boundary: &Boundary) -> Option<Injection> {
        if !board.interrupt_requested(vcpu) && self.is_idle() && boundary.event().is_none() {
            return None;
        }
        let mut injection = Injection::NONE;
        if let Some(event) = boundary.event() {
            injection = event;
        } else if self.misses_nmi() && boundary.nmi_possible {
            self.nmi_pending = false;
            self.nmi_blocked = true;
            injection = Injection::event(EventKind::Nmi, NMI);
        } else if boundary.interruptible
            && let Some(vector) = board.take_interrupt(vcpu)
        {
            injection = Injection::event(EventKind::Interrupt, vector);
        }
        let mut wish = 0;
        if board.interrupt_pending(vcpu) {
            // Delivery of an interrupt disables more of them, but a second one may be pending already.
            wish |= Injection::INTERRUPT_WINDOW;
        }
        if self.nmi_blocked {
            wish |= Injection::NMI_WINDOW;
        }
        let before = std::mem::replace(&mut self.window, wish);
        (injection.is_valid() || wish != before || self.misses_nmi()).then_some(Injection(injection.0 | wish))
    }
}
