//! Interrupts on their way from lines and messages to virtual CPUs, and the side of the local APICs
//! that virtual CPUs see.

use device_models::bus::apic::{ApicMessage, Delivery, Trigger};
use device_models::lapic::{GeneralProtection, Lapic, MSR_APIC_BASE};
use device_models::pic::Acknowledge;
use device_models::time::Tsc;

use super::wires::Wire;
use super::{Board, Models, Wires};
use crate::machine::MAX_VCPUS;

const WORDS: usize = MAX_VCPUS.div_ceil(u64::BITS as usize);

/// A set of virtual CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuSet {
    words: [u64; WORDS],
    is_empty: bool,
}

impl Default for VcpuSet {
    fn default() -> Self {
        VcpuSet { words: [0; WORDS], is_empty: true }
    }
}

impl VcpuSet {
    /// Adds a CPU; numbers beyond [`MAX_VCPUS`] are ignored.
    #[inline]
    pub fn insert(&mut self, vcpu: usize) {
        if let Some(word) = self.words.get_mut(vcpu / u64::BITS as usize) {
            *word |= 1 << (vcpu % u64::BITS as usize);
            self.is_empty = false;
        }
    }

    /// Removes a CPU.
    #[inline]
    pub fn remove(&mut self, vcpu: usize) {
        if let Some(word) = self.words.get_mut(vcpu / u64::BITS as usize) {
            *word &= !(1 << (vcpu % u64::BITS as usize));
            self.is_empty = self.words == [0; WORDS];
        }
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The CPUs, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        self.words.into_iter().enumerate().flat_map(|(index, mut word)| {
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(index * u64::BITS as usize + bit)
            })
        })
    }
}

/// What happened to a virtual CPU, beside interrupts, since it last looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuNews {
    /// A non-maskable interrupt.
    pub nmi: bool,
    /// INIT: wait for a start-up message.
    pub init: bool,
    /// Start-up message after INIT: the page number of the entry point.
    pub startup: Option<u8>,
}

impl Board {
    /// Applies effects until there are no more. It ends: an effect is caused by an access or by the
    /// level of a line, and no model answers one message with another.
    #[inline]
    pub(super) fn settle(&mut self) {
        while let Some(wire) = self.wires.queue.pop_front() {
            self.apply(wire);
        }
    }

    fn apply(&mut self, wire: Wire) {
        let Self { models, wires, .. } = self;
        match wire {
            Wire::Irq(line, active) => {
                for pic in &mut models.pics {
                    pic.set_line(line, active, wires);
                }
                if let (Some(gsi), Some(ioapic)) = (line.gsi(), &mut models.ioapic) {
                    ioapic.set_line(gsi, active, wires);
                }
            }
            Wire::Intr(active) => {
                for lapic in &mut models.lapics {
                    lapic.set_lint0(active, wires);
                }
            }
            Wire::Message(message) => {
                let is_taken = models.deliver(&message, wires);
                if !is_taken
                    && message.trigger == Trigger::Level
                    && let Some(ioapic) = &mut models.ioapic
                {
                    ioapic.refused(&message);
                }
            }
            Wire::Receptive => {
                if let Some(ioapic) = &mut models.ioapic {
                    ioapic.retry(wires);
                }
            }
            Wire::EndOfInterrupt(vector) => {
                if let Some(ioapic) = &mut models.ioapic {
                    ioapic.end_of_interrupt(vector, wires);
                }
            }
        }
    }

    /// CPUs to which something may have happened since the last call.
    #[inline]
    pub fn take_marked(&mut self) -> VcpuSet {
        std::mem::take(&mut self.wires.marked)
    }

    /// A CPU looks by itself.
    #[inline]
    pub(crate) fn unmark(&mut self, vcpu: usize) {
        if !self.wires.marked.is_empty() {
            self.wires.marked.remove(vcpu);
        }
    }

    /// Whether something but interrupts happened to a CPU.
    #[inline]
    pub fn has_news(&self, vcpu: usize) -> bool {
        self.wires.news.get(vcpu).is_some_and(|news| *news != VcpuNews::default())
    }

    /// What happened to a CPU since the last call.
    pub fn take_news(&mut self, vcpu: usize) -> VcpuNews {
        self.wires.news.get_mut(vcpu).map(std::mem::take).unwrap_or_default()
    }

