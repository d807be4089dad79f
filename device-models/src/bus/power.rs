//! Requests to reset the machine or to switch it off.

/// What shall happen to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PowerEvent {
    /// Start over.
    Reset,
    /// Switch off.
    Off,
}

/// Who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PowerSource {
    /// System control port A (0x92), bit 0.
    FastReset,
    /// A pulse on the keyboard controller's reset line.
    KeyboardController,
    /// The reset control register (0xcf9).
    ResetControl,
    /// ACPI PM1 control, a sleep type with sleep enable.
    AcpiSleep,
}

/// Carries power events to whoever runs the machine.
pub trait PowerBus {
    /// `source` wants `event`. Applied by the wiring after the access.
    fn power(&mut self, event: PowerEvent, source: PowerSource);
}
