//! Task switches by hardware (SDM3 chapter 8, APM2 chapter 12), which are for guests without 64-bit code. With VMX each of them exits,
//! before it changes anything; with SVM the CPU performs them.

use vm_memory::GuestMemoryBackend;

use super::address::{Intent, linear_address};
use super::descriptor::{Descriptor, Kind, Loader, Selector};
use super::error::{Exception, ExceptionVector, Stop, Unemulated};
use super::stack::{set_stack_pointer, stack_pointer, stack_width};
use super::system::{Span, System};
use crate::paging::{AccessKind, page_directory_pointers};
use crate::state::{Cr0, Gpr, Rflags, Segment, SegmentAttributes, SegmentRegister, VcpuState};

/// A task switch that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSwitch {
    /// Selector of the new task's state segment.
    pub to: u16,
    /// What asks for it.
    pub by: Cause,
    /// Where the old task continues some day.
    pub next: u64,
}

/// What asks for a task switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// CALL.
    Call,
    /// IRET with RFLAGS.NT.
    Iret,
    /// JMP.
    Jump,
    /// An event whose gate in the IDT is a task's.
    Event {
        /// What the event pushes.
        error_code: Option<u32>,
        /// It is not an instruction's (INT n, INT3, INTO).
        is_external: bool,
    },
}

impl Cause {
    /// Whether the new task is to come back to the old one, which stays busy.
    fn nests(self) -> bool {
        matches!(self, Cause::Call | Cause::Event { .. })
    }

    /// Whether it is an event of which no instruction knows.
    pub fn is_external(self) -> bool {
        matches!(self, Cause::Event { is_external: true, .. })
    }

    /// EXT, the lowest bit of the error codes that this may lead to (SDM3 6.13).
    fn external(self) -> u32 {
        self.is_external().into()
    }
}

/// How a task switch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switched {
    /// In the new task.
    Done {
        /// Its trap bit is set: a #DB (DR6.BT) is due.
        traps: bool,
    },
    /// In the old task, which gets this exception and has not changed.
    Refused(Exception),
    /// In the new task, which gets this exception.
    Faulted(Exception),
    /// In the old task: another CPU changed a page table meanwhile, and what asked for the switch is to do so again.
    Again,
}

/// Where a task state segment has what (SDM3 figures 8-2 and 8-10). From the instruction pointer on it is one word behind the other:
/// flags, registers, segments, and the LDT.
struct Layout {
    /// Bytes of a word.
    word: usize,
    /// Page-table root.
    cr3: Option<usize>,
    /// Instruction pointer.
    ip: usize,
    /// Segment registers, in the order of their numbers.
    segments: usize,
    /// Lowest bit here: trap.
    trap: Option<usize>,
    /// All of it.
    bytes: usize,
}

const BITS_32: Layout = Layout { word: 4, cr3: Some(0x1c), ip: 0x20, segments: 6, trap: Some(0x64), bytes: 0x68 };
const BITS_16: Layout = Layout { word: 2, cr3: None, ip: 0x0e, segments: 4, trap: None, bytes: 0x2c };
/// The largest one. Lengths of accesses have eight bits.
const MAX_BYTES: usize = BITS_32.bytes;
const _: () = assert!(MAX_BYTES <= u8::MAX as usize);

/// Words from the instruction pointer on: it, flags, general-purpose registers.
const FLAGS_WORD: usize = 1;
const REGISTERS_WORD: usize = 2;
const REGISTERS: usize = 8;
const SEGMENTS_WORD: usize = REGISTERS_WORD + REGISTERS;

/// Flags that exist (SDM3 2.3); bit 1 is always set.
const FLAGS: u32 = 0x003f_7fd5;
const NESTED_TASK: u64 = 1 << 14;

impl Layout {
    /// Of a segment with these attributes: those of 32 bits have bit 3 of their type.
    fn of(attributes: SegmentAttributes) -> &'static Layout {
        if attributes.contains(SegmentAttributes::CODE) { &BITS_32 } else { &BITS_16 }
    }

    /// Where the words begin that a switch stores, and how many bytes they are.
    fn stored(&self) -> (u64, usize) {
        (self.ip as u64, (SEGMENTS_WORD + self.segments) * self.word)
    }

    fn put(&self, image: &mut [u8], index: usize, value: u64) {
        let at = index * self.word;
        if let Some(slot) = image.get_mut(at..at + self.word) {
            slot.copy_from_slice(&value.to_le_bytes()[..self.word]);
        }
    }

    fn at(&self, image: &[u8], at: usize) -> u32 {
        let mut bytes = [0; 4];
        if let (Some(slot), Some(word)) = (bytes.get_mut(..self.word), image.get(at..at + self.word)) {
            slot.copy_from_slice(word);
        }
        u32::from_le_bytes(bytes)
    }

    /// A word from the instruction pointer on.
    fn get(&self, image: &[u8], index: usize) -> u32 {
        self.at(image, self.ip + index * self.word)
    }

    /// The state of the task that ends.
    fn image(&self, state: &VcpuState, next: u64, flags: u64) -> [u8; MAX_BYTES] {
        let mut image = [0; MAX_BYTES];
        self.put(&mut image, 0, next);
        self.put(&mut image, FLAGS_WORD, flags);
        for (index, value) in state.gpr.iter().take(REGISTERS).enumerate() {
            self.put(&mut image, REGISTERS_WORD + index, *value);
        }
        for (index, segment) in state.segments.iter().take(self.segments).enumerate() {
            self.put(&mut image, SEGMENTS_WORD + index, segment.selector.into());
        }
        image
    }
}

