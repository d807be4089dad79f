//! Commands at the controller's command port.

/// A decoded command byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    ReadRam(usize),
    WriteRam(usize),
    DisableAux,
    EnableAux,
    TestAux,
    SelfTest,
    TestKeyboard,
    DisableKeyboard,
    EnableKeyboard,
    ReadInputPort,
    ReadOutputPort,
    WriteOutputPort,
    WriteKeyboardOutput,
    WriteAuxOutput,
    WriteAux,
    SetA20(bool),
    /// Pulses output port pins low; pin 0 is the processor's reset.
    Pulse {
        reset: bool,
    },
    Unknown,
}

impl Command {
    pub(super) const fn decode(value: u8) -> Self {
        const RAM_INDEX: u8 = 0x1f;
        match value {
            0x20..=0x3f => Self::ReadRam((value & RAM_INDEX) as usize),
            0x60..=0x7f => Self::WriteRam((value & RAM_INDEX) as usize),
            0xa7 => Self::DisableAux,
            0xa8 => Self::EnableAux,
            0xa9 => Self::TestAux,
            0xaa => Self::SelfTest,
            0xab => Self::TestKeyboard,
            0xad => Self::DisableKeyboard,
            0xae => Self::EnableKeyboard,
            0xc0 => Self::ReadInputPort,
            0xd0 => Self::ReadOutputPort,
            0xd1 => Self::WriteOutputPort,
            0xd2 => Self::WriteKeyboardOutput,
            0xd3 => Self::WriteAuxOutput,
            0xd4 => Self::WriteAux,
            0xdd => Self::SetA20(false),
            0xdf => Self::SetA20(true),
            0xf0..=0xff => Self::Pulse { reset: value & 1 == 0 },
            _ => Self::Unknown,
        }
    }
}
