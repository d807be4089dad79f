//! CPUID.

use abi::state::{Mtd, gpr};
use vm_memory::GuestMemoryBackend;

use super::{Call, Kernel, Step, Vcpu, length};
use crate::state::Xcr0;

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// CPUID.
    #[inline(always)]
    pub(super) fn cpuid(&self, call: &Call) -> Step {
        let rflags = self.vm.kernel.with_state(|arch| {
            let (leaf, subleaf) = (arch.gpr[gpr::RAX] as u32, arch.gpr[gpr::RCX] as u32);
            let result = self.cpuid.lookup(leaf, subleaf, Xcr0::from_bits_retain(arch.xcr0));
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
