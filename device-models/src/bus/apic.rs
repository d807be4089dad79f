//! Interrupt messages between I/O APICs, MSI sources and local APICs, and what those do to vCPUs.

/// The identifier of a local APIC (32 bits wide in x2APIC mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LapicId(pub u32);

/// What an 8-bit destination field broadcasts with.
const BROADCAST_8BIT: u8 = 0xff;

/// Who an interrupt message is for (Intel SDM vol. 3A, 11.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The local APIC of this identifier.
    Physical(LapicId),
    /// Every local APIC whose logical identifier matches this message destination address.
    Logical(u32),
    /// Every local APIC.
    All,
    /// Every local APIC but this one.
    AllBut(LapicId),
}

impl Destination {
    /// Decodes an 8-bit destination field, as I/O APICs, MSIs and the xAPIC ICR have.
    #[must_use]
    pub const fn from_8bit(field: u8, logical: bool) -> Self {
        match (logical, field) {
            (true, _) => Self::Logical(field as u32),
            (false, BROADCAST_8BIT) => Self::All,
            (false, _) => Self::Physical(LapicId(field as u32)),
        }
    }

    /// Decodes the 32-bit destination field of the x2APIC ICR.
    #[must_use]
    pub const fn from_32bit(field: u32, logical: bool) -> Self {
        match (logical, field) {
            (_, u32::MAX) => Self::All,
            (true, _) => Self::Logical(field),
            (false, _) => Self::Physical(LapicId(field)),
        }
    }
}

/// Delivery mode (Intel SDM vol. 3A, 11.5.1 and 11.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// The vector, to every destination.
    Fixed,
    /// The vector, to the destination that runs at the lowest priority.
    LowestPriority,
    /// System management interrupt.
    Smi,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up; the vector is the page number of the entry point.
    StartUp,
    /// The vector comes from an 8259.
    ExtInt,
}

impl Delivery {
    /// Decodes the three-bit field. 3 is reserved; so are [`Self::StartUp`] for everybody but the
    /// ICR and [`Self::ExtInt`] for the ICR, which their users check.
    #[must_use]
    pub const fn decode(field: u32) -> Option<Self> {
        match field & 7 {
            0 => Some(Self::Fixed),
            1 => Some(Self::LowestPriority),
            2 => Some(Self::Smi),
            4 => Some(Self::Nmi),
            5 => Some(Self::Init),
            6 => Some(Self::StartUp),
            7 => Some(Self::ExtInt),
            _ => None,
        }
    }
}

/// Trigger mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// One interrupt per message.
    Edge,
    /// The source waits for an EOI.
    Level,
}

/// An interrupt message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApicMessage {
    /// Who it is for.
    pub destination: Destination,
    /// What it does there.
    pub delivery: Delivery,
    /// Vector, or start-up page.
    pub vector: u8,
    /// Whether an EOI goes back.
    pub trigger: Trigger,
}

/// Carries messages to local APICs and their EOIs back.
///
/// The wiring hands a message to every local APIC for which `Lapic::accepts` holds; of a
/// [`Delivery::LowestPriority`] message only to the one of those with the least
/// `Lapic::arbitration_priority` that is not `None`. A level-triggered message that nobody has taken it reports to
/// `IoApic::refused`.
pub trait ApicBus {
    /// Sends `message`.
    fn send(&mut self, message: ApicMessage);

    /// A local APIC completed the level-triggered `vector`: for the I/O APICs.
    fn eoi(&mut self, vector: u8);

    /// A local APIC may take what it has refused before: for `IoApic::retry`.
    fn receptive(&mut self);
}

/// What a local APIC does to its vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VcpuEvent {
    /// Look at `Lapic::pending` and `Lapic::extint` again: an interrupt may be deliverable.
    Interrupt,
    /// Non-maskable interrupt.
    Nmi,
    /// System management interrupt.
    Smi,
    /// INIT: reset to the wait-for-start-up state. The local APIC has reset itself already.
    Init,
    /// Start execution at this real-mode page, if waiting for it.
    StartUp {
        /// CS selector is `page << 8`, IP is 0.
        page: u8,
    },
}

/// Carries events from a local APIC to its vCPU.
pub trait VcpuBus {
    /// `event` happens to the vCPU of local APIC `id`.
    fn vcpu(&mut self, id: LapicId, event: VcpuEvent);
}
