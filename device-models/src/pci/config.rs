//! A type 0 configuration space (PCI Local Bus 3.0, 6.1 and 6.2).

use crate::bus::mmio::Gpa;
use crate::bus::pci::ConfigAccess;

/// Bytes of the conventional configuration space. The extended space reads 0: no capabilities.
const BYTES: u16 = 256;
const DWORDS: usize = BYTES as usize / 4;

/// Dword indices of the header.
mod header {
    pub const IDENTITY: usize = 0;
    pub const COMMAND_STATUS: usize = 1;
    pub const CLASS_REVISION: usize = 2;
    pub const BAR_0: usize = 4;
    pub const SUBSYSTEM: usize = 11;
    pub const CAPABILITIES: usize = 13;
    pub const INTERRUPT: usize = 15;
    /// The first dword after the header.
    pub const END: usize = 16;
}

/// Base address registers of a type 0 header.
pub const BARS: u8 = 6;

const COMMAND_IO: u32 = 1 << 0;
const COMMAND_MEMORY: u32 = 1 << 1;
const COMMAND_BUS_MASTER: u32 = 1 << 2;
const COMMAND_NO_INTX: u32 = 1 << 10;
const COMMAND_WRITABLE: u32 = COMMAND_IO | COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_NO_INTX;
const STATUS_INTX: u32 = 1 << 19;
const STATUS_CAPABILITIES: u32 = 1 << 20;
const INTERRUPT_LINE: u32 = 0xff;

const BAR_IO: u32 = 1 << 0;
const BAR_64: u32 = 0b10 << 1;
const BAR_PREFETCHABLE: u32 = 1 << 3;
const BAR_IO_ADDRESS: u32 = !0b11;
const BAR_MEMORY_ADDRESS: u32 = !0b1111;
/// The smallest sizes that the type bits leave room for.
const MIN_IO: u64 = 4;
const MIN_MEMORY: u64 = 16;

/// Who a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Base class, subclass and programming interface, from the top of 24 bits.
    pub class: u32,
    /// Subsystem vendor.
    pub subsystem_vendor: u16,
    /// Subsystem.
    pub subsystem: u16,
}

/// The kind of a base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes this and the next register.
    Memory64 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
}

/// The layout of a function does not fit its configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// No such base address register, or it is taken.
    NoBar,
    /// The size is not a power of two that the kind of register can express.
    BarSize,
    /// The capabilities do not fit.
    Full,
}

/// Where a capability is, in bytes from the start of the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CapabilityOffset(u8);

impl CapabilityOffset {
    const fn dword(self, index: usize) -> usize {
        self.0 as usize / 4 + index
    }

    /// The offset in bytes.
    #[must_use]
    pub const fn bytes(self) -> u8 {
        self.0
    }
}

/// A function's registers, and which of their bits the guest can write.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    values: [u32; DWORDS],
    writable: [u32; DWORDS],
    bars: [Option<Bar>; BARS as usize],
    last_capability: Option<CapabilityOffset>,
    free: usize,
}

impl ConfigSpace {
    /// A function without base address registers or capabilities.
    #[must_use]
    pub const fn new(identity: &Identity) -> Self {
        let mut values = [0; DWORDS];
        let mut writable = [0; DWORDS];
        values[header::IDENTITY] = (identity.device as u32) << 16 | identity.vendor as u32;
        values[header::CLASS_REVISION] = identity.class << 8 | identity.revision as u32;
        values[header::SUBSYSTEM] = (identity.subsystem as u32) << 16 | identity.subsystem_vendor as u32;
        writable[header::COMMAND_STATUS] = COMMAND_WRITABLE;
        writable[header::INTERRUPT] = INTERRUPT_LINE;
        Self { values, writable, bars: [None; BARS as usize], last_capability: None, free: header::END }
    }

    /// Adds base address register `index` for `bytes` bytes.
    ///
    /// # Errors
    /// [`LayoutError`] when the register is taken or cannot express the size.
    pub fn add_bar(&mut self, index: u8, kind: Bar, bytes: u64) -> Result<(), LayoutError> {
        let wide = matches!(kind, Bar::Memory64 { .. });
        let smallest = if kind == Bar::Io { MIN_IO } else { MIN_MEMORY };
        let largest = if wide { 1 << 63 } else { 1 << 31 };
        if !bytes.is_power_of_two() || !(smallest..=largest).contains(&bytes) {
            return Err(LayoutError::BarSize);
        }
        let last = index.checked_add(u8::from(wide)).ok_or(LayoutError::NoBar)?;
        if (index..=last).any(|i| self.is_taken(i)) {
            return Err(LayoutError::NoBar);
        }
        if let Some(slot) = self.bars.get_mut(usize::from(index)) {
            *slot = Some(kind);
        }
        let first = header::BAR_0 + usize::from(index);
        let mask = !(bytes - 1);
        let (flags, address) = match kind {
            Bar::Io => (BAR_IO, BAR_IO_ADDRESS),
            Bar::Memory32 => (0, BAR_MEMORY_ADDRESS),
            Bar::Memory64 { prefetchable } => {
                let prefetchable = if prefetchable { BAR_PREFETCHABLE } else { 0 };
                (BAR_64 | prefetchable, BAR_MEMORY_ADDRESS)
            }
        };
        self.define(first, flags, mask as u32 & address);
        if wide {
            self.define(first + 1, 0, (mask >> 32) as u32);
        }
        Ok(())
    }

    /// Whether register `index` does not exist, or is a register or the upper half of one.
    fn is_taken(&self, index: u8) -> bool {
        let kind = |i: u8| self.bars.get(usize::from(i)).copied();
        let below = index.checked_sub(1).and_then(kind).flatten();
        kind(index) != Some(None) || matches!(below, Some(Bar::Memory64 { .. }))
    }