/// All places in memory that a switch needs before it is in the new task: found, and checked, before the first is changed.
struct Places {
    /// What of the old task is stored.
    old: Span,
    /// The descriptor of the old task, if it is no longer busy.
    old_descriptor: Option<Span>,
    /// Back link of the new task, if it has one.
    link: Option<Span>,
    /// The descriptor of the new task, if it becomes busy.
    new_descriptor: Option<Span>,
}

/// A task switch under way.
pub(super) struct Switch<'a, M> {
    pub(super) memory: &'a M,
    pub(super) state: &'a mut VcpuState,
    pub(super) request: TaskSwitch,
}

impl<M: GuestMemoryBackend> Switch<'_, M> {
    /// Performs it.
    ///
    /// # Errors
    /// That what it needs is not in RAM.
    pub(super) fn run(mut self) -> Result<Switched, Unemulated> {
        let (descriptor, image, places) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(Stop::Fault(exception)) => return Ok(Switched::Refused(exception)),
            Err(Stop::Again) => return Ok(Switched::Again),
            Err(Stop::Unemulated(reason)) => return Err(reason),
        };
        self.leave(&places);
        let layout = Layout::of(descriptor.attributes());
        self.enter(&descriptor, layout, &image);
        match self.load_segments(layout) {
            Ok(()) => {
                let traps = layout.trap.is_some_and(|at| layout.at(&image, at) & 1 != 0);
                Ok(Switched::Done { traps })
            }
            Err(Stop::Fault(exception)) => Ok(Switched::Faulted(exception)),
            // The new task has begun: there is nothing to go back to.
            Err(Stop::Again) => Ok(Switched::Faulted(self.fault(ExceptionVector::InvalidTss))),
            Err(Stop::Unemulated(reason)) => Err(reason),
        }
    }

    fn to(&self) -> Selector {
        Selector(self.request.to)
    }

    fn fault(&self, vector: ExceptionVector) -> Exception {
        Exception::of_selector(vector, self.to(), self.request.by.external())
    }

    fn system(&self) -> System<'_, M> {
        System { memory: self.memory, state: self.state }
    }

    /// The descriptor of the new task, which must be one that is there, and busy only if an IRET goes back to it.
    fn new_descriptor(&self) -> Result<Descriptor, Stop> {
        let is_iret = self.request.by == Cause::Iret;
        let wrong = self.fault(if is_iret { ExceptionVector::InvalidTss } else { ExceptionVector::GeneralProtection });
        if self.to().is_null() || self.to().is_local() {
            return Err(wrong.into());
        }
        let descriptor = self.system().descriptor(self.to())?.ok_or(wrong)?;
        if descriptor.kind() != (Kind::TaskState { is_busy: is_iret }) {
            return Err(wrong.into());
        }
        if !descriptor.is_present() {
            return Err(self.fault(ExceptionVector::SegmentNotPresent).into());
        }
        Ok(descriptor)
    }

    /// Checks the new task's segment, reads it, and finds everything that is to be changed (SDM3 8.3, table 8-1).
    fn prepare(&self) -> Result<(Descriptor, [u8; MAX_BYTES], Places), Stop> {
        let system = self.system();
        let descriptor = self.new_descriptor()?;
        let (to, by, old) = (self.to(), self.request.by, self.state.tr);
        let (layout, old_layout) = (Layout::of(descriptor.attributes()), Layout::of(old.attributes));
        let fits = |limit: u32, layout: &Layout| limit as usize >= layout.bytes - 1;
        if !fits(descriptor.limit(), layout) || !fits(old.limit, old_layout) {
            return Err(self.fault(ExceptionVector::InvalidTss).into());
        }
        let base = descriptor.base();
        let mut image = [0; MAX_BYTES];
        system.locate(base, layout.bytes as u8, AccessKind::Read)?.read(self.memory, &mut image[..layout.bytes]);
        let (at, bytes) = old_layout.stored();
        let write = |linear, length: usize| system.locate(linear, length as u8, AccessKind::Write);
        let places = Places {
            old: write(old.base.wrapping_add(at), bytes)?,
            old_descriptor: if by.nests() {
                None
            } else {
                Some(system.type_of(Selector(old.selector), by.external())?)
            },
            link: if by.nests() { Some(write(base, size_of::<u16>())?) } else { None },
            new_descriptor: if by == Cause::Iret { None } else { Some(system.type_of(to, by.external())?) },
        };
        self.check_pointers(layout, &image)?;
        Ok((descriptor, image, places))
    }

    /// With PAE paging, the pointers that come with the new page-table root must be possible (SDM3 4.4.1).
    fn check_pointers(&self, layout: &Layout, image: &[u8]) -> Result<(), Stop> {
        let Some(cr3) = self.new_root(layout, image) else {
            return Ok(());
        };
        page_directory_pointers(self.memory, self.state, cr3).map(|_| ()).ok_or(Exception::GENERAL_PROTECTION.into())
    }

    /// The new task's page-table root, if it has its own.
    fn new_root(&self, layout: &Layout, image: &[u8]) -> Option<u64> {
        let at = layout.cr3.filter(|_| self.state.cr0.contains(Cr0::PG))?;
        Some(layout.at(image, at).into())
    }

    /// Stores the old task, which is busy only if the new one comes back to it.
    fn leave(&self, places: &Places) {
        let old = self.state.tr;
        let layout = Layout::of(old.attributes);
        let flags = self.state.rflags.bits();
        let flags = if self.request.by == Cause::Iret { flags & !NESTED_TASK } else { flags };
        let image = layout.image(self.state, self.request.next, flags);
        places.old.write(self.memory, &image);
        if let Some(descriptor) = &places.old_descriptor {
            descriptor.change_byte(self.memory, |kind| kind & !Descriptor::BUSY);
        }
        if let Some(link) = &places.link {
            link.write(self.memory, &old.selector.to_le_bytes());
        }
        if let Some(descriptor) = &places.new_descriptor {
            descriptor.change_byte(self.memory, |kind| kind | Descriptor::BUSY);
        }
    }

    /// Loads all of the new task but its segments, of which it has the selectors only.
    fn enter(&mut self, descriptor: &Descriptor, layout: &Layout, image: &[u8]) {
        let (root, to) = (self.new_root(layout, image), self.to());
        let state = &mut *self.state;
        let attributes = descriptor.attributes() | SegmentAttributes::WRITABLE_OR_READABLE;
        state.tr = Segment { attributes, ..descriptor.segment(to) };
        state.cr3 = root.unwrap_or(state.cr3);
        state.cr0 |= Cr0::TS;
        state.rip = layout.get(image, 0).into();
        let flags = u64::from(layout.get(image, FLAGS_WORD) & FLAGS);
        let nested = if self.request.by.nests() { NESTED_TASK } else { 0 };
        state.rflags = Rflags::from_bits_retain(flags | nested) | Rflags::FIXED_1;
        for (index, register) in Gpr::ALL.into_iter().take(REGISTERS).enumerate() {
            state.set_gpr(register, layout.get(image, REGISTERS_WORD + index).into());
        }
        for (index, segment) in state.segments.iter_mut().enumerate() {
            // A segment of 16 bits has no FS and GS.
            let has_it = index < layout.segments;
            segment.selector = if has_it { layout.get(image, SEGMENTS_WORD + index) as u16 } else { 0 };
        }
        let table = layout.get(image, SEGMENTS_WORD + layout.segments) as u16;
        state.ldtr = Segment { selector: table, ..Segment::default() };
    }

    /// Loads the segments, and pushes what the event brings along.
    fn load_segments(&mut self, layout: &Layout) -> Result<(), Stop> {
        let external = self.request.by.external();
        Loader { memory: self.memory, state: self.state, external }.load_all()?;
        let Cause::Event { error_code: Some(code), .. } = self.request.by else {
            return Ok(());
        };
        self.push(code, layout.word)
    }

    fn push(&mut self, value: u32, bytes: usize) -> Result<(), Stop> {
        let pointer = stack_pointer(self.state).wrapping_sub(bytes as u64);
        let offset = pointer & stack_width(self.state).mask();
        let linear = linear_address(self.state, SegmentRegister::Ss, offset, bytes as u8, Intent::Write)?;
        let span = self.system().locate_as_task(linear, bytes as u8, AccessKind::Write)?;
        span.write(self.memory, &value.to_le_bytes());
        set_stack_pointer(self.state, pointer);
        Ok(())
    }
}