    /// Whether the CPU has an interrupt to take.
    #[inline]
    pub fn interrupt_pending(&self, vcpu: usize) -> bool {
        self.models.lapics.get(vcpu).is_some_and(|lapic| lapic.pending().is_some() || lapic.extint())
    }

    /// Whether anything is requested of the CPU, which it may or may not have to take now.
    #[inline]
    pub fn interrupt_requested(&self, vcpu: usize) -> bool {
        self.models.lapics.get(vcpu).is_some_and(|lapic| !lapic.is_calm())
    }

    /// The CPU takes its interrupt, if it has one to take: the vector.
    #[inline]
    pub fn take_interrupt(&mut self, vcpu: usize) -> Option<u8> {
        match self.models.lapics.get_mut(vcpu)?.acknowledge() {
            None => self.take_external_interrupt(vcpu),
            vector => vector,
        }
    }

    /// The same of an interrupt that is the 8259 pair's.
    #[inline(never)]
    fn take_external_interrupt(&mut self, vcpu: usize) -> Option<u8> {
        let Self { models, wires, .. } = self;
        let lapic = models.lapics.get_mut(vcpu)?;
        if !lapic.extint() {
            return None;
        }
        lapic.acknowledge_extint();
        let vector = models.acknowledge_pic(wires);
        self.settle();
        vector
    }

    /// RDMSR of a register of the local APIC.
    ///
    /// # Errors
    /// The guest gets #GP(0).
    pub fn lapic_read(&mut self, now: Tsc, vcpu: usize, msr: u32) -> Result<u64, GeneralProtection> {
        let Self { models, wires, .. } = self;
        let lapic = models.lapics.get_mut(vcpu).ok_or(GeneralProtection)?;
        let before = lapic.deadline();
        let value = match msr {
            MSR_APIC_BASE => Ok(lapic.base().bits()),
            msr => lapic.msr_read(now, msr, wires),
        };
        models.deadlines.replace(before, lapic.deadline());
        self.settle();
        value
    }

    /// WRMSR of a register of the local APIC.
    ///
    /// # Errors
    /// The guest gets #GP(0).
    pub fn lapic_write(&mut self, now: Tsc, vcpu: usize, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        let Self { models, wires, .. } = self;
        let lapic = models.lapics.get_mut(vcpu).ok_or(GeneralProtection)?;
        let before = lapic.deadline();
        let result = match msr {
            MSR_APIC_BASE => lapic.set_base(value, wires),
            msr => lapic.msr_write(now, msr, value, wires),
        };
        models.deadlines.replace(before, lapic.deadline());
        self.settle();
        result
    }

    /// CR8 of a CPU.
    pub fn cr8(&self, vcpu: usize) -> u8 {
        self.models.lapics.get(vcpu).map_or(0, Lapic::cr8)
    }

    /// A CPU moves to CR8.
    pub fn set_cr8(&mut self, vcpu: usize, priority: u8) {
        if let Some(lapic) = self.models.lapics.get_mut(vcpu) {
            lapic.set_cr8(priority);
        }
    }
}

impl Models {
    /// Whether anybody has taken it.
    fn deliver(&mut self, message: &ApicMessage, wires: &mut Wires) -> bool {
        let accepting = self.lapics.iter_mut().filter(|lapic| lapic.accepts(message.destination));
        if message.delivery == Delivery::LowestPriority {
            let least = accepting
                .filter_map(|lapic| Some((lapic.arbitration_priority()?, lapic)))
                .min_by_key(|(priority, _)| *priority);
            least.is_some_and(|(_, lapic)| lapic.deliver(message, wires))
        } else {
            accepting.fold(false, |is_taken, lapic| lapic.deliver(message, wires) | is_taken)
        }
    }

    /// Acknowledge cycle with the 8259 pair.
    fn acknowledge_pic(&mut self, wires: &mut Wires) -> Option<u8> {
        let (master, slaves) = self.pics.split_first_mut()?;
        match master.acknowledge(wires) {
            Acknowledge::Vector(vector) => Some(vector),
            Acknowledge::Cascade(_) => match slaves.first_mut()?.acknowledge(wires) {
                Acknowledge::Vector(vector) => Some(vector),
                // A slave has no slave.
                Acknowledge::Cascade(_) => None,
            },
        }
    }
}
