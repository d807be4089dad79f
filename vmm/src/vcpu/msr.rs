//! RDMSR and WRMSR.

use abi::state::{ArchState, Mtd, gpr, seg};
use vm_memory::GuestMemoryBackend;

use super::{Call, Inside, Kernel, Step, Trouble, Vcpu, length, transfer};
use crate::msr::{Forwarded, Msr, MsrOutcome};
use crate::paging::is_canonical;
use crate::state::{Cr0, Efer};

/// Where the state holds a register, and what selects it.
fn state_register(arch: &mut ArchState, msr: Msr) -> Option<(&mut u64, Mtd)> {
    Some(match msr {
        Msr::STAR => (&mut arch.star, Mtd::SYSCALL),
        Msr::LSTAR => (&mut arch.lstar, Mtd::SYSCALL),
        Msr::CSTAR => (&mut arch.cstar, Mtd::SYSCALL),
        Msr::SFMASK => (&mut arch.sfmask, Mtd::SYSCALL),
        Msr::KERNEL_GS_BASE => (&mut arch.kernel_gs_base, Mtd::SYSCALL),
        Msr::FS_BASE => (&mut arch.seg[seg::FS].base, Mtd::FS_GS),
        Msr::GS_BASE => (&mut arch.seg[seg::GS].base, Mtd::FS_GS),
        Msr::SYSENTER_CS => (&mut arch.sysenter_cs, Mtd::SYSENTER),
        Msr::SYSENTER_ESP => (&mut arch.sysenter_esp, Mtd::SYSENTER),
        Msr::SYSENTER_EIP => (&mut arch.sysenter_eip, Mtd::SYSENTER),
        _ => return None,
    })
}

/// Registers that hold addresses take canonical ones only.
fn holds_address(msr: Msr) -> bool {
    matches!(msr, Msr::LSTAR | Msr::CSTAR | Msr::FS_BASE | Msr::GS_BASE | Msr::KERNEL_GS_BASE)
}

/// Linear addresses that registers take: guests are not offered larger ones.
const LINEAR_ADDRESS_BITS: u32 = 48;

