//! CPUID.

use abi::state::{Mtd, gpr};
use vm_memory::GuestMemoryBackend;

use super::{Call, Kernel, Step, Vcpu, length};
use crate::cpuid::CpuidInput;
use crate::state::Cr4;

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// CPUID: what it reflects of the guest's state is delivered only where there is something to reflect.
    #[inline(always)]
    pub(super) fn cpuid(&self, call: &Call) -> Step {
        let rflags = self.vm.kernel.with_state(|arch| {
            let input = if call.delivered.contains(Mtd::CR | Mtd::XCR0) {
                CpuidInput { cr4: Cr4::from_bits_retain(arch.cr4), xcr0: arch.xcr0 }
            } else {
                CpuidInput { cr4: Cr4::empty(), xcr0: 0 }
            };
            let (leaf, subleaf) = (arch.gpr[gpr::RAX] as u32, arch.gpr[gpr::RCX] as u32);
            let result = self.cpuid.lookup(leaf, subleaf, &input);
            arch.gpr[gpr::RAX] = result.eax.into();
            arch.gpr[gpr::RBX] = result.ebx.into();
            arch.gpr[gpr::RCX] = result.ecx.into();
            arch.gpr[gpr::RDX] = result.edx.into();
            length::advance(arch, call, length::CPUID);
            arch.rflags
        });
        self.completed(Mtd::ACDB | Mtd::RIP, rflags)
    }
}
