//! Operation command word 2: ends of interrupts and rotation.

/// The commands of OCW2 (bits 7:5: rotate, specific, EOI).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ocw2 {
    ClearRotateOnAutoEoi,
    Eoi,
    Nop,
    SpecificEoi,
    SetRotateOnAutoEoi,
    RotateOnEoi,
    SetPriority,
    RotateOnSpecificEoi,
}

impl Ocw2 {
    /// Decodes the command in the top three bits.
    pub(super) const fn decode(value: u8) -> Self {
        match value >> 5 {
            0b000 => Self::ClearRotateOnAutoEoi,
            0b001 => Self::Eoi,
            0b010 => Self::Nop,
            0b011 => Self::SpecificEoi,
            0b100 => Self::SetRotateOnAutoEoi,
            0b101 => Self::RotateOnEoi,
            0b110 => Self::SetPriority,
            _ => Self::RotateOnSpecificEoi,
        }
    }
}
