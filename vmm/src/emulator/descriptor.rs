//! Descriptors, and the segments that a task begins with (SDM3 3.4.5, 3.5 and 8.3).

use vm_memory::GuestMemoryBackend;

use super::error::{Exception, ExceptionVector, Stop};
use super::system::{Span, System};
use crate::paging::AccessKind;
use crate::state::{Rflags, Segment, SegmentAttributes, SegmentRegister, VcpuState};

/// A segment selector (SDM3 3.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Selector(pub(super) u16);

impl Selector {
    const LOCAL: u16 = 1 << 2;
    const PRIVILEGE: u16 = 3;

    /// It selects no segment.
    pub(super) fn is_null(self) -> bool {
        self.0 & !Self::PRIVILEGE == 0
    }

    /// It is about the LDT.
    pub(super) fn is_local(self) -> bool {
        self.0 & Self::LOCAL != 0
    }

    /// Requested privilege level.
    pub(super) fn rpl(self) -> u8 {
        (self.0 & Self::PRIVILEGE) as u8
    }

    /// What error codes say of it.
    pub(super) fn error_code(self) -> u32 {
        u32::from(self.0 & !Self::PRIVILEGE)
    }

    /// Offset of its descriptor in the table.
    fn offset(self) -> u64 {
        u64::from(self.0 & !(Self::LOCAL | Self::PRIVILEGE))
    }
}

/// A descriptor (SDM3 figure 3-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor(u64);

/// What a descriptor describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Code {
        is_conforming: bool,
        is_readable: bool,
    },
    Data {
        is_writable: bool,
    },
    LocalTable,
    TaskState {
        is_busy: bool,
    },
    /// A gate, or nothing.
    Other,
}

impl Descriptor {
    const BYTES: usize = size_of::<u64>();
    /// The byte with its type, and there: the task is busy.
    const TYPE_AT: u64 = 5;
    pub(super) const BUSY: u8 = 1 << 1;
    const ACCESSED: u8 = 1 << 0;

    /// In the form of a segment register.
    pub(super) fn attributes(self) -> SegmentAttributes {
        let (low, high) = (self.0 >> 40 & 0xff, self.0 >> 52 & 0xf);
        SegmentAttributes::from_bits_retain((low | high << 8) as u16)
    }

    /// Linear address.
    pub(super) fn base(self) -> u64 {
        self.0 >> 16 & 0xff_ffff | (self.0 >> 56) << 24
    }

    /// Highest offset, in bytes.
    pub(super) fn limit(self) -> u32 {
        let limit = (self.0 & 0xffff | self.0 >> 32 & 0xf_0000) as u32;
        if self.attributes().contains(SegmentAttributes::GRANULARITY) { limit << 12 | 0xfff } else { limit }
    }

    pub(super) fn is_present(self) -> bool {
        self.attributes().contains(SegmentAttributes::PRESENT)
    }

    /// What it describes (SDM3 tables 3-1 and 3-2).
    pub(super) fn kind(self) -> Kind {
        use SegmentAttributes as A;
        let attributes = self.attributes();
        let (third, second) = (A::EXPAND_DOWN_OR_CONFORMING, A::WRITABLE_OR_READABLE);
        if attributes.contains(A::NOT_SYSTEM | A::CODE) {
            Kind::Code { is_conforming: attributes.contains(third), is_readable: attributes.contains(second) }
        } else if attributes.contains(A::NOT_SYSTEM) {
            Kind::Data { is_writable: attributes.contains(second) }
        } else {
            // Types of system segments: 1, 3, 9 and 11 are tasks', 2 is an LDT.
            match attributes.bits() & 0xf {
                1 | 9 => Kind::TaskState { is_busy: false },
                3 | 11 => Kind::TaskState { is_busy: true },
                2 => Kind::LocalTable,
                _ => Kind::Other,
            }
        }
    }

    /// A segment register that this is loaded into.
    pub(super) fn segment(self, selector: Selector) -> Segment {
        Segment { selector: selector.0, attributes: self.attributes(), limit: self.limit(), base: self.base() }
    }
}