    /// Sets the interrupt pin (1 = INTA#) and the line firmware would have routed it to.
    pub const fn set_interrupt(&mut self, pin: u8, line: u8) {
        self.values[header::INTERRUPT] = (pin as u32) << 8 | line as u32;
    }

    /// Appends a capability: `body` is its dwords, `(value, writable bits)` each. The low half of
    /// the first dword is filled in here.
    ///
    /// # Errors
    /// [`LayoutError::Full`] when it does not fit.
    pub fn add_capability(&mut self, id: u8, body: &[(u32, u32)]) -> Result<CapabilityOffset, LayoutError> {
        const LINKS: u32 = 0xffff;
        let start = self.free;
        let end = start + body.len();
        if body.is_empty() || end > DWORDS {
            return Err(LayoutError::Full);
        }
        for (dword, (value, writable)) in (start..).zip(body) {
            self.define(dword, *value, *writable);
        }
        if let (Some(value), Some(mask)) = (self.values.get_mut(start), self.writable.get_mut(start)) {
            *value = *value & !LINKS | u32::from(id);
            *mask &= !LINKS;
        }
        let offset = CapabilityOffset((start * 4) as u8);
        self.link(offset);
        self.free = end;
        Ok(offset)
    }

    fn link(&mut self, offset: CapabilityOffset) {
        let (dword, shift) = match self.last_capability.replace(offset) {
            Some(last) => (last.dword(0), 8),
            None => (header::CAPABILITIES, 0),
        };
        if let Some(value) = self.values.get_mut(dword) {
            *value |= u32::from(offset.0) << shift;
        }
        self.values[header::COMMAND_STATUS] |= STATUS_CAPABILITIES;
    }

    fn define(&mut self, dword: usize, value: u32, writable: u32) {
        if let (Some(v), Some(w)) = (self.values.get_mut(dword), self.writable.get_mut(dword)) {
            (*v, *w) = (value, writable);
        }
    }

    /// A dword of a capability, `index` dwords from its start.
    #[must_use]
    pub fn capability(&self, offset: CapabilityOffset, index: usize) -> u32 {
        self.values.get(offset.dword(index)).copied().unwrap_or(0)
    }

    /// A guest's read.
    #[must_use]
    pub fn read(&self, access: ConfigAccess) -> u32 {
        let dword = usize::from(access.offset / 4);
        let value = self.values.get(dword).copied().unwrap_or(0);
        value >> (u32::from(access.offset % 4) * u8::BITS) & access.size.mask()
    }

    /// A guest's write.
    pub fn write(&mut self, access: ConfigAccess, value: u32) {
        let dword = usize::from(access.offset / 4);
        let shift = u32::from(access.offset % 4) * u8::BITS;
        if let (Some(slot), Some(writable)) = (self.values.get_mut(dword), self.writable.get(dword)) {
            let mask = access.size.mask() << shift & writable;
            *slot = *slot & !mask | value << shift & mask;
        }
    }

    const fn command(&self, bit: u32) -> bool {
        self.values[header::COMMAND_STATUS] & bit != 0
    }

    /// Whether the function decodes its I/O ranges.
    #[must_use]
    pub const fn io_enabled(&self) -> bool {
        self.command(COMMAND_IO)
    }

    /// Whether the function decodes its memory ranges.
    #[must_use]
    pub const fn memory_enabled(&self) -> bool {
        self.command(COMMAND_MEMORY)
    }

    /// Whether the function may do DMA and send messages.
    #[must_use]
    pub const fn bus_master(&self) -> bool {
        self.command(COMMAND_BUS_MASTER)
    }

    /// Notes the state of the function's interrupt; whether it drives INTx.
    pub const fn set_intx(&mut self, pending: bool) -> bool {
        let status = if pending { STATUS_INTX } else { 0 };
        let register = &mut self.values[header::COMMAND_STATUS];
        *register = *register & !STATUS_INTX | status;
        pending && !self.command(COMMAND_NO_INTX)
    }

    /// The address in base address register `index`, both halves of a 64-bit one; `None` where
    /// there is no such register.
    #[must_use]
    pub fn bar(&self, index: u8) -> Option<Gpa> {
        let kind = (*self.bars.get(usize::from(index))?)?;
        let dword = header::BAR_0 + usize::from(index);
        let low = *self.values.get(dword)?;
        Some(Gpa(match kind {
            Bar::Io => u64::from(low & BAR_IO_ADDRESS),
            Bar::Memory32 => u64::from(low & BAR_MEMORY_ADDRESS),
            Bar::Memory64 { .. } => {
                let high = *self.values.get(dword + 1)?;
                u64::from(high) << 32 | u64::from(low & BAR_MEMORY_ADDRESS)
            }
        }))
    }

    /// Sets base address register `index` as firmware does.
    pub fn assign_bar(&mut self, index: u8, address: Gpa) {
        let registers = match self.bars.get(usize::from(index)).copied().flatten() {
            None => 0,
            Some(Bar::Io | Bar::Memory32) => 1,
            Some(Bar::Memory64 { .. }) => 2,
        };
        let first = header::BAR_0 + usize::from(index);
        let halves = [address.0 as u32, (address.0 >> 32) as u32];
        for (dword, half) in (first..).zip(halves).take(registers) {
            if let (Some(slot), Some(mask)) = (self.values.get_mut(dword), self.writable.get(dword)) {
                *slot = *slot & !mask | half & mask;
            }
        }
    }
}

#[cfg(test)]
mod tests;
