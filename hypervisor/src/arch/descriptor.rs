//! Segments, task state and interrupt gates (SDM vol. 3, chapters 3, 6 and 7).

use super::{entry, percpu::Area};
use crate::mem::object::Word;
use crate::space::pio;
use core::arch::asm;
use core::cell::UnsafeCell;

/// Kernel code segment. SYSCALL loads it and the next one as SS.
pub const KERNEL_CS: u16 = 0x08;
/// SYSRET loads this + 16 as CS and + 8 as SS.
pub const SYSRET_BASE: u16 = 0x10;
/// User stack segment.
pub const USER_SS: u64 = 0x18 | 3;
/// User code segment.
pub const USER_CS: u64 = 0x20 | 3;
/// Task state segment.
pub const TSS: u16 = 0x28;

/// Segment descriptors: present, code/data, long mode (SDM vol. 3, 3.4.5).
const KERNEL_CODE: u64 = 0x00af_9b00_0000_ffff;
const KERNEL_DATA: u64 = 0x00cf_9300_0000_ffff;
const USER_DATA: u64 = 0x00cf_f300_0000_ffff;
const USER_CODE: u64 = 0x00af_fb00_0000_ffff;

/// Task state segment: present, not busy (SDM vol. 3, 7.2.2).
const AVAILABLE_TASK: u64 = 0x89 << 40;
/// Interrupt gate: present, DPL 0 (SDM vol. 3, 6.14.1), so that user mode cannot invoke any by INT n.
const INTERRUPT_GATE: u64 = 0x8e << 40;

/// Interrupt stack table entry of double faults and machine checks; and that of NMIs, which may come while these are reported: the
/// end of the same stack, so much that an NMI fits.
const FAULT_IST: u64 = 1;
const NMI_IST: u64 = 2;
const NMI_STACK: u64 = 64;

/// Task state segment (SDM vol. 3, figure 7-11), its 64-bit fields split in words of 32 bits, and the I/O bitmap.
#[repr(C, align(128))]
pub struct Tables {
    /// Offset 0 of the TSS is 4 bytes into this array, so that RSP0 and IST1 are aligned words.
    tss: [Word; 14],
    /// I/O permission bitmap, and a word of ones behind it (SDM vol. 1, 19.5.2).
    bitmap: [Word; pio::WORDS + 1],
    gdt: [Word; 7],
    /// Operand of LGDT, limit and base, in the last ten bytes.
    gdt_pointer: [Word; 2],
}

/// Byte offsets inside `tss`, shifted by 4.
const TSS_SHIFT: u64 = 4;
const RSP0: usize = 1;
const IST1: usize = 5;
const IST2: usize = 6;
/// Bytes of the fixed part of the TSS.
const TSS_BYTES: u64 = 0x68;
/// I/O map base: 16 bits at byte 0x66, in tss word 13, which begins at byte 0x64.
const IOMAP: usize = 13;
const IOMAP_SHIFT: u32 = 16;
/// Offset of that word from [`Tables`].
pub const IO_MAP: usize = core::mem::offset_of!(Tables, tss) + IOMAP * 8;
/// Value of that word: the bitmap begins behind the words of `tss`.
pub const PORTS_MAPPED: u64 = (core::mem::offset_of!(Tables, bitmap) as u64 - TSS_SHIFT) << IOMAP_SHIFT;
/// Value of that word: no bitmap, because it would begin beyond the segment's limit. No port can be accessed.
pub const PORTS_DENIED: u64 = 0xffff << IOMAP_SHIFT;

impl Tables {
    /// Sets up and loads GDT, TSS and IDT of this CPU.
    pub fn load(&'static self, area: &'static Area) {
        let words = [0, KERNEL_CODE, KERNEL_DATA, USER_DATA, USER_CODE];
        for (slot, word) in self.gdt.iter().zip(words) {
            slot.set(word);
        }
        self.tss[RSP0].set(area.stack_top());
        self.tss[IST1].set(area.fault_stack_top() - NMI_STACK);
        self.tss[IST2].set(area.fault_stack_top());
        for word in &self.bitmap {
            word.set(u64::MAX);
        }
        self.enable_ports(false);
        let base = self.task_base();
        let limit = 14 * 8 - TSS_SHIFT + (pio::WORDS as u64) * 8;
        debug_assert!(limit >= TSS_BYTES);
        let descriptor = limit & 0xffff
            | (base & 0xff_ffff) << 16
            | AVAILABLE_TASK
            | (limit >> 16 & 0xf) << 48
            | (base >> 24 & 0xff) << 56;
        self.gdt[5].set(descriptor);
        self.gdt[6].set(base >> 32);
        let limit = (size_of_val(&self.gdt) - 1) as u16;
        self.gdt_pointer[0].set(u64::from(limit) << 48);
        self.gdt_pointer[1].set(self.gdt_base());
        self.load_gdt_register();
        load_segments();
        load_idt();
    }