impl<M: GuestMemoryBackend> System<'_, M> {
    /// Linear address of a descriptor; `None` if there is no such table, or it ends before.
    fn descriptor_at(&self, selector: Selector) -> Option<u64> {
        let (base, limit) = if selector.is_local() {
            let table = &self.state.ldtr;
            (table.base, Some(table.limit).filter(|_| table.attributes.contains(SegmentAttributes::PRESENT))?)
        } else {
            (self.state.gdtr.base, self.state.gdtr.limit.into())
        };
        let last = selector.offset() + Descriptor::BYTES as u64 - 1;
        (last <= u64::from(limit)).then(|| base.wrapping_add(selector.offset()))
    }

    /// A descriptor; `None` if the table does not have it.
    pub(super) fn descriptor(&self, selector: Selector) -> Result<Option<Descriptor>, Stop> {
        let Some(at) = self.descriptor_at(selector) else {
            return Ok(None);
        };
        let mut bytes = [0; Descriptor::BYTES];
        self.locate(at, bytes.len() as u8, AccessKind::Read)?.read(self.memory, &mut bytes);
        Ok(Some(Descriptor(u64::from_le_bytes(bytes))))
    }

    /// The byte with the type of a descriptor, to be changed: #TS if the table does not have it.
    pub(super) fn type_of(&self, selector: Selector, external: u32) -> Result<Span, Stop> {
        let none = Exception::of_selector(ExceptionVector::InvalidTss, selector, external);
        let at = self.descriptor_at(selector).ok_or(none)?;
        self.locate(at.wrapping_add(Descriptor::TYPE_AT), 1, AccessKind::Write)
    }
}

/// A code segment of which nothing is known but the privilege level: what a task has as long as its own is not loaded.
fn anonymous_code(selector: Selector) -> Segment {
    use SegmentAttributes as A;
    let kind =
        A::PRESENT | A::NOT_SYSTEM | A::CODE | A::WRITABLE_OR_READABLE | A::ACCESSED | A::DEFAULT_32 | A::GRANULARITY;
    Segment { selector: selector.0, attributes: kind | A::with_dpl(selector.rpl()), limit: u32::MAX, base: 0 }
}

/// Loads the segments of a task whose selectors are in the registers.
pub(super) struct Loader<'a, M> {
    pub(super) memory: &'a M,
    pub(super) state: &'a mut VcpuState,
    /// EXT of error codes.
    pub(super) external: u32,
}

