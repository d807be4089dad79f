//! IN and OUT: the exit says everything but the value.

use abi::state::{Mtd, gpr};
use device_models::bus::port::{PortAccess, PortSize};
use vm_memory::GuestMemoryBackend;

use super::{Inside, Kernel, NextRip, Step, Vcpu};

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// OUT.
    #[inline]
    pub(super) fn port_out(&self, access: PortAccess, next: NextRip, inside: &mut Inside<'_>) -> Step {
        let (value, rflags) = self.vm.kernel.with_state(|arch| {
            arch.rip = next.0;
            (arch.gpr[gpr::RAX], arch.rflags)
        });
        inside.machine.board.port_write(inside.now, access, value as u32);
        self.completed(Mtd::RIP, rflags)
    }

    /// IN.
    #[inline]
    pub(super) fn port_in(&self, access: PortAccess, next: NextRip, inside: &mut Inside<'_>) -> Step {
        let value = inside.machine.board.port_read(inside.now, access);
        let rflags = self.vm.kernel.with_state(|arch| {
            arch.rip = next.0;
            let rax = &mut arch.gpr[gpr::RAX];
            *rax = match access.size {
                // 32-bit results clear the upper half (APM1 3.1.2).
                PortSize::Dword => value.into(),
                size => *rax & !u64::from(size.mask()) | u64::from(value),
            };
            arch.rflags
        });
        self.completed(Mtd::RIP | Mtd::ACDB, rflags)
    }
}
