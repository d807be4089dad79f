//! Start of a virtual CPU: the boot CPU where the loader says, the others, and whoever gets an INIT, where a
//! start-up message says (SDM3 9.4.4.1, APM2 14.1.3).

use abi::PAGE_BITS;
use abi::state::Mtd;
use vm_memory::GuestMemoryBackend;

use super::injection::Injector;
use super::{Emulator, Inside, Kernel, MsrFile, Vcpu, selection, transfer};
use crate::board::VcpuNews;
use crate::state::{Cr0, DescriptorTable, Rflags, Segment, SegmentAttributes, SegmentRegister, VcpuState};
use crate::vm::{BOOT_CPU, Life};

/// State that INIT does not touch, unlike a reset: MSRs but EFER and the segment bases, the TSC, and XCR0 (SDM3 10.1 and table 10-1,
/// APM2 14.1.3). Nor are the MSRs that only the VMM knows and the x87, SSE and AVX registers, of which the kernel has the latter.
const KEPT_BY_INIT: Mtd = Mtd::SYSCALL.union(Mtd::SYSENTER).union(Mtd::PAT).union(Mtd::TSC).union(Mtd::XCR0);

impl<'vm, K: Kernel, M: GuestMemoryBackend> Vcpu<'vm, K, M> {
    /// Starts this CPU from scratch, once it is its turn.
    #[cold]
    pub(super) fn start(&mut self, mut inside: Inside<'vm>) -> Mtd {
        loop {
            inside.machine.looked(self.index);
            self.vm.reset_if_due(&mut inside, self.index);
            if inside.machine.life != Life::Running {
                return self.stop(inside);
            }
            if !inside.machine.reset_due
                && let Some(state) = self.initial_state(&mut inside)
            {
                return self.begin(inside, &state);
            }
            inside = self.block(inside);
        }
    }

    /// Where it starts; `None` if it has to wait for a start-up message.
    fn initial_state(&mut self, inside: &mut Inside<'_>) -> Option<VcpuState> {
        let machine = &mut *inside.machine;
        let is_reset = machine.generation != self.generation;
        self.generation = machine.generation;
        if is_reset {
            (self.news, self.is_fresh) = (VcpuNews::default(), true);
        }
        self.listen(machine);
        if is_reset && self.index == BOOT_CPU {
            return Some(machine.boot_state.clone());
        }
        self.news.init = false;
        self.news.startup.take().map(real_mode)
    }

    fn begin(&mut self, mut inside: Inside<'_>, state: &VcpuState) -> Mtd {
        inside.machine.end_wait(self.index);
        if self.deferred.take().is_some() {
            self.vm.kernel.select_recall(self.index, selection::RECALL);
        }
        self.emulator = Emulator::new(&self.vm.memory);
        self.injector = Injector::default();
        let kept = if std::mem::take(&mut self.is_fresh) {
            self.msrs = MsrFile::new(self.traits.physical_address_bits);
            self.tsc_adjust = 0;
            Mtd::empty()
        } else {
            KEPT_BY_INIT
        };
        let offset = self.tsc_offset(&inside);
        let kernel = &self.vm.kernel;
        kernel.with_state(|arch| transfer::write_initial(arch, state, offset, self.traits.xcr0));
        selection::EVERYTHING.difference(kept) | self.depart(inside)
    }

    /// Guest TSC minus host TSC.
    pub(super) fn tsc_offset(&self, inside: &Inside<'_>) -> u64 {
        self.tsc_adjust.wrapping_sub(inside.machine.origin)
    }
}

/// State of a CPU that starts at a page of conventional memory.
fn real_mode(page: u8) -> VcpuState {
    const LIMIT: u32 = 0xffff;
    /// A selector counts paragraphs.
    const PARAGRAPH_SHIFT: u32 = 4;
    let base = u64::from(page) << PAGE_BITS;
    let present = SegmentAttributes::PRESENT | SegmentAttributes::ACCESSED;
    let system = |attributes| Segment { attributes, limit: LIMIT, ..Segment::default() };
    let data = system(present | SegmentAttributes::NOT_SYSTEM | SegmentAttributes::WRITABLE_OR_READABLE);
    let table = DescriptorTable { base: 0, limit: LIMIT as u16 };
    let mut state = VcpuState {
        rflags: Rflags::FIXED_1,
        // As after a reset. INIT keeps CD and NW, but they mean nothing here.
        cr0: Cr0::CD | Cr0::NW | Cr0::ET,
        segments: [data; 6],
        // A busy 32-bit task state segment, and a local descriptor table (types 11 and 2).
        tr: system(present | SegmentAttributes::WRITABLE_OR_READABLE | SegmentAttributes::CODE),
        ldtr: system(SegmentAttributes::PRESENT | SegmentAttributes::WRITABLE_OR_READABLE),
        gdtr: table,
        idtr: table,
        ..VcpuState::default()
    };
    state.segments[SegmentRegister::Cs as usize] = Segment {
        selector: (base >> PARAGRAPH_SHIFT) as u16,
        attributes: data.attributes | SegmentAttributes::CODE,
        base,
        ..data
    };
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_startup_message_names_a_page() {
        let state = real_mode(0x9a);
        let code = state.segment(SegmentRegister::Cs);
        assert_eq!((code.selector, code.base, state.rip), (0x9a00, 0x9_a000, 0));
        assert_eq!(code.attributes.bits(), 0x9b);
        assert_eq!(state.segment(SegmentRegister::Ss).attributes.bits(), 0x93);
        assert_eq!((state.tr.attributes.bits(), state.ldtr.attributes.bits()), (0x8b, 0x82));
    }
}