impl<M: GuestMemoryBackend> Loader<'_, M> {
    /// Loads all of them. After an exception those that are not loaded are not present, and the privilege level is the task's.
    pub(super) fn load_all(&mut self) -> Result<(), Stop> {
        use SegmentRegister as R;
        if self.state.rflags.contains(Rflags::VM) {
            self.state.segments.iter_mut().for_each(|segment| *segment = virtual_8086(segment.selector));
            return self.load_local_table();
        }
        let code = self.selector(R::Cs);
        for segment in &mut self.state.segments {
            *segment = Segment { selector: segment.selector, ..Segment::default() };
        }
        *self.register(R::Cs) = anonymous_code(code);
        self.register(R::Ss).attributes = SegmentAttributes::with_dpl(code.rpl());
        self.load_local_table()?;
        self.load_code(code)?;
        self.load_stack(code.rpl())?;
        [R::Ds, R::Es, R::Fs, R::Gs].into_iter().try_for_each(|register| self.load_data(register, code.rpl()))
    }

    fn selector(&self, register: SegmentRegister) -> Selector {
        Selector(self.state.segment(register).selector)
    }

    fn register(&mut self, register: SegmentRegister) -> &mut Segment {
        &mut self.state.segments[register as usize]
    }

    fn wrong(&self, vector: ExceptionVector, selector: Selector) -> Stop {
        Exception::of_selector(vector, selector, self.external).into()
    }

    /// A segment's descriptor, which must be there.
    fn descriptor(&self, selector: Selector) -> Result<Descriptor, Stop> {
        let found = System { memory: self.memory, state: self.state }.descriptor(selector)?;
        found.filter(|_| !selector.is_null()).ok_or_else(|| self.wrong(ExceptionVector::InvalidTss, selector))
    }

    fn load_local_table(&mut self) -> Result<(), Stop> {
        let selector = Selector(self.state.ldtr.selector);
        if selector.is_null() {
            return Ok(());
        }
        let wrong = self.wrong(ExceptionVector::InvalidTss, selector);
        if selector.is_local() {
            return Err(wrong);
        }
        let descriptor = self.descriptor(selector)?;
        if descriptor.kind() != Kind::LocalTable || !descriptor.is_present() {
            return Err(wrong);
        }
        self.state.ldtr = descriptor.segment(selector);
        Ok(())
    }

    fn load_code(&mut self, selector: Selector) -> Result<(), Stop> {
        let descriptor = self.descriptor(selector)?;
        let dpl = descriptor.attributes().dpl();
        let is_right = match descriptor.kind() {
            Kind::Code { is_conforming: true, .. } => dpl <= selector.rpl(),
            Kind::Code { is_conforming: false, .. } => dpl == selector.rpl(),
            _ => false,
        };
        self.load(SegmentRegister::Cs, descriptor, is_right, ExceptionVector::SegmentNotPresent)
    }

    fn load_stack(&mut self, cpl: u8) -> Result<(), Stop> {
        let selector = self.selector(SegmentRegister::Ss);
        let descriptor = self.descriptor(selector)?;
        let is_stack = descriptor.kind() == Kind::Data { is_writable: true };
        let is_right = is_stack && selector.rpl() == cpl && descriptor.attributes().dpl() == cpl;
        self.load(SegmentRegister::Ss, descriptor, is_right, ExceptionVector::Stack)
    }

    fn load_data(&mut self, register: SegmentRegister, cpl: u8) -> Result<(), Stop> {
        let selector = self.selector(register);
        if selector.is_null() {
            return Ok(());
        }
        let descriptor = self.descriptor(selector)?;
        let is_permitted = descriptor.attributes().dpl() >= cpl.max(selector.rpl());
        let is_right = match descriptor.kind() {
            Kind::Code { is_conforming, is_readable } => is_readable && (is_conforming || is_permitted),
            Kind::Data { .. } => is_permitted,
            _ => false,
        };
        self.load(register, descriptor, is_right, ExceptionVector::SegmentNotPresent)
    }

    /// Loads a segment if it is right and present, and marks it as used.
    fn load(
        &mut self,
        register: SegmentRegister,
        descriptor: Descriptor,
        is_right: bool,
        absent: ExceptionVector,
    ) -> Result<(), Stop> {
        let selector = self.selector(register);
        if !is_right {
            return Err(self.wrong(ExceptionVector::InvalidTss, selector));
        }
        if !descriptor.is_present() {
            return Err(self.wrong(absent, selector));
        }
        if !descriptor.attributes().contains(SegmentAttributes::ACCESSED) {
            let kind = System { memory: self.memory, state: self.state }.type_of(selector, self.external)?;
            kind.change_byte(self.memory, |kind| kind | Descriptor::ACCESSED);
        }
        let segment = descriptor.segment(selector);
        *self.register(register) = Segment { attributes: segment.attributes | SegmentAttributes::ACCESSED, ..segment };
        Ok(())
    }
}

/// A segment of virtual-8086 mode (SDM3 21.1.1).
fn virtual_8086(selector: u16) -> Segment {
    use SegmentAttributes as A;
    let kind = A::PRESENT | A::NOT_SYSTEM | A::WRITABLE_OR_READABLE | A::ACCESSED;
    let user = A::with_dpl(3);
    Segment { selector, attributes: kind | user, limit: u16::MAX.into(), base: u64::from(selector) << 4 }
}