/// All registers of the state.
const STATE: Mtd = Mtd::SYSCALL.union(Mtd::SYSENTER).union(Mtd::FS_GS);

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// RDMSR.
    #[inline]
    pub(super) fn msr_read(&mut self, call: &Call, inside: &mut Inside<'_>) -> Result<Step, Trouble> {
        let (number, rflags) = self.vm.kernel.with_state(|arch| (arch.gpr[gpr::RCX] as u32, arch.rflags));
        let Some(value) = self.read_register(Msr(number), call, inside)? else {
            return self.general_protection(call);
        };
        self.vm.kernel.with_state(|arch| {
            arch.gpr[gpr::RAX] = u64::from(value as u32);
            arch.gpr[gpr::RDX] = value >> u32::BITS;
            length::advance(arch, call, length::MSR);
        });
        Ok(self.completed(Mtd::ACDB | Mtd::RIP, rflags))
    }

    /// WRMSR.
    #[inline]
    pub(super) fn msr_write(&mut self, call: &Call, inside: &mut Inside<'_>) -> Result<Step, Trouble> {
        let (number, value, rflags) =
            self.vm.kernel.with_state(|arch| (arch.gpr[gpr::RCX] as u32, transfer::edx_eax(arch), arch.rflags));
        let Some(changed) = self.write_register(Msr(number), value, call, inside)? else {
            return self.general_protection(call);
        };
        self.vm.kernel.with_state(|arch| length::advance(arch, call, length::MSR));
        Ok(self.completed(changed | Mtd::RIP, rflags))
    }

    /// `None` if the guest gets #GP.
    fn read_register(&mut self, msr: Msr, call: &Call, inside: &mut Inside<'_>) -> Result<Option<u64>, Trouble> {
        let owner = match self.msrs.read(msr) {
            MsrOutcome::Value(value) => return Ok(Some(value)),
            MsrOutcome::Fault => return Ok(None),
            MsrOutcome::Forward(owner) => owner,
        };
        let now = inside.now;
        Ok(match owner {
            Forwarded::LocalApic => {
                let value = inside.machine.board.lapic_read(now, self.index, msr.0).ok();
                value.map(|value| self.guest_time(msr, value))
            }
            Forwarded::Tsc => Some(now.0.wrapping_add(self.tsc_adjust)),
            Forwarded::Efer => {
                call.require(Mtd::EFER)?;
                Some(self.vm.kernel.with_state(|arch| arch.efer))
            }
            Forwarded::VcpuState => {
                call.require(STATE)?;
                self.vm.kernel.with_state(|arch| state_register(arch, msr).map(|(value, _)| *value))
            }
        })
    }

    /// The state that changed; `None` if the guest gets #GP.
    fn write_register(
        &mut self,
        msr: Msr,
        value: u64,
        call: &Call,
        inside: &mut Inside<'_>,
    ) -> Result<Option<Mtd>, Trouble> {
        let owner = match self.msrs.write(msr, value) {
            // Nested paging combines the guest's page attributes with the host's (APM2 15.25.8).
            MsrOutcome::Value(value) if msr == Msr::PAT => {
                self.vm.kernel.with_state(|arch| arch.pat = value);
                return Ok(Some(Mtd::PAT));
            }
            MsrOutcome::Value(_) => return Ok(Some(Mtd::empty())),
            MsrOutcome::Fault => return Ok(None),
            MsrOutcome::Forward(owner) => owner,
        };
        Ok(match owner {
            Forwarded::LocalApic => {
                let value = self.machine_time(msr, value);
                let board = &mut inside.machine.board;
                let written = board.lapic_write(inside.now, self.index, msr.0, value);
                written.ok().map(|()| Mtd::empty())
            }
            Forwarded::Tsc => {
                self.tsc_adjust = value.wrapping_sub(inside.now.0);
                let offset = self.tsc_offset(inside);
                self.vm.kernel.with_state(|arch| arch.tsc_offset = offset);
                Some(Mtd::TSC)
            }
            Forwarded::Efer => self.write_efer(value, call)?,
            Forwarded::VcpuState => {
                call.require(STATE)?;
                if holds_address(msr) && !is_canonical(value, LINEAR_ADDRESS_BITS) {
                    return Ok(None);
                }
                self.vm.kernel.with_state(|arch| {
                    let (register, selection) = state_register(arch, msr)?;
                    *register = value;
                    Some(selection)
                })
            }
        })
    }

    /// The deadline of the timer is a value of the guest's TSC (0: none), but the model knows the machine's time.
    #[inline]
    fn machine_time(&self, msr: Msr, value: u64) -> u64 {
        if self.tsc_adjust == 0 || msr != Msr::TSC_DEADLINE || value == 0 {
            return value;
        }
        // The adjustment may be negative, and the deadline before the machine was switched on.
        let adjust = i128::from(self.tsc_adjust as i64);
        (i128::from(value) - adjust).clamp(1, i128::from(u64::MAX)) as u64
    }

    /// The reverse of [`Self::machine_time`].
    fn guest_time(&self, msr: Msr, value: u64) -> u64 {
        if msr == Msr::TSC_DEADLINE && value != 0 { value.wrapping_add(self.tsc_adjust) } else { value }
    }

    /// EFER (APM2 3.1.7): LMA follows LME and paging, and LME cannot change under paging. The CPU need not have a bit that the guest
    /// was not offered, and would refuse to enter with it.
    fn write_efer(&self, value: u64, call: &Call) -> Result<Option<Mtd>, Trouble> {
        let (lme, lma) = (Efer::LME.bits(), Efer::LMA.bits());
        call.require(Mtd::EFER | Mtd::CR)?;
        let offered = self.cpuid.efer() | lma;
        Ok(self.vm.kernel.with_state(|arch| {
            if value & !offered != 0 {
                return None;
            }
            let is_paging = arch.cr0 & Cr0::PG.bits() != 0;
            if is_paging && (value ^ arch.efer) & lme != 0 {
                return None;
            }
            arch.efer = value & !lma | arch.efer & lma;
            Some(Mtd::EFER)
        }))
    }
}