    /// Puts the I/O bitmap in force, or forbids all ports.
    pub fn enable_ports(&self, enable: bool) {
        self.tss[IOMAP].set(if enable { PORTS_MAPPED } else { PORTS_DENIED });
    }

    /// Address of the segment descriptors.
    pub fn gdt_base(&self) -> u64 {
        (&raw const self.gdt).addr() as u64
    }

    /// Address of the task state segment.
    pub fn task_base(&self) -> u64 {
        (&raw const self.tss).addr() as u64 + TSS_SHIFT
    }

    /// Loads the register that holds address and limit of the segment descriptors.
    #[inline(always)]
    pub fn load_gdt_register(&'static self) {
        // SAFETY: `load` has set up the operand; the table is that of this CPU, with the segments in use.
        unsafe { asm!("lgdt [{} + 6]", in(reg) &self.gdt_pointer, options(nostack, preserves_flags)) };
    }

    /// Loads the task register again, with the limit that its descriptor says.
    pub fn reload_task_register(&'static self) {
        /// Marks the task as busy in the type of its descriptor (SDM vol. 3, 8.2.2); the processor wants it clear.
        const BUSY: u64 = 1 << 41;
        self.gdt[5].set(self.gdt[5].get() & !BUSY);
        // SAFETY: the descriptor is that of this CPU's task state segment.
        unsafe { asm!("ltr {:x}", in(reg) TSS, options(nostack, preserves_flags)) };
    }

    /// Word of the I/O bitmap.
    pub fn set_ports(&self, index: usize, value: u64) {
        self.bitmap[index].set(value);
    }
}

/// Loads the segments of the table just loaded.
fn load_segments() {
    // SAFETY: the table holds the segments that are loaded here; CS is reloaded by the far return.
    unsafe {
        asm!(
            "push {cs}",
            "lea {tmp}, [rip + 2f]",
            "push {tmp}",
            "retfq",
            "2:",
            "mov ss, {ss:e}",
            "mov ds, {zero:e}",
            "mov es, {zero:e}",
            "mov fs, {zero:e}",
            "ltr {tss:x}",
            cs = const KERNEL_CS as u64,
            tmp = out(reg) _,
            ss = in(reg) u32::from(KERNEL_CS + 8),
            zero = in(reg) 0,
            tss = in(reg) TSS,
        );
    }
}

/// Interrupt descriptor table, the same for all CPUs.
struct Idt(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written in `build_idt` only, before other CPUs run.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new([[0; 2]; 256]));

/// Fills the interrupt descriptor table. Called once, by the boot CPU, before the first [`Tables::load`].
pub fn build_idt() {
    for vector in 0..256 {
        let target = entry::interrupt_address(vector);
        let ist = match vector as u64 {
            entry::vector::DOUBLE_FAULT | entry::vector::MACHINE_CHECK => FAULT_IST,
            entry::vector::NMI => NMI_IST,
            _ => 0,
        };
        let low =
            target & 0xffff | u64::from(KERNEL_CS) << 16 | ist << 32 | INTERRUPT_GATE | (target >> 16 & 0xffff) << 48;
        // SAFETY: only the boot CPU runs, and the table is not loaded yet.
        unsafe { (*IDT.0.get())[vector] = [low, target >> 32] };
    }
}

/// Address of the interrupt descriptor table.
pub fn idt_base() -> u64 {
    IDT.0.get() as u64
}

fn load_idt() {
    // As `gdt_pointer`.
    let pointer = [(size_of_val(&IDT) as u64 - 1) << 48, idt_base()];
    // SAFETY: the table is filled and lives for good.
    unsafe { asm!("lidt [{} + 6]", in(reg) &pointer, options(nostack, preserves_flags)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_io_map_base_is_where_the_processor_looks_for_it() {
        // Bytes 0x66 and 0x67 of the TSS (SDM vol. 3, figure 7-11), which begins TSS_SHIFT bytes into the array.
        let byte = 0x66 + TSS_SHIFT as usize;
        assert_eq!((byte / 8, byte % 8 * 8), (IOMAP, IOMAP_SHIFT as usize));
        let (rsp0, ist1) = (4 + TSS_SHIFT as usize, 0x24 + TSS_SHIFT as usize);
        assert_eq!((rsp0 / 8, rsp0 % 8, ist1 / 8, ist1 % 8), (RSP0, 0, IST1, 0));
    }
}
