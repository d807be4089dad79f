//! Events that a vCPU gets, or was about to get.

/// Event to inject, or whose delivery an exit interrupted.
///
/// Bits 7:0 vector, 10:8 [type](EventKind), 11 error code valid, 31 valid, 63:32 error code. Bits 12 and 13 are
/// requests of the handler: exit as soon as an interrupt, or an NMI, can be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Injection(pub u64);

/// Type of an injected event (the common encoding of APM vol. 2, 15.20 and SDM vol. 3, 25.8.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EventKind {
    /// External interrupt.
    Interrupt = 0,
    /// Non-maskable interrupt.
    Nmi = 2,
    /// Hardware exception.
    Exception = 3,
    /// Software interrupt.
    Software = 4,
}

impl Injection {
    /// An event is present.
    pub const VALID: u64 = 1 << 31;
    /// Its error code is valid.
    pub const ERROR_VALID: u64 = 1 << 11;
    /// Exit when the guest can take an interrupt.
    pub const INTERRUPT_WINDOW: u64 = 1 << 12;
    /// Exit when the guest can take an NMI.
    pub const NMI_WINDOW: u64 = 1 << 13;
    /// Nothing to inject, no window wanted.
    pub const NONE: Self = Self(0);

    /// An event without error code.
    #[must_use]
    pub const fn event(kind: EventKind, vector: u8) -> Self {
        Self(Self::VALID | (kind as u64) << 8 | vector as u64)
    }

    /// An exception with an error code.
    #[must_use]
    pub const fn exception(vector: u8, error: Option<u32>) -> Self {
        let event = Self::event(EventKind::Exception, vector).0;
        match error {
            Some(code) => Self(event | Self::ERROR_VALID | (code as u64) << 32),
            None => Self(event),
        }
    }

    /// The same, with an exit requested when an interrupt can be delivered.
    #[must_use]
    pub const fn with_interrupt_window(self) -> Self {
        Self(self.0 | Self::INTERRUPT_WINDOW)
    }

    /// Whether an event is present.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 & Self::VALID != 0
    }

    /// Type of the event; `None` for one that nothing has.
    #[must_use]
    pub const fn kind(self) -> Option<EventKind> {
        match self.0 >> 8 & 7 {
            0 => Some(EventKind::Interrupt),
            2 => Some(EventKind::Nmi),
            3 => Some(EventKind::Exception),
            4 => Some(EventKind::Software),
            _ => None,
        }
    }

    /// Its error code, if it has one.
    #[must_use]
    pub const fn error_code(self) -> Option<u32> {
        if self.0 & Self::ERROR_VALID != 0 { Some((self.0 >> 32) as u32) } else { None }
    }

    /// Vector of the event.
    #[must_use]
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn injection_fields_do_not_overlap() {
        let event = Injection::exception(14, Some(0xffff_ffff)).with_interrupt_window();
        assert_eq!(event.vector(), 14);
        assert_eq!(event.0 >> 8 & 7, EventKind::Exception as u64);
        assert_eq!(event.error_code(), Some(0xffff_ffff));
        assert_eq!(Injection::exception(3, None).error_code(), None);
        assert!(event.is_valid());
    }
}
